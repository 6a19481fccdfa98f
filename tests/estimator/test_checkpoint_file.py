"""Checkpoints on disk: fits that are killed at any moment, and resumed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping
from small_fits import X, Y, same, tiny

from pnl_sklearn.estimator import _classifier, _state

SETTINGS = {"max_epochs": 4, "graph": "auto"}
# Moments at which a fit is killed, and the epochs that are then on disk.
MOMENTS = {
    "neighbors": None,
    "step 2": None,
    "first half of write 1": None,
    "write 1, before it replaces the file": None,
    "step 4": 1,
    "first half of write 2": 1,
    "end of epoch 3": 2,
    "step 11": 3,
    "write 4, before it replaces the file": 3,
    "labels": 4,
    "first half of write 5": 4,
}


class Shift:
    """View whose repr says nothing."""

    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return x + self.by


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Killer(Callback):
    """Kills the process at a step, or at the end of an epoch."""

    def __init__(self, moment):
        self.moment = moment
        self.n_steps = 0

    def on_batch_end(self, net, **kwargs):
        self.n_steps += 1
        if self.moment == f"step {self.n_steps}":
            kill()

    def on_epoch_end(self, net, **kwargs):
        if self.moment == f"end of epoch {len(net.history)}":
            kill()


def fit_and_kill(path, moment):
    """Fit in this process, which is killed at a moment."""
    n_writes, replace, opened = 0, os.replace, open

    def replace_or_kill(*args):
        if moment == f"write {n_writes}, before it replaces the file":
            kill()
        replace(*args)

    def open_or_kill(*args):
        nonlocal n_writes
        file = opened(*args)
        n_writes += 1
        if moment == f"first half of write {n_writes}":
            write = file.write

            def write_half(content):
                write(content[: len(content) // 2])
                file.flush()
                kill()

            return type(
                "File",
                (),
                {
                    "write": staticmethod(write_half),
                    "__enter__": lambda self: self,
                    "__exit__": lambda *_: None,
                },
            )()
        return file

    _state.open, _state.os.replace = open_or_kill, replace_or_kill
    model = tiny(**SETTINGS, checkpoint=path, callbacks=[Killer(moment)])
    if moment == "neighbors":
        _classifier.gather_evidence = lambda *_: kill()
    if moment == "labels":
        type(model)._transduce = lambda *_: kill()
    model.fit(X, Y)


@pytest.fixture(scope="module")
def whole():
    """Fit that was not interrupted."""
    return tiny(**SETTINGS).fit(X, Y)


def rows(estimator):
    return [
        repr({name: value for name, value in row.items() if name != "seconds"})
        for row in estimator.history_
    ]


def check_resumes(path, whole):
    resumed = tiny(**SETTINGS, checkpoint=path, warm_start="resume").fit(X, Y)
    assert rows(resumed) == rows(whole)
    same(resumed.predict_proba(X), whole.predict_proba(X))
    same(resumed.transduction_, whole.transduction_)
    assert str(resumed.evidence_) == str(whole.evidence_)


FEW = ("first half of write 2", "step 11", "labels")
ALL = pytest.mark.skipif(
    "KILL_ALWAYS" not in os.environ, reason="takes a minute; set KILL_ALWAYS=1"
)


@pytest.mark.parametrize(
    "moment",
    [m if m in FEW else pytest.param(m, marks=ALL) for m in MOMENTS],
)
def test_killed_fit_is_resumed_with_the_same_bits(moment, tmp_path, whole):
    path = tmp_path / "fit.ckpt"
    command = [sys.executable, __file__, str(path), moment]
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    killed = subprocess.run(command, env=environment, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    n_epochs = MOMENTS[moment]
    assert path.exists() == (n_epochs is not None)
    if n_epochs is not None:
        on_disk = _state.read_checkpoint(tiny(**SETTINGS), str(path))
        assert len(on_disk["history_"]) == n_epochs
    check_resumes(path, whole)
    assert os.listdir(tmp_path) == ["fit.ckpt"]


def test_finished_fit_is_read_from_its_file(tmp_path, whole):
    path = str(tmp_path / "fit.ckpt")
    tiny(**SETTINGS, checkpoint=path).fit(X, Y)
    time = os.stat(path).st_mtime_ns
    check_resumes(path, whole)
    assert os.stat(path).st_mtime_ns == time


class EndAtTwo(Callback):
    """Ends a fit after two epochs."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("others", [[], [EndAtTwo()]])
def test_fit_that_early_stopping_ended_is_finished(others, tmp_path):
    """Also if another callback would have ended it at the same time."""
    path = tmp_path / "fit.ckpt"
    stop = EarlyStopping("train_loss", patience=1, threshold=1e9)
    params = {"checkpoint": path, "warm_start": "resume", "max_epochs": 5}
    first = tiny(callbacks=[stop, *others], **params).fit(X, Y)
    again = tiny(callbacks=[stop, *others], **params).fit(X, Y)
    assert (first.n_iter_, again.n_iter_) == (2, 2)
    same(again.predict_proba(X), first.predict_proba(X))


def test_fit_that_another_callback_ended_goes_on(tmp_path):
    params = {"checkpoint": tmp_path / "fit.ckpt", "warm_start": "resume"}
    tiny(callbacks=[EndAtTwo()], max_epochs=3, **params).fit(X, Y)
    assert tiny(max_epochs=3, **params).fit(X, Y).n_iter_ == 3


def test_more_epochs_follow_a_finished_fit(tmp_path):
    path = tmp_path / "fit.ckpt"
    tiny(checkpoint=path).fit(X, Y)
    resumed = tiny(checkpoint=path, warm_start="resume", max_epochs=3).fit(X, Y)
    assert resumed.n_iter_ == 3


def test_interrupted_fit_is_resumed_from_its_file(tmp_path, whole):
    """From the beginning of the epoch, though the estimator has later weights."""

    class Interrupt(Callback):
        n_steps = 0

        def on_batch_end(self, net, **kwargs):
            self.n_steps += 1
            if self.n_steps == 5:
                raise KeyboardInterrupt

    path = tmp_path / "fit.ckpt"
    with pytest.warns(UserWarning, match="interrupted in epoch 2"):
        tiny(**SETTINGS, checkpoint=path, callbacks=[Interrupt()]).fit(X, Y)
    check_resumes(path, whole)


def test_new_fit_replaces_the_file(tmp_path):
    path = tmp_path / "fit.ckpt"
    path.write_text("anything")
    tiny(checkpoint=path).fit(X, Y)
    assert tiny(checkpoint=path, warm_start="resume").fit(X, Y).n_iter_ == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-100], "is damaged"),
        (lambda content: content[:40] + b"x" + content[41:], "is damaged"),
        (lambda content: content[:10], "has not written"),
        (lambda content: b"", "has not written"),
        (lambda content: b"PK" + content, "has not written"),
    ],
)
def test_damaged_and_foreign_files_are_refused(damage, message, tmp_path):
    path = tmp_path / "fit.ckpt"
    tiny(checkpoint=path).fit(X, Y)
    path.write_bytes(damage(path.read_bytes()))
    resumed = tiny(checkpoint=path, warm_start="resume")
    with pytest.raises(ValueError, match=message):
        resumed.fit(X, Y)
    assert not resumed.__sklearn_is_fitted__()


def test_checkpoint_of_other_parameters_is_refused(tmp_path):
    path = tmp_path / "fit.ckpt"
    tiny(checkpoint=path, lr=0.01).fit(X, Y)
    with pytest.raises(ValueError, match=r"with lr=0\.01, but the estimator has lr=0"):
        tiny(checkpoint=path, lr=0.02, warm_start="resume").fit(X, Y)


def test_checkpoint_of_other_data_is_refused(tmp_path):
    path = tmp_path / "fit.ckpt"
    tiny(checkpoint=path).fit(X, Y)
    with pytest.raises(ValueError, match="other samples, labels or weights"):
        tiny(checkpoint=path, warm_start="resume").fit(X[::-1], Y)
    # The folds of a grid search would share the file.
    search = GridSearchCV(
        tiny(checkpoint=path, warm_start="resume"),
        {"max_epochs": [2]},
        cv=[(np.arange(60), np.arange(5)), (np.arange(50), np.arange(5))],
        error_score="raise",
    )
    with pytest.raises(ValueError, match="a file of its own"):
        search.fit(X, Y)


def test_refused_checkpoint_leaves_no_trace(tmp_path):
    """Neither if its data nor if other arguments are refused."""
    path = tmp_path / "fit.ckpt"
    tiny(checkpoint=path).fit(X, Y)
    other = tiny(checkpoint=path, warm_start="resume")
    for inputs, message in [(X[::-1], "other samples"), (X * np.nan, "NaN")]:
        with pytest.raises(ValueError, match=message):
            other.fit(inputs, Y)
        assert not other.__sklearn_is_fitted__()
    path.unlink()
    expected = tiny().fit(X[::-1], Y).predict_proba(X)
    same(other.fit(X[::-1], Y).predict_proba(X), expected)


@pytest.mark.parametrize(
    ("params", "fit_params"),
    [
        ({"random_state": 1}, {}),
        ({"strong_view": Shift(2.0)}, {}),
        ({}, {"sample_weight": np.arange(60)}),
        ({}, {"unlabeled_weight": np.arange(60)}),
        ({}, {"negative_labels": np.arange(180).reshape(60, 3) == 179}),
        ({}, {"X_val": X[:5], "y_val": Y[:5]}),
    ],
)
def test_checkpoint_of_another_fit_is_refused(params, fit_params, tmp_path):
    path = tmp_path / "fit.ckpt"
    given = {"strong_view": Shift(1.0), "checkpoint": path}
    tiny(**given).fit(X, Y)
    with pytest.raises(ValueError, match="to start a new fit"):
        tiny(**given | params, warm_start="resume").fit(X, Y, **fit_params)


def test_checkpoint_of_equal_parameters_is_read(tmp_path):
    path = tmp_path / "fit.ckpt"
    weights = {0: 1, 1: 2, 2: 3}
    tiny(checkpoint=path, lr=0.01, class_weight=weights).fit(X, Y)
    backwards = dict(reversed(weights.items()))
    params = {"lr": np.float64(0.01), "class_weight": backwards, "net_params": {}}
    with config_context(print_changed_only=False):
        again = tiny(checkpoint=path, warm_start="resume", **params).fit(X, Y)
    assert again.n_iter_ == 2


def test_path_of_the_checkpoint_is_checked_before_the_fit(tmp_path):
    for path in (tmp_path / "no" / "fit.ckpt", tmp_path):
        with pytest.raises(ValueError, match="cannot be written"):
            tiny(checkpoint=path).fit(X, Y)


def test_checkpoint_stays_in_the_folder_where_the_fit_began(tmp_path, monkeypatch):
    class Change(Callback):
        def on_epoch_end(self, net, **kwargs):
            monkeypatch.chdir(tmp_path.parent)

    monkeypatch.chdir(tmp_path)
    tiny(checkpoint="fit.ckpt", callbacks=[Change()]).fit(X, Y)
    assert os.listdir(tmp_path) == ["fit.ckpt"]


if __name__ == "__main__":
    fit_and_kill(*sys.argv[1:])
