"""One step of training as a CUDA graph: recorded once, replayed at each later step."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PrintLog
from torch import Tensor, cuda

from ._batches import Batch
from ._schedules import Pace
from ._submodel import Submodel


class Kind(NamedTuple):
    """What steps differ in that are recorded one by one.

    Whether the prior is settled, whose turn it is, and which epoch it is, if callbacks
    may have changed something since the last.
    """

    settled: bool
    turn: int
    epoch: int


# From what a step is given to its measurements.
Step = Callable[[Batch, Pace, Kind], list[Tensor]]

# Steps before one is recorded: by then optimizers have their state, and libraries have
# what they set up when they are used for the first time.
N_BEFORE = 3
# Optimizers that can step with a learning rate that is on the device.
_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
# Callbacks that leave the networks and their optimizers as they are.
_STEADY = (EarlyStopping, EpochTimer, PrintLog)
# What is called at each step.
_AT_STEPS = ("on_batch_begin", "on_batch_end", "on_grad_computed")


def can_replay(submodels: list[Submodel]) -> bool:
    """Tell whether a step of these submodels can be recorded.

    Whether views, selection and networks do the same operations on each batch is for
    the caller to know.
    """
    return all(
        _is_cuda(submodel.device)
        and type(submodel.optimizer_) in _OPTIMIZERS
        and all(group.get("fused") for group in submodel.optimizer_.param_groups)
        for submodel in submodels
    ) and not any(
        getattr(type(callback), name) is not getattr(Callback, name)
        for callback in _callbacks(submodels)
        for name in _AT_STEPS
    )


def may_change(submodels: list[Submodel]) -> bool:
    """Tell whether a callback may change a network or an optimizer after an epoch."""
    return any(type(callback) not in _STEADY for callback in _callbacks(submodels))


def _callbacks(submodels: list[Submodel]) -> list[Callback]:
    return [callback for s in submodels for _, callback in s.callbacks_]


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda")


class Replay:
    """A step of all submodels, whose kernels a CUDA device gets in one call.

    Small networks keep a GPU waiting: a step is some hundreds of kernels, each of which
    takes Python longer to launch than the GPU to run. So the first steps run as they
    are, those of each epoch if the kinds tell epochs apart; then one is recorded as a
    graph that reads from tensors what differs from step to step; and later steps fill
    in these and have the graph run again.

    Parameters
    ----------
    step : callable
        From a batch and a pace to the measurements of the step.
    submodels : list of Submodel
        What it trains.
    possible : bool
        Whether steps may be recorded.
    """

    def __init__(self, step: Step, submodels: list[Submodel], possible: bool) -> None:
        self._step = step
        self._submodels = submodels
        self._possible = possible
        self._n_seen = self._epoch = 0
        self._recorded: _Recorded | None = None

    def __call__(self, batch: Batch, pace: Pace, kind: Kind) -> list[Tensor]:
        """Take the step; a step of another kind than the last is recorded anew."""
        self._n_seen = self._n_seen + 1 if kind.epoch == self._epoch else 1
        self._epoch = kind.epoch
        if not self._possible or self._n_seen <= N_BEFORE:
            self._recorded = None
            return self._step(batch, pace, kind)
        if self._recorded is not None and self._recorded.kind == kind:
            for submodel in self._submodels:
                submodel.n_steps_ += 1
        else:
            self._recorded = None  # its memory first
            self._recorded = _Recorded(self._step, self._submodels, batch, pace, kind)
        for submodel in self._submodels:
            submodel.anneal(float(pace.rate))
        return self._recorded.run(batch, pace)


class _Recorded:
    """A step as a graph, with the tensors that it reads and writes.

    To record it is not to take it: nothing has been computed when this is made.
    """

    def __init__(
        self,
        step: Step,
        submodels: list[Submodel],
        batch: Batch,
        pace: Pace,
        kind: Kind,
    ) -> None:
        self.kind = kind
        parts = {k: v.clone() for k, v in batch._asdict().items() if v is not None}
        self._inputs = batch._replace(**parts)
        self._pace = torch.tensor(pace.values(), device=batch.labeled.device)
        groups = [g for s in submodels for g in s.optimizer_.param_groups]
        before = [dict(group) for group in groups]
        for group in groups:
            group["capturable"] = True
        self._graph = cuda.CUDAGraph()
        try:
            # Other threads may go on with what they do.
            with cuda.graph(self._graph, capture_error_mode="thread_local"):
                pace = Pace.of(self._pace.unbind())
                self._outcome = step(self._inputs, pace, kind)
        except RuntimeError as error:
            raise RuntimeError(
                "A step could not be recorded as a CUDA graph. With compile=True, "
                "network, views and selection have to do the same operations on each "
                "batch, without a look at values and without copies to or from the "
                "device; compile='auto' records what is known to do so, compile=False "
                "nothing."
            ) from error
        # What the graph goes on to read has to stay.
        self._rates = [group["lr"] for group in groups]
        for group, values in zip(groups, before, strict=True):
            group.update(values)
            if "capturable" not in values:
                del group["capturable"]

    def run(self, batch: Batch, pace: Pace) -> list[Tensor]:
        """Take the step; what it returns is overwritten by the next."""
        for old, new in zip(self._inputs, batch, strict=True):
            if old is not None and new is not None:
                old.copy_(new)
        self._pace.copy_(torch.tensor(pace.values()), non_blocking=True)
        self._graph.replay()
        return self._outcome
