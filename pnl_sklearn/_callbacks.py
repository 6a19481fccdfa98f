"""skorch's callbacks: which can serve here, and copies of them for each submodel."""

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

from ._measures import VALIDATED

# Callbacks of skorch that need what a fit of two submodels has not, and what to do.
_UNFIT: dict[tuple[type, ...], str] = {
    (Checkpoint, TrainEndCheckpoint, LoadInitState): (
        "Both submodels would write, or read, the same file. Save the estimator after "
        "fit, with joblib.dump for example; EarlyStopping(load_best=True) goes back to "
        "the best epoch, and warm_start='resume' takes up a fit that was interrupted."
    ),
    (ScoringBase, PassthroughScoring): (
        "It scores batches of inputs and targets, which submodels do not train on. "
        "Give fit labeled rows as X_val and y_val, or set validation_fraction: "
        f"history_ then has {', '.join(map(repr, VALIDATED))}."
    ),
    (ProgressBar,): "It counts the batches of a Dataset. verbose=1 prints each epoch.",
    (InputShapeSetter,): (
        "A module is given n_features, n_channels or image_shape where its signature "
        "names them."
    ),
}


def callback_of(item) -> Any:
    """The callback of an item that is one, its class, or a pair (name, callback)."""
    callback = item[1] if isinstance(item, tuple) else item
    return callback() if isinstance(callback, type) else callback


def check_callbacks(callbacks: list | None, validated: bool) -> None:
    """Refuse callbacks that would fail, or have no effect, once training has begun.

    `validated` tells whether `history_` has the columns of held-out rows.
    """
    for callback in map(callback_of, callbacks or []):
        if not hasattr(callback, "on_train_begin"):
            raise TypeError(
                f"callbacks hold {callback!r}, which is no callback of skorch. Give "
                "objects of classes derived from skorch.callbacks.Callback."
            )
        for unfit, cure in _UNFIT.items():
            if isinstance(callback, unfit):
                raise ValueError(
                    f"The callback {type(callback).__name__} cannot be used. {cure}"
                )
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor.startswith("valid"):
            _check_monitor(callback, monitor, validated)


def _check_monitor(callback, monitor: str, validated: bool) -> None:
    if validated and monitor in VALIDATED:
        return
    begins = f"The callback {type(callback).__name__} monitors {monitor!r}, but "
    added = ", ".join(map(repr, VALIDATED))
    if validated:
        raise ValueError(f"{begins}of rows that are held out history_ has {added}.")
    raise ValueError(
        f"{begins}nothing is held out for validation. Let it monitor 'train_loss' or "
        "another column of history_; or give fit labeled rows as X_val and y_val, or "
        f"set validation_fraction: both add {added}."
    )


def cloned(callbacks: list | None) -> list:
    """Copy the callbacks, since one instance would be shared by both submodels."""
    copies = []
    for item in callbacks or []:
        copy = clone(callback_of(item), safe=False)
        copies.append((item[0], copy) if isinstance(item, tuple) else copy)
    return copies
