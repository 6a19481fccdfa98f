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


def test_callback_is_called_once_an_epoch_and_step():
    """Only gradients are of one submodel each."""
    given = Count()
    estimator = tiny(callbacks=[("count", given)]).fit(X, Y)
    assert given.calls["train begin"] == given.calls["train end"] == 1
    assert given.calls["epoch begin"] == given.calls["epoch end"] == 2
    assert given.calls["batch begin"] == given.calls["batch end"] == 6
    assert given.calls["gradient"] == 2 * 6
    network = estimator.submodels_[0].module_
    assert given.names == [name for name, _ in network.named_parameters()]


class Look(Callback):
    """Keeps what it sees of the net at the end of an epoch."""

    def on_epoch_end(self, net, **kwargs):
        self.row = {k: v for k, v in net.history[-1].items() if k != "batches"}
        self.is_ready = net.initialized_
        self.n_groups = len(net.optimizer_.param_groups)
        self.n_weights = sum(p.numel() for p in net.module_.parameters())
        self.predicted = net.predict_proba(X)


def test_net_of_callbacks_is_both_submodels():
    look = Look()
    estimator = tiny(callbacks=[look]).fit(X, Y)
    assert look.is_ready
    assert look.n_groups == 2
    expected = [
        sum(p.numel() for p in module.parameters())
        for s in estimator.submodels_
        for module in (s.module_, s.ema_module_)
    ]
    assert look.n_weights == sum(expected)
    each = [estimator._predict_proba_of(s, X) for s in estimator.submodels_]
    np.testing.assert_allclose(look.predicted, np.mean(each, axis=0), atol=1e-6)
    scalars = {k: v for k, v in estimator.history_[-1].items() if np.isscalar(v)}
    assert look.row.items() >= scalars.items()
    assert all(np.isscalar(value) for value in look.row.values())


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
    assert stop.misses_ == 2
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
    assert witness.seen == [1, 2]


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
