"""skorch callbacks: their checks, and the net with which they are called."""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochTimer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    ParamMapper,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    TensorBoard,
    TrainEndCheckpoint,
)
from skorch.callbacks.scoring import ScoringBase
from skorch.history import History
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..data._sampler import Batch
from ._metrics import COLUMNS, LABEL_CHANGE, VALIDATED
from ._submodel import Submodel

_PREFIX = "callbacks__"
# Callbacks of skorch that do not work with two submodels, and what to use instead.
_UNSUPPORTED: dict[tuple[type, ...], str] = {
    (Checkpoint, TrainEndCheckpoint, LoadInitState): (
        "Use PNLClassifier(checkpoint='fit.ckpt'), which writes a file that resumes a "
        "fit. EarlyStopping(load_best=True) restores the best epoch."
    ),
    (ScoringBase,): (
        "It scores batches of inputs and targets, which submodels do not train on. "
        "Pass labeled samples as X_val and y_val to fit, or set validation_fraction. "
        f"history_ then contains {', '.join(map(repr, VALIDATED))}."
    ),
    (ProgressBar,): "Use PNLClassifier(verbose=1), which shows a progress bar.",
    (InputShapeSetter,): (
        "It is not needed: a module is given n_features, n_channels or image_shape if "
        "its signature names them."
    ),
}
# Callbacks that change one optimizer, or parameters by their names.
_OF_SUBMODELS = (LRScheduler, ParamMapper)
# Columns that callbacks of skorch add to the history.
_SKORCH_COLUMNS = ("dur", "event_lr")
# Methods of callbacks that are called at each step.
_STEP_METHODS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


def named_callbacks(estimator) -> list[tuple[str, Any]]:
    """Return names and callbacks, with the entries of `net_params`.

    Names are given by the user, or the names of the classes, as in skorch. A callback
    with an entry ``callbacks__name__parameter`` is copied.
    """
    items = list(estimator.callbacks or [])
    given = [item[1] if isinstance(item, tuple) else item for item in items]
    callbacks = [_check_callback(callback) for callback in given]
    names = [
        item[0] if isinstance(item, tuple) else type(callback).__name__
        for item, callback in zip(items, callbacks, strict=True)
    ]
    counts, seen = Counter(names), Counter[str]()
    for k, name in enumerate(names):
        if counts[name] > 1:
            seen[name] += 1
            names[k] = f"{name}_{seen[name]}"
    return _apply_entries(
        dict(zip(names, callbacks, strict=True)), estimator.net_params or {}
    )


def _check_callback(callback) -> Any:
    """Create a callback from its class; raise if it is no callback."""
    if isinstance(callback, type):
        callback = callback()
    if not hasattr(callback, "on_train_begin"):
        raise TypeError(
            f"callbacks contain {callback!r}, which is no callback of skorch. Pass "
            "instances of subclasses of skorch.callbacks.Callback."
        )
    return callback


def clone_callback(callback) -> Any:
    """Return a copy of a callback or pair; itself if it cannot be copied.

    Loggers often contain objects that cannot be copied, such as open files.
    """
    for copy in (lambda: clone(callback, safe=False), lambda: deepcopy(callback)):
        try:
            return copy()
        except Exception:
            continue
    return callback


def _apply_entries(
    callbacks: dict[str, Any], net_params: dict[str, Any]
) -> list[tuple[str, Any]]:
    """Apply entries such as callbacks__name=None and callbacks__name__patience=3."""
    entries = {n: v for n, v in net_params.items() if n.startswith(_PREFIX)}
    for entry in sorted(entries, key=lambda entry: entry.count("__")):
        name, _, parameter = entry.removeprefix(_PREFIX).partition("__")
        if name not in callbacks:
            raise ValueError(
                f"net_params contains the unknown name {entry!r}; the callbacks are "
                f"{list(callbacks)}."
            )
        value = entries[entry]
        if not parameter:
            callbacks[name] = None if value is None else _check_callback(value)
        elif callbacks[name] is not None:
            callbacks[name] = clone_callback(callbacks[name])
            callbacks[name].set_params(**{parameter: value})
    return [pair for pair in callbacks.items() if pair[1] is not None]


def check_callbacks(callbacks: list[tuple[str, Any]], columns: Sequence[str]) -> None:
    """Raise for callbacks that would fail or have no effect during training.

    `history_` will have `columns` in addition to `COLUMNS`.
    """
    packages = {type(callback).__module__.split(".")[0] for _, callback in callbacks}
    scorings = [c for _, c in callbacks if isinstance(c, PassthroughScoring)]
    passed = [c.name for c in scorings if c.name not in VALIDATED]
    for _, callback in callbacks:
        for kinds, advice in _UNSUPPORTED.items():
            if isinstance(callback, kinds):
                raise ValueError(
                    f"The callback {type(callback).__name__} cannot be used. {advice}"
                )
        monitor = getattr(callback, "monitor", None)
        # Callbacks that are not of skorch may add columns.
        is_known = packages == {"skorch"} or monitor in VALIDATED
        if isinstance(monitor, str) and is_known:
            _check_monitor(callback, monitor, [*columns, *passed])


def monitored(callbacks: list[tuple[str, Any]]) -> set[str]:
    """Return the columns of the history that callbacks of skorch monitor."""
    monitors = [getattr(callback, "monitor", None) for _, callback in callbacks]
    return {monitor for monitor in monitors if isinstance(monitor, str)}


def _check_monitor(callback, monitor: str, columns: Sequence[str]) -> None:
    if monitor in (*COLUMNS, LABEL_CHANGE, *columns, *_SKORCH_COLUMNS):
        return
    begins = f"The callback {type(callback).__name__} monitors {monitor!r}, but "
    if monitor.startswith("valid") and not set(VALIDATED) & set(columns):
        raise ValueError(
            f"{begins}nothing is held out for validation. Monitor 'train_loss' or "
            "another column of history_. Or pass labeled samples as X_val and y_val to "
            "fit, or set validation_fraction. Both add the columns "
            f"{', '.join(map(repr, VALIDATED))}."
        )
    names = ", ".join(map(repr, (*COLUMNS, *columns, LABEL_CHANGE)))
    raise ValueError(
        f"{begins}the numeric columns of history_ are {names}. Monitor one of them."
    )


def acts_on_steps(callback) -> bool:
    """Tell whether a callback does something at each step."""
    if getattr(callback, "log_on_batch_end", None) is False:  # loggers of skorch
        return False
    base = TensorBoard if isinstance(callback, TensorBoard) else Callback
    return any(_overrides(callback, name, base) for name in _STEP_METHODS)


def _overrides(callback, method: str, base: type = Callback) -> bool:
    return getattr(type(callback), method) is not getattr(base, method)


class _BothModules(nn.Module):
    """The networks of both submodels, with their EMAs."""

    def __init__(self, submodels: list[Submodel]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(submodel.module_ for submodel in submodels)
        self.emas = nn.ModuleList(submodel.ema_module_ for submodel in submodels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean class probabilities of both EMAs."""
        logits = torch.stack([ema(x) for ema in self.emas])
        return logits.softmax(dim=-1).mean(dim=0)


class _BothOptimizers:
    """The optimizers of both submodels, as far as callbacks need them."""

    def __init__(self, submodels: list[Submodel]) -> None:
        self._optimizers = [submodel.optimizer_ for submodel in submodels]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for o in self._optimizers for group in o.param_groups]

    def state_dict(self) -> dict[str, list]:
        return {"optimizers": [o.state_dict() for o in self._optimizers]}

    def load_state_dict(self, state: dict[str, list]) -> None:
        for optimizer, each in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(each)


class FitNet(NeuralNet):
    """Both submodels as one skorch net, with which callbacks are called.

    It predicts the mean probabilities of both EMAs.

    Parameters
    ----------
    submodels : list of Submodel
    callbacks : list of (str, Callback)
    verbose : bool
    **kwargs
        Arguments of :class:`skorch.NeuralNet`.

    Attributes
    ----------
    module_ : nn.Module
        The networks of both submodels, with their EMAs.
    optimizer_ : object
        Its `param_groups` are those of both optimizers.
    history : skorch.history.History
        Numeric columns of `history_`, one row per epoch.
    """

    def __init__(self, submodels, *, callbacks, verbose, **kwargs):
        self.submodels = submodels
        self.is_stopped = False
        own, self._of_submodels = [], []
        for name, callback in callbacks:
            is_own = not isinstance(callback, _OF_SUBMODELS)
            (own if is_own else self._of_submodels).append((name, callback))
        super().__init__(
            nn.Module,
            nn.CrossEntropyLoss,
            callbacks=own,
            verbose=verbose or any(isinstance(c, PrintLog) for _, c in own),
            device=submodels[0].device,
            predict_nonlinearity=None,  # the module returns probabilities
            **kwargs,
        )

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def initialize_module(self):
        """Join the networks of the submodels."""
        self.module_ = _BothModules(self.submodels)
        return self

    def initialize_optimizer(self, *_, **__):
        """Join the optimizers of the submodels."""
        self.optimizer_ = _BothOptimizers(self.submodels)
        return self

    def initialize_history(self):
        """Share one history with both submodels."""
        self.history_ = vars(self.submodels[0]).get("history_", History())
        for submodel in self.submodels:
            submodel.history_ = self.history_
        return self

    def initialize(self):
        """Initialize all callbacks, too: those of the submodels are copies."""
        super().initialize()
        callbacks = [callback for _, callback in self.callbacks_]
        self._watches_steps = any(
            acts_on_steps(callback) or isinstance(callback, PassthroughScoring)
            for callback in callbacks
        )
        for submodel in self.submodels:
            submodel.set_callbacks(
                [(name, clone_callback(c)) for name, c in self._of_submodels],
                [c for c in callbacks if _overrides(c, "on_grad_computed")],
            )
        return self

    def predict_proba(self, X):
        """Predict, without changing torch's random state."""
        if not isinstance(X, Dataset | Tensor):
            X = np.asarray(X, dtype=np.float32)
        devices = [self.device] if self.device.startswith("cuda") else []
        with torch.random.fork_rng(devices):
            return super().predict_proba(X)

    def all_callbacks(self) -> list[tuple[NeuralNet, Callback]]:
        """Return all callbacks with their nets: those of the submodels come first."""
        nets: list[NeuralNet] = [*self.submodels, self]
        return [(net, callback) for net in nets for _, callback in net.callbacks_]

    def notify_all(self, method: str, **kwargs) -> None:
        """Notify the callbacks of the submodels, too.

        A callback ends the fit by KeyboardInterrupt, as EarlyStopping of skorch does.
        It is raised when all callbacks were called. `is_stopped` tells whether it was
        EarlyStopping, after which nothing is left of the fit.
        """
        getattr(self, method)(self, **kwargs)  # it begins a row of the history
        interrupt = None
        for net, callback in self.all_callbacks():
            try:
                getattr(callback, method)(net, **kwargs)
            except KeyboardInterrupt as error:
                interrupt = error
                self.is_stopped |= isinstance(callback, EarlyStopping)
        if interrupt is not None:
            raise interrupt

    def end_step(self, batch: Batch, of_students: list[Tensor]) -> None:
        """Notify the callbacks, and record the loss if they could use it."""
        loss = None
        if self._watches_steps:
            loss = torch.stack([metrics[0] for metrics in of_students]).mean()
            self.history.record_batch("train_loss", float(loss))
            n_samples = len(batch.labeled) + len(batch.unlabeled)
            self.history.record_batch("train_batch_size", n_samples)
        self.notify("on_batch_end", batch=batch, training=True, loss=loss)

    def release_training_state(self) -> None:
        """Delete what is used in training only."""
        for submodel in self.submodels:
            submodel.release_training_state()
        for _, callback in self.callbacks_:
            if isinstance(callback, EarlyStopping):
                # A pickle of it could not be loaded on a machine without the device.
                callback.best_model_weights_ = None
