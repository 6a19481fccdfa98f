"""Checks of skorch callbacks, and their copies for each submodel."""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from sklearn.base import clone
from skorch.callbacks import (
    Checkpoint,
    InputShapeSetter,
    LoadInitState,
    PassthroughScoring,
    ProgressBar,
    TrainEndCheckpoint,
)
from skorch.callbacks.scoring import ScoringBase

from ._metrics import COLUMNS, LABEL_CHANGE, VALIDATED

_PREFIX = "callbacks__"
# Callbacks of skorch that do not work with two submodels, and what to use instead.
_UNSUPPORTED: dict[tuple[type, ...], str] = {
    (Checkpoint, TrainEndCheckpoint, LoadInitState): (
        "Both submodels would write, or read, the same file. Save the estimator after "
        "fit, for example with joblib.dump. EarlyStopping(load_best=True) restores the "
        "best epoch, and warm_start='resume' resumes an interrupted fit."
    ),
    (ScoringBase, PassthroughScoring): (
        "It scores batches of inputs and targets, which submodels do not train on. "
        "Pass labeled samples as X_val and y_val to fit, or set validation_fraction. "
        f"history_ then contains {', '.join(map(repr, VALIDATED))}."
    ),
    (ProgressBar,): (
        "It counts the batches of a Dataset, unless batches_per_epoch is 'count' or a "
        "number. Use verbose=1 to print a line per epoch."
    ),
    (InputShapeSetter,): (
        "It is not needed: a module is given n_features, n_channels or image_shape if "
        "its signature names them."
    ),
}


# Columns that callbacks of skorch add to the histories of the submodels.
_SKORCH_COLUMNS = ("dur", "event_lr")


def named_callbacks(estimator) -> list[tuple[str, Any]]:
    """Return names and copies of the callbacks, with the entries of `net_params`.

    They are copied, since the submodels must not share them. Names are given by the
    user, or the names of the classes, as in skorch.
    """
    items = list(estimator.callbacks or [])
    given = [item[1] if isinstance(item, tuple) else item for item in items]
    copies = [_copy_callback(callback) for callback in given]
    names = [
        item[0] if isinstance(item, tuple) else type(copy).__name__
        for item, copy in zip(items, copies, strict=True)
    ]
    counts, seen = Counter(names), Counter[str]()
    for k, name in enumerate(names):
        if counts[name] > 1:
            seen[name] += 1
            names[k] = f"{name}_{seen[name]}"
    return _apply_entries(
        dict(zip(names, copies, strict=True)), estimator.net_params or {}
    )


def _copy_callback(callback) -> Any:
    """Copy a callback, or create it from its class; raise if it is no callback."""
    if isinstance(callback, type):
        callback = callback()
    if not hasattr(callback, "on_train_begin"):
        raise TypeError(
            f"callbacks contain {callback!r}, which is no callback of skorch. Pass "
            "instances of subclasses of skorch.callbacks.Callback."
        )
    try:
        return clone(callback, safe=False)
    except (RuntimeError, TypeError):  # it has more state than its parameters
        return deepcopy(callback)


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
            callbacks[name] = None if value is None else _copy_callback(value)
        elif callbacks[name] is not None:
            callbacks[name].set_params(**{parameter: value})
    return [pair for pair in callbacks.items() if pair[1] is not None]


def check_callbacks(callbacks: list[tuple[str, Any]], columns: Sequence[str]) -> None:
    """Raise for callbacks that would fail or have no effect during training.

    `history_` will have `columns` in addition to `COLUMNS`.
    """
    packages = {type(callback).__module__.split(".")[0] for _, callback in callbacks}
    for _, callback in callbacks:
        for kinds, advice in _UNSUPPORTED.items():
            if isinstance(callback, kinds) and not _counts_itself(callback):
                raise ValueError(
                    f"The callback {type(callback).__name__} cannot be used. {advice}"
                )
        monitor = getattr(callback, "monitor", None)
        # Callbacks that are not of skorch may add columns.
        is_known = packages == {"skorch"} or monitor in VALIDATED
        if isinstance(monitor, str) and is_known:
            _check_monitor(callback, monitor, columns)


def monitored(callbacks: list[tuple[str, Any]]) -> set[str]:
    """Return the columns of the history that callbacks of skorch monitor."""
    monitors = [getattr(callback, "monitor", None) for _, callback in callbacks]
    return {monitor for monitor in monitors if isinstance(monitor, str)}


def _counts_itself(callback) -> bool:
    return getattr(callback, "batches_per_epoch", "auto") != "auto"


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
