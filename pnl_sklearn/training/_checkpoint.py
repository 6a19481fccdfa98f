"""Checkpoint of a fit, for ``warm_start="resume"``."""

import io
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..data._inputs import checksum
from ..data._training_data import TrainingData
from ..utils._distributed import Processes
from ..utils._warnings import warn_user
from ._submodel import Submodel


class Stateful(Protocol):
    """What changes during a fit and is restored when the fit is resumed."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a state."""


class TrainingCheckpoint:
    """State needed to resume an interrupted fit, in addition to the submodels.

    The seed and the number of epochs of this fit determine the next batches. `n_before`
    is the number of epochs of earlier fits. On a CPU, the result of a resumed fit is
    identical to that of a fit that was not interrupted. All tensors are on the CPU.
    """

    seed: int
    n_before: int
    _fingerprint: tuple[int, ...]
    _random_states: list[list[Tensor]]
    _states: list[dict[str, Tensor]]
    _mean_predictions: list[Tensor | None]
    _snapshots: Sequence[dict[str, Any]] = ()
    # Whether EarlyStopping ended the fit.
    is_stopped = False

    def start(self, seed: int, n_before: int, data: TrainingData) -> None:
        """Record the settings of a fit before it starts."""
        self.seed, self.n_before = seed, n_before
        self._fingerprint = _fingerprint(data)

    def check_data(self, data: TrainingData, path: str | None = None) -> None:
        """Warn if samples or labels differ from those at the start of the fit.

        If the fit is read from the file `path`, raise an error instead.
        """
        if _fingerprint(data) == self._fingerprint:
            return
        fit = "The fit that warm_start='resume' resumes"
        differ = "began with other samples, labels or weights. Use the same"
        if path is not None:
            raise ValueError(
                f"{fit} from checkpoint={path!r} {differ}, or delete the file to start "
                "a new fit. Each fit needs a file of its own."
            )
        warn_user(
            f"{fit} {differ} to get the result of an uninterrupted fit. For new "
            "labels, use warm_start=True, which trains for max_epochs more epochs."
        )

    def update(
        self,
        submodels: list[Submodel],
        stateful: list[Stateful],
        processes: Processes,
    ) -> None:
        """Record the state at the end of an epoch."""
        device = submodels[0].device
        states = [torch.get_rng_state()]
        if device.startswith("cuda"):
            states.append(torch.cuda.get_rng_state(device))
        self._random_states = processes.gather(states)
        self._states = [part.state_dict() for part in stateful]
        self._snapshots = ()
        means = [submodel.mean_prediction for submodel in submodels]
        self._mean_predictions = [
            None if mean is None else mean.to("cpu", copy=True) for mean in means
        ]

    def keep_weights(self, snapshots: list[dict[str, Any]]) -> None:
        """Record weights from which the fit is resumed instead of the current ones."""
        file = io.BytesIO()
        torch.save(snapshots, file)
        file.seek(0)
        self._snapshots = torch.load(file, map_location="cpu", weights_only=True)

    def restore_weights(self, submodels: list[Submodel]) -> None:
        """Load the recorded weights, if there are any."""
        for submodel, snapshot in zip(submodels, self._snapshots, strict=False):
            submodel.restore(snapshot)

    def restore(
        self,
        submodels: list[Submodel],
        stateful: list[Stateful],
        processes: Processes,
    ) -> None:
        """Load the rest of the state, and torch's random states."""
        device = submodels[0].device
        for part, state in zip(stateful, self._states, strict=True):
            part.load_state_dict(state)
        for submodel, mean in zip(submodels, self._mean_predictions, strict=True):
            moved = None if mean is None else mean.to(device, copy=True)
            submodel.mean_prediction = moved
        # There may be more processes than at the interrupt.
        own, *of_devices = self._random_states[
            processes.index % len(self._random_states)
        ]
        torch.set_rng_state(own)
        for random_state in of_devices:
            if device.startswith("cuda"):  # a fit on a GPU may be resumed without one
                torch.cuda.set_rng_state(random_state, device)


def _fingerprint(data: TrainingData) -> tuple[int, ...]:
    arrays = [data.codes, data.weights, data.excluded, data.sampling_weights]
    inputs = [data.inputs]
    if data.held_out is not None:
        inputs.append(data.held_out[0])
        arrays.append(data.held_out[1])
    sums = [zlib.crc32(array.tobytes()) for array in arrays if array is not None]
    return len(data.codes), *sums, *map(checksum, inputs)
