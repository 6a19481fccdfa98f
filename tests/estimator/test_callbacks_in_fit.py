"""Callbacks of skorch in a fit: hooks, early stopping, schedules, net_params."""

from collections import Counter

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from small_fits import X, Y, same, tiny
from torch.optim.lr_scheduler import StepLR


class Count(Callback):
    """Counts the calls of skorch's hooks."""

    def initialize(self):
        self.calls = Counter()
        return self

    def on_train_begin(self, net, **kwargs):
        self.calls["train begin"] += 1

    def on_train_end(self, net, **kwargs):
        self.calls["train end"] += 1

    def on_epoch_begin(self, net, **kwargs):
        self.calls["epoch begin"] += 1

    def on_epoch_end(self, net, **kwargs):
        self.calls["epoch end"] += 1

    def on_batch_begin(self, net, **kwargs):
        self.calls["batch begin"] += 1

    def on_batch_end(self, net, **kwargs):
        self.calls["batch end"] += 1

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.calls["gradient"] += 1
        self.names = [name for name, _ in named_parameters]


def test_callbacks_are_called_as_by_skorch():
    given = Count()
    estimator = tiny(callbacks=[("count", given)]).fit(X, Y)
    assert not hasattr(given, "calls")
    callbacks = [dict(net.callbacks_)["count"] for net in estimator.submodels_]
    assert callbacks[0] is not callbacks[1]
    for callback, net in zip(callbacks, estimator.submodels_, strict=True):
        assert callback.calls["train begin"] == callback.calls["train end"] == 1
        assert callback.calls["epoch begin"] == callback.calls["epoch end"] == 2
        assert callback.calls["batch begin"] == callback.calls["batch end"] == 6
        assert callback.calls["gradient"] == 6
        assert callback.names == [name for name, _ in net.module_.named_parameters()]


class Watch(Callback):
    """Looks at several columns."""

    def __init__(self, monitor):
        self.monitor = monitor


def test_callback_of_the_user_may_monitor_several_columns():
    watch = Watch(["train_loss", "balance_loss"])
    assert tiny(callbacks=[watch]).fit(X, Y).n_iter_ == 2


class Distance(Callback):
    """Records the distance to the second epoch, or ends the fit there."""

    def __init__(self, ends=False):
        self.ends = ends

    def on_epoch_end(self, net, **kwargs):
        epoch = len(net.history)
        net.history.record("distance", abs(epoch - 2))
        if self.ends and epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ema_decay", [0.9, None])
@pytest.mark.parametrize("patience", [1, 10])
def test_early_stopping_loads_the_best_epoch(patience, ema_decay):
    """The weights and their EMA are those at the end of that epoch."""
    params = {"max_epochs": 4, "ema_decay": ema_decay}
    until_then = tiny(callbacks=[Distance(ends=True)], **params).fit(X, Y)
    stop = EarlyStopping(monitor="distance", patience=patience, load_best=True)
    estimator = tiny(callbacks=[Distance(), stop], **params).fit(X, Y)
    assert estimator.n_iter_ == (3 if patience == 1 else 4)
    same(estimator.predict_proba(X), until_then.predict_proba(X))
    same(estimator.transduction_, until_then.transduction_)
    for net, other in zip(estimator.submodels_, until_then.submodels_, strict=True):
        for name in ("module_", "ema_module_"):
            states = [getattr(n, name).state_dict() for n in (net, other)]
            assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_early_stopping_ends_the_fit():
    # Only a loss that falls by more than 1e9 would count as progress.
    stop = EarlyStopping(
        monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs"
    )
    estimator = tiny(callbacks=[stop], max_epochs=10).fit(X, Y)
    assert estimator.n_iter_ == 3
    assert stop.misses_ == 0
    patient = EarlyStopping(monitor="train_loss", patience=20)
    assert tiny(callbacks=[patient], max_epochs=4).fit(X, Y).n_iter_ == 4


@pytest.mark.parametrize("net_params", [None, {"callbacks__schedule__gamma": 0.1}])
def test_lr_scheduler_replaces_the_cosine(net_params):
    policy = torch.optim.lr_scheduler.StepLR
    schedule = LRScheduler(policy=policy, step_size=1, gamma=0.5)
    callbacks = [("schedule", schedule)]
    estimator = tiny(callbacks=callbacks, lr=0.1, max_epochs=3, net_params=net_params)
    gamma = 0.1 if net_params else 0.5
    for net in estimator.fit(X, Y).submodels_:
        rates = net.history[:, "event_lr"]
        np.testing.assert_allclose(rates, 0.1 * gamma ** np.arange(3))
        assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.1 * gamma**3)
    assert schedule.gamma == 0.5


class Witness(Callback):
    """Has a state that is no parameter, and records a column of its own."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(len(net.history))
        net.history.record("valid_f1", 1 / len(net.history))


def test_callback_with_state_records_columns():
    witness = Witness()
    stop = EarlyStopping("valid_f1", patience=1, lower_is_better=False)
    estimator = tiny(callbacks=[witness, ("stop", stop)], max_epochs=5).fit(X, Y)
    assert estimator.n_iter_ == 2
    assert not witness.seen
    seen = [dict(net.callbacks_)["Witness"].seen for net in estimator.submodels_]
    assert seen == [[1, 2], [1, 2]]


def test_net_params_change_callbacks():
    def n_epochs(**entries):
        stop = EarlyStopping("train_loss", patience=1, threshold=1e9)
        stop.threshold_mode = "abs"
        model = tiny(callbacks=[("stop", stop)], max_epochs=5).set_params(**entries)
        return model.fit(X, Y).n_iter_

    assert n_epochs() == 2
    assert n_epochs(callbacks__stop__patience=3) == 4
    assert n_epochs(callbacks__stop=None) == 5
    assert n_epochs(callbacks__stop=None, callbacks__stop__patience=1) == 5
    other = EarlyStopping(
        "teacher_student_agreement", threshold=1e9, threshold_mode="abs"
    )
    assert n_epochs(callbacks__stop=other, callbacks__stop__patience=2) == 3


def test_lr_scheduler_in_net_params_replaces_the_cosine():
    steady = LRScheduler(StepLR, step_size=100)
    named = [("schedule", EarlyStopping("train_loss"))]
    model = tiny(callbacks=named, net_params={"callbacks__schedule": steady}, lr=0.01)
    for net in model.fit(X, Y).submodels_:
        assert net.optimizer_.param_groups[0]["lr"] == 0.01
    model = tiny(callbacks=[("s", steady)], net_params={"callbacks__s": None}, lr=0.01)
    for net in model.fit(X, Y).submodels_:
        assert net.optimizer_.param_groups[0]["lr"] < 0.005


def test_warm_start_renews_changed_callbacks():
    stop = EarlyStopping("train_loss", patience=1, threshold=1e9, threshold_mode="abs")
    model = tiny(callbacks=[stop], warm_start=True, max_epochs=5).fit(X, Y)
    assert model.n_iter_ == 2
    stop.patience = 3
    assert model.fit(X, Y).n_iter_ == 2 + 4
    model.set_params(callbacks__EarlyStopping__patience=2)
    assert model.fit(X, Y).n_iter_ == 2 + 4 + 3


def test_callbacks_can_monitor_columns_of_skorch():
    schedule = LRScheduler(StepLR, step_size=100)
    for monitor in ("dur", "event_lr"):
        stop = EarlyStopping(monitor, patience=9)
        assert tiny(callbacks=[schedule, stop]).fit(X, Y).n_iter_ == 2
