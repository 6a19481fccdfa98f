"""An interrupted fit that ``warm_start="resume"`` resumes."""

import os
import pickle
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from skorch.callbacks import Callback, EarlyStopping, Freezer, LRScheduler
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
    """Ends a fit at the end of an epoch, or after a step; records learning rates."""

    def __init__(self, epoch=None, step=None):
        self.epoch = epoch
        self.step = step

    def on_batch_end(self, net, training=None, **kwargs):
        net.history.record_batch("lr", net.optimizer_.param_groups[0]["lr"])
        if net.submodels[0].n_steps_ == self.step:
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
        "graph": None,
        "random_state": 0,
        "callbacks": [Stop(epoch, step)],
    }
    return PNLClassifier(**defaults | params)


def history_rows(estimator):
    """Return the history without its times, comparable where it holds NaN."""
    return [
        repr({name: value for name, value in row.items() if name != "seconds"})
        for row in estimator.history_
    ]


same = np.testing.assert_array_equal


@pytest.fixture(scope="module")
def whole():
    """Fit that was not interrupted."""
    return tiny().fit(X, Y)


@pytest.fixture(scope="module")
def pickled():
    """Pickle of a fit that a callback ended after two of five epochs."""
    return pickle.dumps(tiny(epoch=2).fit(X, Y))


@pytest.fixture(scope="module")
def first_epoch():
    """Fit that a callback ended after the first epoch."""
    return tiny(epoch=1).fit(X, Y)


@pytest.fixture
def interrupted(pickled):
    """Fit that a callback ended after two of five epochs, to be resumed."""
    return pickle.loads(pickled).set_params(warm_start="resume")


DATASET = TensorDataset(torch.tensor(X))
ALTERNATING = {"exchange": "alternating", "steps_per_epoch": 1}
MEAN_TEACHER = {"selection": "random", "consistency": "mean_teacher"}
HELD_OUT = {
    "validation_fraction": 0.3,
    "ema_decay": None,
    "consistency": "dual_student",
}
SMALL_CNN = {"net_params": {"module__width": 16}}


@pytest.mark.parametrize(
    ("inputs", "params"),
    [
        (X, {"graph": "auto"}),
        (X, ALTERNATING),
        (X, MEAN_TEACHER),
        (X, HELD_OUT),
        (IMAGES, SMALL_CNN),
        (IMAGES, SMALL_CNN | ALTERNATING),
        (IMAGES, SMALL_CNN | MEAN_TEACHER),
        (IMAGES, SMALL_CNN | HELD_OUT),
        (DATASET, {}),
        (DATASET, ALTERNATING),
        (DATASET, MEAN_TEACHER),
        (DATASET, HELD_OUT),
    ],
)
def test_resumed_fit_has_the_bits_of_one_that_was_not_interrupted(inputs, params):
    whole = tiny(**params).fit(inputs, Y)
    first = tiny(epoch=2, **params).fit(inputs, Y)
    assert first.n_iter_ == 2
    state = torch.get_rng_state()
    resumed = pickle.loads(pickle.dumps(first)).set_params(warm_start="resume")
    resumed.fit(inputs, Y)
    assert torch.equal(torch.get_rng_state(), state)
    assert resumed.n_iter_ == len(resumed.history_) == whole.n_iter_ > 2
    assert history_rows(resumed) == history_rows(whole)
    same(resumed.predict_proba(inputs), whole.predict_proba(inputs))
    for net, other in zip(resumed.submodels_, whole.submodels_, strict=True):
        assert net.n_steps_ == other.n_steps_
        for column in ("epoch", "train_loss"):
            assert net.history[:, column] == other.history[:, column]


def test_fit_is_resumed_in_a_new_process(tmp_path, whole, interrupted):
    joblib.dump(interrupted, tmp_path / "first.joblib")
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
    resumed = joblib.load(paths[1])
    assert history_rows(resumed) == history_rows(whole)
    same(resumed.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize("step", [2, 8])
def test_unfinished_epoch_is_repeated(step):
    """From its beginning, so that nothing differs from a fit without interrupt."""
    params = {"steps_per_epoch": 6, "module": nn.Linear, "lr": 0.03}
    whole = tiny(**params).fit(X, Y)
    with pytest.warns(
        UserWarning, match=f"interrupted in epoch {1 + step // 6}"
    ) as caught:
        resumed = tiny(step=step, **params).fit(X, Y)
    assert caught[0].filename == __file__
    assert resumed.n_iter_ == step // 6
    resumed.callbacks[-1].step = None
    resumed.set_params(warm_start="resume").fit(X, Y)
    assert history_rows(resumed) == history_rows(whole)
    assert [net.n_steps_ for net in resumed.submodels_] == [30, 30]
    same(resumed.predict_proba(X), whole.predict_proba(X))


def test_resume_without_an_earlier_fit_fits(whole):
    resumed = tiny(warm_start="resume").fit(X, Y)
    same(resumed.predict_proba(X), whole.predict_proba(X))


def test_resume_of_a_finished_fit_changes_nothing(whole):
    estimator = deepcopy(whole).set_params(warm_start="resume")
    history, before = history_rows(estimator), estimator.predict_proba(X)
    assert estimator.fit(X, Y) is estimator
    assert history_rows(estimator) == history
    same(estimator.predict_proba(X), before)
    estimator.set_params(max_epochs=7).fit(X, Y)
    assert estimator.n_iter_ == 7
    assert history_rows(estimator)[:5] == history


def test_resumed_fit_has_the_seed_of_the_first_fit():
    first = pickle.dumps(
        tiny(epoch=2, random_state=None, warm_start="resume").fit(X, Y)
    )
    one, two = (pickle.loads(first).fit(X, Y) for _ in range(2))
    assert history_rows(one) == history_rows(two)
    same(one.predict_proba(X), two.predict_proba(X))


def test_resume_after_a_warm_start(whole):
    """The second fit is resumed, which the epochs of the first are no part of."""
    whole = deepcopy(whole).set_params(warm_start=True).fit(X, Y)
    resumed = tiny(epoch=7, warm_start=True).fit(X, Y).fit(X, Y)
    assert resumed.n_iter_ == 7
    resumed.set_params(warm_start="resume").fit(X, Y)
    assert resumed.n_iter_ == 10
    assert history_rows(resumed) == history_rows(whole)
    same(resumed.predict_proba(X), whole.predict_proba(X))
    before = history_rows(resumed)
    assert history_rows(resumed.fit(X, Y)) == before


@pytest.mark.parametrize("warm_start", [True, "resume"])
def test_new_callbacks_are_called(warm_start, interrupted):
    interrupted.set_params(warm_start=warm_start, callbacks=[Stop(epoch=4)])
    resumed = pickle.loads(pickle.dumps(interrupted)).fit(X, Y)
    assert resumed.n_iter_ == 4
    resumed.set_params(warm_start="resume", callbacks=None).fit(X, Y)
    assert resumed.n_iter_ == (7 if warm_start is True else 5)


def test_scheduler_among_new_callbacks_replaces_the_cosine_decay():
    """It counts the epochs of the history."""
    estimator = tiny(callbacks=None, warm_start=True).fit(X, Y)
    scheduler = LRScheduler("LambdaLR", lr_lambda=lambda epoch: 0.5**epoch)
    estimator.set_params(callbacks=[scheduler, Stop()], lr=0.1).fit(X, Y)
    rates = estimator.submodels_[0].history[5:, "batches", -1, "lr"]
    np.testing.assert_allclose(rates, 0.1 * 0.5 ** np.arange(5, 10))


def test_refused_fit_leaves_one_that_can_be_resumed(whole):
    stopped = tiny(epoch=2, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="NaN"):
        stopped.fit(X * np.nan, Y)
    with pytest.raises(ValueError, match="class_prior"):
        stopped.set_params(class_prior=[1, 2]).fit(X, Y)
    stopped.set_params(class_prior="auto", warm_start="resume").fit(X, Y)
    assert history_rows(stopped) == history_rows(whole)
    same(stopped.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (X, np.where(np.arange(60) == 20, TRUTH, Y)),
        (X[::-1], Y),
        (X + 1, Y),
        (X[:50], Y[:50]),
    ],
)
def test_resume_warns_of_other_samples_or_labels(inputs, labels, whole, interrupted):
    """Also where the fit is finished, and nothing is done."""
    finished = deepcopy(whole).set_params(warm_start="resume")
    for resumed in (interrupted, finished):
        with pytest.warns(
            UserWarning, match="began with other samples, labels or weights"
        ) as caught:
            resumed.fit(inputs, labels)
        assert caught[0].filename == __file__
        assert resumed.n_iter_ == 5


@pytest.mark.parametrize(
    "same_samples", [X.astype(float), csr_matrix(X), torch.tensor(X), X.tolist()]
)
def test_resume_takes_the_same_samples_in_another_form(same_samples, interrupted):
    assert interrupted.fit(same_samples, Y).n_iter_ == 5


def test_resume_starts_at_the_last_epoch_not_at_the_best(whole, first_epoch):
    """The best epoch of EarlyStopping predicts until then."""
    early_stopping = EarlyStopping("epoch", patience=9, load_best=True)
    resumed = tiny(callbacks=[Stop(epoch=3), early_stopping]).fit(X, Y)
    same(resumed.predict_proba(X), first_epoch.predict_proba(X))
    resumed.set_params(warm_start="resume", callbacks=[Stop()]).fit(X, Y)
    assert history_rows(resumed) == history_rows(whole)
    same(resumed.predict_proba(X), whole.predict_proba(X))


@pytest.mark.parametrize("step", [5, 8])
def test_interrupted_epoch_leaves_the_best_epoch(step, first_epoch):
    """Also where the best epoch is the one before."""
    resumed = tiny(callbacks=[Stop(step=step), EarlyStopping("epoch", load_best=True)])
    with pytest.warns(UserWarning, match="interrupted in epoch"):
        resumed.fit(X, Y)
    same(resumed.predict_proba(X), first_epoch.predict_proba(X))


def test_interrupt_before_there_is_a_best_epoch():
    stopped = tiny(callbacks=[Stop(step=2), EarlyStopping("epoch", load_best=True)])
    with pytest.warns(UserWarning, match="interrupted in epoch 1"):
        stopped.fit(X, Y)
    assert [len(net.history) for net in stopped.submodels_] == [0, 0]
    assert np.isfinite(stopped.predict_proba(X)).all()


def test_label_change_compares_with_the_last_epoch_not_with_the_best():
    watch = EarlyStopping("label_change", patience=9)
    best = EarlyStopping("epoch", patience=9, load_best=True)
    whole = tiny(callbacks=[Stop(), watch], lr=0.02).fit(X, Y)
    resumed = tiny(callbacks=[Stop(epoch=3), best, watch], lr=0.02).fit(X, Y)
    resumed.set_params(warm_start="resume", callbacks=[Stop(), watch]).fit(X, Y)
    assert history_rows(resumed) == history_rows(whole)


class Count(Callback):
    """Counts epochs, nowhere else recorded; `sink` has no repr of its own."""

    def __init__(self, sink=None):
        self.sink = sink
        self.n_epochs_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs_ += 1
        if self.n_epochs_ == 2:
            raise KeyboardInterrupt


class Sink:
    pass


def test_pickle_keeps_the_state_of_callbacks():
    stopped = tiny(callbacks=[Count(Sink())]).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(stopped)).set_params(warm_start="resume")
    for model in (stopped.set_params(warm_start="resume"), loaded):
        assert model.fit(X, Y).n_iter_ == 5
        assert model.callbacks[0].n_epochs_ == 5


def test_scheduler_resumes_after_an_interrupted_epoch():
    def model(**params):
        schedule = LRScheduler(LambdaLR, lr_lambda=lambda epoch: 1 / (1 + epoch))
        return tiny(callbacks=[schedule, Stop(**params)])

    whole, resumed = model().fit(X, Y), model(step=8)
    with pytest.warns(UserWarning, match="interrupted in epoch 3"):
        resumed.fit(X, Y)
    resumed.callbacks[-1].step = None
    resumed.set_params(warm_start="resume").fit(X, Y)
    for net, other in zip(resumed.submodels_, whole.submodels_, strict=True):
        rates, expected = (n.history[:, "batches", :, "lr"] for n in (net, other))
        assert rates == expected


class Acts(Callback):
    """Does something at the end of each epoch, and ends the fit after the first."""

    def __init__(self, act, ends):
        self.act = act
        self.ends = ends

    def on_epoch_end(self, net, **kwargs):
        self.act(net)
        if self.ends:
            raise KeyboardInterrupt


@torch.no_grad()
def scale(net):
    for weight in net.module_.parameters():
        weight.mul_(0.9)


@pytest.mark.parametrize("act", [lambda net: torch.rand(3), scale])
def test_callbacks_that_draw_or_change_weights_are_resumed(act):
    whole = tiny(callbacks=[Acts(act, ends=False)]).fit(X, Y)
    resumed = tiny(callbacks=[Acts(act, ends=True)]).fit(X, Y)
    resumed.set_params(callbacks=[Acts(act, ends=False)], warm_start="resume")
    same(resumed.fit(X, Y).predict_proba(X), whole.predict_proba(X))


def test_predictions_of_callbacks_change_nothing(whole):
    predicts = Acts(lambda net: net.predict_proba(X.astype(float)), ends=False)
    same(tiny(callbacks=[predicts]).fit(X, Y).predict_proba(X), whole.predict_proba(X))


def test_frozen_weights_stay_frozen_after_loading():
    frozen = tiny(callbacks=[Freezer("network.head.*"), Stop(epoch=1)]).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(frozen))
    before = loaded.submodels_[0].module_.network.head.weight.clone()
    loaded.set_params(warm_start="resume", callbacks=None).fit(X, Y)
    assert torch.equal(loaded.submodels_[0].module_.network.head.weight, before)


def test_error_in_mid_epoch_leaves_the_beginning_of_the_epoch(whole, interrupted):
    class Fails(Callback):
        def on_batch_end(self, net, **kwargs):
            raise OSError("the logger does not answer")

    with pytest.raises(OSError, match="logger"):
        interrupted.set_params(callbacks=[Fails()]).fit(X, Y)
    interrupted.set_params(callbacks=None).fit(X, Y)
    same(interrupted.predict_proba(X), whole.predict_proba(X))


def test_error_in_initialize_of_a_callback_is_raised():
    class Fails(Callback):
        def initialize(self):
            raise OSError("no such server")

    with pytest.raises(OSError, match="no such server"):
        tiny(callbacks=[Fails()]).fit(X, Y)


def test_interrupt_before_the_first_step(monkeypatch, whole, interrupted):
    """It leaves nothing that only training needs, and the fit can be resumed."""
    resumed = interrupted

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BatchSampler, "skip", interrupt)
        with pytest.warns(UserWarning, match="interrupted in epoch 3"):
            resumed.fit(X, Y)
    assert resumed.n_iter_ == 2
    assert not any("_ema_tensors" in vars(net) for net in resumed.submodels_)
    assert history_rows(resumed.fit(X, Y)) == history_rows(whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_fit_is_resumed_on_cuda():
    whole, first = (tiny(epoch, device="cuda").fit(X, Y) for epoch in (None, 2))
    before = torch.cuda.get_rng_state()
    resumed = pickle.loads(pickle.dumps(first)).set_params(warm_start="resume")
    probabilities = resumed.fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(probabilities, whole.predict_proba(X), atol=1e-3)
    assert torch.equal(torch.cuda.get_rng_state(), before)
