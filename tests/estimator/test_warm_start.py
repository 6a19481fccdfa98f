"""Going on from a fit: finished, interrupted, or ended by an error."""

import pickle

import numpy as np
import pytest
from skorch.callbacks import Callback
from small_fits import X, Y, same, tiny


def test_warm_start_continues_training():
    estimator = tiny(warm_start=True).fit(X, Y)
    nets, first = list(estimator.submodels_), list(estimator.history_)
    before = estimator.predict_proba(X)
    estimator.set_params(max_epochs=1).fit(X, Y)
    assert all(a is b for a, b in zip(estimator.submodels_, nets, strict=True))
    assert estimator.history_[:2] == first
    assert [row["epoch"] for row in estimator.history_] == [1, 2, 3]
    assert estimator.n_iter_ == 3
    assert not np.array_equal(estimator.predict_proba(X), before)
    assert [net.n_steps_ for net in nets] == [9, 9]
    estimator.set_params(warm_start=False).fit(X, Y)
    assert estimator.n_iter_ == 1
    assert estimator.submodels_[0] is not nets[0]


def test_warm_start_has_no_second_rampup():
    estimator = tiny(warm_start=True, rampup=1, negative_weight=0.5).fit(X, Y)
    assert estimator.history_[0]["negative_weight"] < 0.1
    for row in estimator.fit(X, Y).history_[2:]:
        assert row["negative_weight"] == 0.5


def test_warm_start_with_missing_classes():
    estimator = tiny(warm_start=True, classes=[0, 1, 2]).fit(X, Y)
    same(estimator.fit(X, np.where(Y == 2, -1, Y)).classes_, [0, 1, 2])
    assert estimator.n_iter_ == 4


class Interrupt(Callback):
    """Raises KeyboardInterrupt at the end of a step."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, net, training=None, **kwargs):
        if net.submodels[0].n_steps_ == self.step:
            raise KeyboardInterrupt


def test_interrupted_fit_predicts_and_continues():
    # The fifth step is the second of the second epoch.
    options = {"warm_start": True, "max_epochs": 4}
    estimator = tiny(callbacks=[Interrupt(5)], **options)
    with pytest.warns(UserWarning, match="interrupted in epoch 2"):
        estimator.fit(X, Y)
    assert estimator.n_iter_ == len(estimator.history_) == 1
    probabilities = estimator.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    same(pickle.loads(pickle.dumps(estimator)).predict_proba(X), probabilities)
    known = Y >= 0
    same(estimator.transduction_[known], Y[known])
    same(estimator.transduction_[~known], estimator.predict(X)[~known])
    estimator.callbacks[0].step = None
    assert estimator.fit(X, Y).n_iter_ == 5


class Fails(Callback):
    def __init__(self, method):
        self.method = method

    def fail(self, method, n_epochs):
        if method == self.method and n_epochs == 3:
            raise RuntimeError("a disk is full")

    def on_batch_end(self, net, **kwargs):
        self.fail("on_batch_end", len(net.history))

    def on_epoch_end(self, net, **kwargs):
        self.fail("on_epoch_end", len(net.history))

    def on_train_begin(self, net, **kwargs):
        self.fail("on_train_begin", len(net.history) + 1)


@pytest.mark.parametrize(
    ("method", "n_epochs"),
    [("on_train_begin", 2), ("on_batch_end", 2), ("on_epoch_end", 3)],
)
def test_failing_callback_leaves_a_consistent_estimator(method, n_epochs):
    estimator = tiny(warm_start=True, max_epochs=2).fit(X, Y)
    with pytest.raises(RuntimeError, match="disk is full"):
        estimator.set_params(callbacks=[Fails(method)]).fit(X, Y)
    assert estimator.n_iter_ == len(estimator.history_) == n_epochs
    for net in estimator.submodels_:
        assert [row["epoch"] for row in net.history] == [*range(1, n_epochs + 1)]
    for net in estimator.submodels_:
        assert (
            not {"_ema_tensors", "_processes", "_gradient_callbacks"} & vars(net).keys()
        )
    assert estimator.set_params(callbacks=None).fit(X, Y).n_iter_ == n_epochs + 2
