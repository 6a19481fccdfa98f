"""One step of training as a CUDA graph: recorded once, replayed at each later step."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PrintLog
from torch import Tensor, cuda, nn

from ..data._sampler import Batch
from ..networks import MODULES
from ..objectives._consistency import CONSISTENCIES
from ..objectives._selection import SELECTIONS
from ..views._adversarial import AdversarialView
from ..views._base import View, identity
from ..views._image import ImageView
from ..views._randaugment import RandAugmentView
from ..views._table import NeighborView, TableView
from ._schedules import ScheduleValues
from ._submodel import Submodel

# From a batch, a pace, whether the prior is settled and whose turn it is to the
# measurements of the step.
Step = Callable[[Batch, ScheduleValues, bool, int], list[Tensor]]

# Steps before one is recorded: by then optimizers have their state, and libraries have
# what they set up when they are used for the first time.
N_BEFORE = 3
# Optimizers that can step with a learning rate that is on the device.
_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
# What has the same operations for each batch.
_STEADY_PARTS = (
    type(None),
    AdversarialView,
    ImageView,
    NeighborView,
    RandAugmentView,
    TableView,
    *SELECTIONS.values(),
    *CONSISTENCIES.values(),
)
# Callbacks that leave the networks and their optimizers as they are.
_STEADY_CALLBACKS = (EarlyStopping, EpochTimer, PrintLog)
# What is called at each step.
_AT_STEPS = ("on_batch_begin", "on_batch_end", "on_grad_computed")
# Where torch keeps the hooks of modules, parameters and optimizers.
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_post_accumulate_grad_hooks",
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
)


def compiles(estimator, device: str) -> bool:
    """Tell whether layers are compiled: on demand, on a CUDA device.

    On CPUs compiled layers were no faster. An accelerator keeps steps as they are.
    """
    asked = not isinstance(estimator.compile, str) and bool(estimator.compile)
    return asked and estimator.accelerator is None and _is_cuda(device)


def may_replay(
    estimator, submodel: Submodel, views: list[View], select, companion
) -> bool:
    """Tell whether every step has the same operations, so that one may be recorded."""
    if not estimator.compile or estimator.accelerator is not None:
        return False
    if estimator.exchange == "alternating":
        return False
    is_own = type(submodel.module_.network) in MODULES.values()
    adversarial = any(type(view) is AdversarialView for view in views)
    if adversarial and (not is_own or _draws(submodel.module_)):
        # Its two passes have to draw the same dropout, which a recording cannot do.
        return False
    parts = [*views, select, companion]
    return compiles(estimator, submodel.device) or (
        is_own
        and all(part is identity or type(part) in _STEADY_PARTS for part in parts)
        and "loss" not in vars(select)
    )


def _draws(network: nn.Module) -> bool:
    """Tell whether one of the package's networks draws random numbers in training."""
    return any(
        getattr(module, "noise", 0) or (isinstance(module, nn.Dropout) and module.p)
        for module in network.modules()
    )


def _can_replay(submodels: list[Submodel], trusts: bool) -> bool:
    """Tell whether a step of these submodels can be recorded.

    Where not `trusts`, hooks may do anything, and another thread something that must
    not happen while a step is recorded.
    """
    in_reach = all(
        _is_cuda(submodel.device)
        and type(submodel.optimizer_) in _OPTIMIZERS
        and all(group.get("fused") for group in submodel.optimizer_.param_groups)
        for submodel in submodels
    ) and not any(
        getattr(type(callback), name) is not getattr(Callback, name)
        for callback in _callbacks(submodels)
        for name in _AT_STEPS
    )
    is_main = threading.current_thread() is threading.main_thread()
    return in_reach and (trusts or (is_main and not any(map(_is_hooked, submodels))))


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda")


def _is_hooked(submodel: Submodel) -> bool:
    networks = submodel.module_, submodel.ema_module_
    modules = [module for network in networks for module in network.modules()]
    parts = [*modules, *submodel.module_.parameters(), submodel.optimizer_]
    return any(getattr(part, hooks, None) for part in parts for hooks in _HOOKS)


def _callbacks(submodels: list[Submodel]) -> list[Callback]:
    return [callback for s in submodels for _, callback in s.callbacks_]


class GraphedStep:
    """A step of all submodels, whose kernels a CUDA device gets in one call.

    Small networks keep a GPU waiting: a step is some hundreds of kernels, each of which
    takes Python longer to launch than the GPU to run. So the first steps run as they
    are, those of each epoch where a callback may have changed something at the end of
    the last. Then one is recorded as a graph that reads from tensors what differs from
    step to step, and later steps fill in these and have the graph run again. It is
    recorded anew once the prior is settled, since then steps do something else.

    Parameters
    ----------
    step : callable
        It trains all submodels: where they take turns, it is not to be recorded.
    submodels : list of Submodel
    wanted : bool
        Whether steps may be recorded, by what the caller knows: that views, selection
        and networks do the same operations on each batch.
    trusts : bool
        Whether hooks, too, are to be recorded, and in any thread.
    """

    def __init__(
        self, step: Step, submodels: list[Submodel], wanted: bool, trusts: bool
    ) -> None:
        self._step = step
        self._submodels = submodels
        self._wanted, self._trusts = wanted, trusts
        self._possible = False
        self._n_seen = 0
        self._recorded: _Recorded | None = None

    def begin_epoch(self) -> None:
        """Look at what the submodels are now, after their callbacks."""
        self._possible = self._wanted and _can_replay(self._submodels, self._trusts)
        changes = any(
            type(c) not in _STEADY_CALLBACKS for c in _callbacks(self._submodels)
        )
        if changes or not self._possible:
            self._drop()
            self._n_seen = 0

    def __call__(
        self, batch: Batch, pace: ScheduleValues, settled: bool, turn: int
    ) -> list[Tensor]:
        """Take the step; what it returns may be overwritten by the next."""
        self._n_seen += 1
        if not self._possible or self._n_seen <= N_BEFORE:
            return self._step(batch, pace, settled, turn)
        if self._recorded is not None and self._recorded.settled == settled:
            for submodel in self._submodels:
                submodel.n_steps_ += 1
        else:
            self._drop()
            self._recorded = _Recorded(
                self._step, self._submodels, batch, pace, settled
            )
        for submodel in self._submodels:
            submodel.anneal(float(pace.rate))
        return self._recorded.run(batch, pace)

    def _drop(self) -> None:
        """Free the memory of the graph, in which the last gradients are, too."""
        if self._recorded is not None:
            self._recorded = None
            for submodel in self._submodels:
                submodel.optimizer_.zero_grad()


class _Recorded:
    """A step as a graph, with the tensors that it reads and writes.

    To record it is not to take it: nothing has been computed when this is made.
    """

    def __init__(
        self,
        step: Step,
        submodels: list[Submodel],
        batch: Batch,
        pace: ScheduleValues,
        settled: bool,
    ) -> None:
        self.settled = settled
        self._device = batch.labeled.device
        parts = {k: v.clone() for k, v in batch._asdict().items() if v is not None}
        self._inputs = batch._replace(**parts)
        self._pace = torch.tensor(pace.values(), device=self._device)
        groups = [g for s in submodels for g in s.optimizer_.param_groups]
        before = [dict(group) for group in groups]
        counts = [submodel.n_steps_ for submodel in submodels]
        self._graph = cuda.CUDAGraph()
        try:
            for group in groups:
                group["capturable"] = True
            with _recording(self._graph, self._device):
                pace = ScheduleValues.of(self._pace.unbind())
                self._outcome = step(self._inputs, pace, settled, 0)
        except BaseException:
            for submodel, count in zip(submodels, counts, strict=True):
                submodel.n_steps_ = count
            raise
        finally:
            # What the graph goes on to read has to stay.
            self._rates = [group["lr"] for group in groups]
            for group, values in zip(groups, before, strict=True):
                group.clear()
                group.update(values)

    def run(self, batch: Batch, pace: ScheduleValues) -> list[Tensor]:
        """Take the step; what it returns is overwritten by the next."""
        for old, new in zip(self._inputs, batch, strict=True):
            if old is not None and new is not None:
                old.copy_(new)
        self._pace.copy_(torch.tensor(pace.values()), non_blocking=True)
        with cuda.device(self._device):
            self._graph.replay()
        return self._outcome


@contextmanager
def _recording(graph: cuda.CUDAGraph, device: torch.device) -> Iterator[None]:
    """Record what is launched on the device, in this thread."""
    with cuda.device(device):
        stream = cuda.current_stream()
        try:
            # A stream of this device: torch's own is of the first that recorded.
            with cuda.graph(
                graph, stream=cuda.Stream(device), capture_error_mode="thread_local"
            ):
                yield
        except BaseException as error:
            cuda.set_stream(stream)  # torch does not, where it could not record
            is_of_memory = isinstance(error, torch.OutOfMemoryError)
            if isinstance(error, RuntimeError) and not is_of_memory:
                raise RuntimeError(
                    "A step could not be recorded as a CUDA graph. Set compile=False, "
                    "and restart Python if torch has not recovered. (With compile=True "
                    "network, views and selection have to do the same operations on "
                    "each batch, without a look at values and without copies from or "
                    "to the device.)"
                ) from error
            raise
