"""scikit-learn's callbacks, which estimators support since version 1.9."""

from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in without callbacks."""

    def with_callbacks(method):
        """Return the method: there are no callbacks."""
        return method


__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]


class FitTasks:
    """Calls the callbacks of an estimator: for the fit, and for each of its epochs.

    Parameters
    ----------
    estimator : CallbackSupportMixin
    X, y : object
        What `fit` was given.
    submodels : list of skorch.NeuralNet
        Submodels with which callbacks predict at the end of an epoch.
    """

    _root: Any = None

    def __init__(self, estimator, X, y, submodels: list) -> None:
        self._arguments = {"estimator": estimator, "X": X, "y": y}
        self._fitted = {"submodels_": submodels, "temperature_": 1.0}

    def begin(self, n_epochs: int) -> None:
        """Call the callbacks at the beginning of the fit."""
        estimator = self._arguments["estimator"]
        if hasattr(estimator, "_init_callback_context"):
            self._root = estimator._init_callback_context(max_subtasks=n_epochs)
            self._root.call_on_fit_task_begin(**self._arguments)

    def begin_epoch(self) -> None:
        """Call the callbacks at the beginning of an epoch."""
        if self._root is not None:
            self._epoch = self._root.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._arguments)

    def end_epoch(self) -> bool:
        """Call the callbacks at the end of an epoch; tell whether they end the fit."""
        return self._root is not None and self._epoch.call_on_fit_task_end(
            **self._arguments, reconstruction_attributes=self._fitted
        )

    def end(self) -> None:
        """Call the callbacks at the end of the fit."""
        if self._root is not None:
            self._root.call_on_fit_task_end(
                **self._arguments, reconstruction_attributes={}
            )
