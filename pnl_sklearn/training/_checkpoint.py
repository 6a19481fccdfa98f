"""Where a fit stands between two epochs, for one that takes it up again."""

import io
import operator
import re
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data._inputs import checksum
from ..data._training_data import TrainingData
from ..objectives._class_prior import ClassPrior
from ..utils._distributed import Processes, fingerprint
from ._submodel import Submodel


class TrainingCheckpoint:
    """What a fit that is taken up needs beside the submodels, kept on the CPU.

    The seed and the number of epochs since `n_before`, which are of earlier fits, tell
    which batches are next; with the rest, the further steps have the same bits as those
    of a fit that was not interrupted (on a GPU they are close).
    """

    seed: int
    n_before: int
    _callbacks: list
    _described: str
    _fingerprint: tuple[int, ...]
    _random_states: list[list[Tensor]]
    _prior: dict[str, Tensor]
    _means: list[Tensor | None]
    _snapshots: Sequence[dict[str, Any]] = ()

    def begin(self, seed: int, n_before: int, estimator, given: TrainingData) -> None:
        """Take down what a fit begins with, once nothing can be refused any more."""
        self.seed, self.n_before = seed, n_before
        self._callbacks = list(estimator.callbacks or [])
        self._described = _described(estimator)
        self._fingerprint = _fingerprint(given)

    def warn_of_others(self, given: TrainingData) -> None:
        """Warn of rows or labels that the fit to be taken up has not begun with."""
        if _fingerprint(given) != self._fingerprint:
            warnings.warn(
                "The fit that warm_start='resume' takes up began with other rows or "
                "labels. Its schedules and random draws go on, but the result is that "
                "of no whole fit. With new labels, warm_start=True trains max_epochs "
                "more.",
                stacklevel=4,
            )

    def has(self, estimator) -> bool:
        """Tell whether these are the very callbacks of the last fit, and unchanged."""
        callbacks = list(estimator.callbacks or [])
        return (
            len(callbacks) == len(self._callbacks)
            and all(map(operator.is_, callbacks, self._callbacks))
            and _described(estimator) == self._described
        )

    def note(
        self, submodels: list[Submodel], prior: ClassPrior, ranks: Processes
    ) -> None:
        """Take down how things stand at the end of an epoch."""
        device = submodels[0].device
        states = [torch.get_rng_state()]
        if device.startswith("cuda"):
            states.append(torch.cuda.get_rng_state(device))
        self._random_states = ranks.of_all(states)
        self._prior = prior.state()
        self._snapshots = ()
        means = [submodel.mean_prediction for submodel in submodels]
        self._means = [None if m is None else m.to("cpu", copy=True) for m in means]

    def keep(self, snapshots: list[dict[str, Any]]) -> None:
        """Keep weights that a callback has put others in the place of."""
        file = io.BytesIO()
        torch.save(snapshots, file)
        file.seek(0)
        self._snapshots = torch.load(file, map_location="cpu", weights_only=True)

    def restore_weights(self, submodels: list[Submodel]) -> None:
        """Take back the weights that were kept, if any were."""
        for submodel, snapshot in zip(submodels, self._snapshots, strict=False):
            submodel.restore(snapshot)

    def restore(
        self, submodels: list[Submodel], prior: ClassPrior, ranks: Processes
    ) -> None:
        """Bring everything to where it stood, torch's random states too."""
        device = submodels[0].device
        prior.restore(self._prior)
        for submodel, m in zip(submodels, self._means, strict=True):
            submodel.mean_prediction = None if m is None else m.to(device, copy=True)
        # Of another rank where there are more by now.
        states = self._random_states[ranks.index % len(self._random_states)]
        torch.set_rng_state(states[0])
        for state in states[1:]:
            if device.startswith("cuda"):  # not where a GPU's fit goes on without one
                torch.cuda.set_rng_state(state, device)


def _described(estimator) -> str:
    """What callbacks are set to."""
    entries = {
        name: value
        for name, value in (estimator.net_params or {}).items()
        if name.startswith("callbacks__")
    }
    callbacks = [
        vars(item[1] if isinstance(item, tuple) else item)
        for item in estimator.callbacks or []
    ]
    # Without the addresses of objects, which are others when they are loaded.
    return re.sub("0x[0-9a-fA-F]+", "", repr((entries, callbacks)))


def _fingerprint(given: TrainingData) -> tuple[int, ...]:
    return *fingerprint(given.codes), checksum(given.inputs)
