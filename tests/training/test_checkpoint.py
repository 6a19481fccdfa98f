"""An interrupted fit that is taken up by ``warm_start="resume"``."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import TensorDataset

from pnl_sklearn import PNLClassifier
from pnl_sklearn.data._sampler import BatchSampler

TRUTH = np.arange(60) % 3
Y = np.where(np.arange(60) < 18, TRUTH, -1)
X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
X += 3 * np.eye(5, dtype=np.float32)[TRUTH]
IMAGES = np.random.default_rng(1).normal(size=(60, 8, 8)).astype(np.float32)


class Stop(Callback):
    """Ends a fit at the end of an epoch, or after a step; notes learning rates."""

    def __init__(self, epoch=None, step=None):
        self.epoch = epoch
        self.step = step

    def on_batch_end(self, net, training=None, **kwargs):
        net.history.record_batch("lr", net.optimizer_.param_groups[0]["lr"])
        if net.n_steps_ == self.step:
            raise KeyboardInterrupt

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


def tiny(epoch=None, step=None, **params):
    defaults = {
        "max_epochs": 5,
        "steps_per_epoch": 3,
        "batch_size": 16,
        "labeled_batch_size": 8,
        "rampup": 0.8,
        "random_state": 0,
        "callbacks": [Stop(epoch, step)],
    }
    return PNLClassifier(**defaults | params)


def rows(estimator):
    """Return the history without its times, comparable where it holds NaN."""
    return [
        repr({name: value for name, value in row.items() if name != "seconds"})
        for row in estimator.history_
    ]


same = np.testing.assert_array_equal


@pytest.mark.parametrize("inputs", [X, IMAGES, TensorDataset(torch.tensor(X))])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"exchange": "alternating", "steps_per_epoch": 1},
        {"selection": "random", "consistency": "mean_teacher"},
        {"validation_fraction": 0.3, "ema_decay": None, "consistency": "dual_student"},
    ],
)
def test_it_has_the_bits_of_one_that_was_not_interrupted(inputs, params):
    whole = tiny(**params).fit(inputs, Y)
    first = tiny(epoch=2, **params).fit(inputs, Y)
    assert first.n_iter_ == 2
    state = torch.get_rng_state()
    resumed = pickle.loads(pickle.dumps(first)).set_params(warm_start="resume")
    resumed.fit(inputs, Y)
    assert torch.equal(torch.get_rng_state(), state)
    assert resumed.n_iter_ == len(resumed.history_) == whole.n_iter_ > 2
    assert rows(resumed) == rows(whole)
    same(resumed.predict_proba(inputs), whole.predict_proba(inputs))
    for net, other in zip(resumed.submodels_, whole.submodels_, strict=True):
        assert net.n_steps_ == other.n_steps_
        for column in ("epoch", "train_loss"):
            assert net.history[:, column] == other.history[:, column]


def test_in_a_new_process(tmp_path):
    joblib.dump(tiny(epoch=3).fit(X, Y), tmp_path / "first.joblib")
    script = (
        "import sys, joblib, test_checkpoint as t\n"
        "first, second = sys.argv[1:]\n"
        "estimator = joblib.load(first).set_params(warm_start='resume')\n"
        "joblib.dump(estimator.fit(t.X, t.Y), second)"
    )
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}"}
    paths = [str(tmp_path / f"{name}.joblib") for name in ("first", "second")]
    subprocess.run([sys.executable, "-c", script, *paths], check=True, env=environment)
    resumed, whole = joblib.load(paths[1]), tiny().fit(X, Y)
    assert rows(resumed) == rows(whole)
    same(resumed.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize("step", [2, 8])
def test_an_epoch_that_was_not_finished_is_done_again(step):
    """The weights stay those of the interrupt; the schedules are at its first step."""
    params = {"steps_per_epoch": 6, "module": nn.Linear, "lr": 0.03}
    whole = tiny(**params).fit(X, Y)
    with pytest.warns(
        UserWarning, match=f"interrupted in epoch {1 + step // 6}"
    ) as told:
        resumed = tiny(step=step, **params).fit(X, Y)
    assert told[0].filename == __file__
    n_before = resumed.n_iter_
    assert n_before == step // 6
    for net in resumed.submodels_:
        net.set_params(callbacks__Stop__step=None)
    resumed.set_params(warm_start="resume").fit(X, Y)
    assert [row["epoch"] for row in resumed.history_] == [1, 2, 3, 4, 5]
    weights, expected = (
        [row["negative_weight"] for row in fit.history_] for fit in (resumed, whole)
    )
    assert weights == expected
    for net, other in zip(resumed.submodels_, whole.submodels_, strict=True):
        rates, expected = (n.history[:, "batches", :, "lr"] for n in (net, other))
        assert rates[n_before:] == expected[n_before:]
    # The first submodel ended the fit, before the step of the second.
    assert [net.n_steps_ for net in resumed.submodels_] == [32, 31]
    assert resumed.score(X, TRUTH) > 0.9


def test_without_a_fit_it_fits():
    resumed = tiny(warm_start="resume").fit(X, Y)
    same(resumed.predict_proba(X), tiny().fit(X, Y).predict_proba(X))


def test_a_fit_that_has_its_epochs_is_left_as_it_is():
    estimator = tiny(warm_start="resume").fit(X, Y)
    history, before = rows(estimator), estimator.predict_proba(X)
    assert estimator.fit(X, Y) is estimator
    assert rows(estimator) == history
    same(estimator.predict_proba(X), before)
    estimator.set_params(max_epochs=7).fit(X, Y)
    assert estimator.n_iter_ == 7
    assert rows(estimator)[:5] == history


def test_the_seed_is_that_of_the_first_fit():
    first = pickle.dumps(
        tiny(epoch=2, random_state=None, warm_start="resume").fit(X, Y)
    )
    one, two = (pickle.loads(first).fit(X, Y) for _ in range(2))
    assert rows(one) == rows(two)
    same(one.predict_proba(X), two.predict_proba(X))


def test_after_a_warm_start():
    """The second fit is taken up, of which the first one's epochs are no part."""
    whole, resumed = (
        tiny(epoch, warm_start=True).fit(X, Y).fit(X, Y) for epoch in (None, 7)
    )
    assert resumed.n_iter_ == 7
    resumed.set_params(warm_start="resume").fit(X, Y)
    assert resumed.n_iter_ == 10
    assert rows(resumed) == rows(whole)
    same(resumed.predict_proba(X), whole.predict_proba(X))
    before = rows(resumed)
    assert rows(resumed.fit(X, Y)) == before


@pytest.mark.parametrize("warm_start", [True, "resume"])
def test_other_callbacks_are_called(warm_start):
    first = tiny(epoch=2).fit(X, Y)
    first.set_params(warm_start=warm_start, callbacks=[Stop(epoch=4)])
    going_on = pickle.loads(pickle.dumps(first)).fit(X, Y)
    assert going_on.n_iter_ == 4
    going_on.set_params(warm_start="resume", callbacks=None).fit(X, Y)
    assert going_on.n_iter_ == (7 if warm_start is True else 5)


def test_a_scheduler_among_other_callbacks_replaces_the_cosine():
    """It counts the epochs of the history."""
    estimator = tiny(callbacks=None, warm_start=True).fit(X, Y)
    scheduler = LRScheduler("LambdaLR", lr_lambda=lambda epoch: 0.5**epoch)
    estimator.set_params(callbacks=[scheduler, Stop()], lr=0.1).fit(X, Y)
    rates = estimator.submodels_[0].history[5:, "batches", -1, "lr"]
    np.testing.assert_allclose(rates, 0.1 * 0.5 ** np.arange(5, 10))


def test_the_same_callbacks_stay():
    """They may have noted something; also after they were loaded."""
    noted = tiny(epoch=2, warm_start="resume").fit(X, Y)
    loaded = pickle.loads(pickle.dumps(noted))
    for estimator in (noted, loaded):
        before = [net.callbacks_[-1][1] for net in estimator.submodels_]
        estimator.set_params(callbacks=list(estimator.callbacks)).fit(X, Y)
        after = [net.callbacks_[-1][1] for net in estimator.submodels_]
        assert all(isinstance(callback, Stop) for callback in before)
        assert list(map(id, before)) == list(map(id, after))


def test_a_refused_fit_leaves_what_can_be_taken_up():
    stopped = tiny(epoch=2, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="NaN"):
        stopped.fit(X * np.nan, Y)
    with pytest.raises(ValueError, match="class_prior"):
        stopped.set_params(class_prior=[1, 2]).fit(X, Y)
    given = stopped.callbacks
    with pytest.raises(ValueError, match="class_prior"):
        stopped.set_params(callbacks=[Stop(epoch=1)]).fit(X, Y)
    stopped.set_params(class_prior="auto", warm_start="resume", callbacks=given)
    stopped.fit(X, Y)
    assert [net.callbacks_[-1][1].epoch for net in stopped.submodels_] == [2, 2]
    whole = tiny().fit(X, Y)
    assert rows(stopped) == rows(whole)
    same(stopped.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize("epoch", [2, 5])
@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (X, np.where(np.arange(60) == 20, TRUTH, Y)),
        (X[::-1], Y),
        (X + 1, Y),
        (X[:50], Y[:50]),
    ],
)
def test_other_rows_and_labels_are_told(epoch, inputs, labels):
    """Also where the fit has had its epochs, and nothing is done."""
    resumed = tiny(epoch=epoch).fit(X, Y).set_params(warm_start="resume")
    with pytest.warns(UserWarning, match="began with other rows or labels") as told:
        resumed.fit(inputs, labels)
    assert told[0].filename == __file__
    assert resumed.n_iter_ == 5


@pytest.mark.parametrize(
    "same_rows", [X.astype(float), csr_matrix(X), torch.tensor(X), X.tolist()]
)
def test_the_same_rows_in_another_form_are_the_same(same_rows):
    resumed = tiny(epoch=2).fit(X, Y).set_params(warm_start="resume")
    assert resumed.fit(same_rows, Y).n_iter_ == 5


def test_the_weights_of_the_last_epoch_go_on_not_those_that_were_loaded():
    """EarlyStopping's best epoch predicts until then."""

    def stop():
        return EarlyStopping("epoch", patience=9, load_best=True)

    whole = tiny(callbacks=[Stop()]).fit(X, Y)
    resumed = tiny(callbacks=[Stop(epoch=3), stop()]).fit(X, Y)
    best = tiny(epoch=1).fit(X, Y)
    same(resumed.predict_proba(X), best.predict_proba(X))
    resumed.set_params(warm_start="resume", callbacks=[Stop()]).fit(X, Y)
    assert rows(resumed) == rows(whole)
    same(resumed.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize("step", [5, 8])
def test_an_interrupt_within_an_epoch_and_a_best_one(step):
    """Also where the best epoch is the one before."""
    resumed = tiny(callbacks=[Stop(step=step), EarlyStopping("epoch", load_best=True)])
    with pytest.warns(UserWarning, match="interrupted in epoch"):
        resumed.fit(X, Y)
    same(resumed.predict_proba(X), tiny(epoch=1).fit(X, Y).predict_proba(X))


def test_an_interrupt_before_there_is_a_best_epoch():
    stopped = tiny(callbacks=[Stop(step=2), EarlyStopping("epoch", load_best=True)])
    with pytest.warns(UserWarning, match="interrupted in epoch 1"):
        stopped.fit(X, Y)
    assert [len(net.history) for net in stopped.submodels_] == [0, 0]
    assert np.isfinite(stopped.predict_proba(X)).all()


def test_changes_are_counted_from_the_last_epoch_not_from_the_best():
    watch = EarlyStopping("label_change", patience=9)
    best = EarlyStopping("epoch", patience=9, load_best=True)
    whole = tiny(callbacks=[Stop(), watch], lr=0.02).fit(X, Y)
    resumed = tiny(callbacks=[Stop(epoch=3), best, watch], lr=0.02).fit(X, Y)
    resumed.set_params(warm_start="resume", callbacks=[Stop(), watch]).fit(X, Y)
    assert rows(resumed) == rows(whole)


class Count(Callback):
    """Counts epochs, and says so nowhere else; `sink` has no repr of its own."""

    def __init__(self, sink=None):
        self.sink = sink
        self.n_epochs_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs_ += 1
        if self.n_epochs_ == 2:
            raise KeyboardInterrupt


class Sink:
    pass


def test_the_state_of_callbacks_outlives_a_pickle():
    stopped = tiny(callbacks=[Count(Sink())]).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(stopped)).set_params(warm_start="resume")
    for model in (stopped.set_params(warm_start="resume"), loaded):
        assert model.fit(X, Y).n_iter_ == 5
        counts = [dict(net.callbacks_)["Count"].n_epochs_ for net in model.submodels_]
        assert counts == [5, 5]


def test_a_scheduler_goes_on_after_an_interrupt_within_an_epoch():
    def model(**params):
        schedule = LRScheduler(LambdaLR, lr_lambda=lambda epoch: 1 / (1 + epoch))
        return tiny(callbacks=[schedule, Stop(**params)])

    whole, resumed = model().fit(X, Y), model(step=8)
    with pytest.warns(UserWarning, match="interrupted in epoch 3"):
        resumed.fit(X, Y)
    for net in resumed.submodels_:
        net.set_params(callbacks__Stop__step=None)
    resumed.set_params(warm_start="resume").fit(X, Y)
    for net, other in zip(resumed.submodels_, whole.submodels_, strict=True):
        rates, expected = (n.history[:, "batches", :, "lr"] for n in (net, other))
        assert rates == expected


def test_an_interrupt_before_the_first_step(monkeypatch):
    """It leaves nothing that only training needs, and the fit can be taken up."""
    resumed = tiny(epoch=2).fit(X, Y).set_params(warm_start="resume")

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BatchSampler, "skip", interrupt)
        with pytest.warns(UserWarning, match="interrupted in epoch 3"):
            resumed.fit(X, Y)
    assert resumed.n_iter_ == 2
    assert not any("_tensors" in vars(net) for net in resumed.submodels_)
    assert rows(resumed.fit(X, Y)) == rows(tiny().fit(X, Y))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_cuda():
    whole, first = (tiny(epoch, device="cuda").fit(X, Y) for epoch in (None, 2))
    before = torch.cuda.get_rng_state()
    resumed = pickle.loads(pickle.dumps(first)).set_params(warm_start="resume")
    probabilities = resumed.fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(probabilities, whole.predict_proba(X), atol=1e-3)
    assert torch.equal(torch.cuda.get_rng_state(), before)
