"""A loss that becomes NaN, or a learning rate that is too high, loses nothing."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from small_fits import IMAGES, TRUTH, X, Y, tiny
from torch import nn


class TurnsNaN(nn.Linear):
    """Returns NaN after `n_good` batches in training mode."""

    def __init__(self, n_features, n_classes, n_good=np.inf):
        super().__init__(n_features, n_classes)
        self.n_good = n_good

    def forward(self, x):
        self.n_good -= self.training
        bad = self.training and self.n_good < 0
        return super().forward(x) * (torch.nan if bad else 1)


class StopBeforeSecondEpoch(Callback):
    def on_batch_begin(self, net, **kwargs):
        if net.submodels[0].n_steps_ == 3:
            raise KeyboardInterrupt


class StopInSecondEpoch(Callback):
    def on_batch_end(self, net, **kwargs):
        if net.submodels[0].n_steps_ == 5:
            raise KeyboardInterrupt


@pytest.mark.smoke
@pytest.mark.parametrize("ema_decay", [0.9, None])
def test_nan_keeps_the_last_finite_epoch(ema_decay):
    params = {"module": TurnsNaN, "ema_decay": ema_decay, "max_epochs": 3}
    with pytest.warns(UserWarning, match="interrupted in epoch 2"):
        good = tiny(callbacks=[StopBeforeSecondEpoch()], **params).fit(X, Y)
    # A submodel gets two batches per step: as the teacher and as the student.
    estimator = tiny(net_params={"module__n_good": 9}, **params)
    with pytest.raises(FloatingPointError, match=r"(?s)epoch 2.*lr=0\.0002.*are kept"):
        estimator.fit(X, Y)
    assert estimator.n_iter_ == len(estimator.history_) == 1
    probabilities = estimator.predict_proba(X)
    assert np.isfinite(probabilities).all()
    np.testing.assert_array_equal(probabilities, good.predict_proba(X))
    np.testing.assert_array_equal(estimator.transduction_, good.transduction_)


def test_interrupt_after_nan_keeps_the_last_finite_epoch():
    params = {"module": TurnsNaN, "net_params": {"module__n_good": 7}}
    with pytest.warns(UserWarning, match="interrupted in epoch 2"):
        good = tiny(callbacks=[StopBeforeSecondEpoch()], module=TurnsNaN).fit(X, Y)
    with pytest.warns(UserWarning, match="interrupted in epoch 2"):
        estimator = tiny(callbacks=[StopInSecondEpoch()], **params).fit(X, Y)
    np.testing.assert_array_equal(estimator.predict_proba(X), good.predict_proba(X))


@pytest.mark.parametrize("steps_per_epoch", [1, 2, 5])
@pytest.mark.parametrize("inputs", [X, IMAGES], ids=["table", "images"])
def test_too_high_learning_rate_leaves_initial_weights(inputs, steps_per_epoch):
    estimator = tiny(lr=1e30, steps_per_epoch=steps_per_epoch, max_epochs=3)
    with pytest.raises(FloatingPointError, match=r"in epoch \d.*learning rate") as info:
        estimator.fit(inputs, Y)
    assert estimator.n_iter_ == 0
    assert "have their initial weights" in str(info.value)
    probabilities = estimator.predict_proba(inputs)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize(("warm_start", "n_epochs"), [(True, 4), ("resume", 3)])
def test_warm_start_continues_after_nan(warm_start, n_epochs):
    params = {"net_params": {"module__n_good": 9}, "module": TurnsNaN}
    estimator = tiny(warm_start=warm_start, max_epochs=3, **params)
    with pytest.raises(FloatingPointError, match="epoch 2"):
        estimator.fit(X, Y)
    for submodel in estimator.submodels_:
        submodel.module_.network.n_good = np.inf
    estimator.set_params(lr=0.03, steps_per_epoch=15).fit(X, Y)
    assert estimator.n_iter_ == n_epochs
    assert [len(net.history) for net in estimator.submodels_] == [n_epochs] * 2
    assert estimator.score(X, TRUTH) > 0.9
