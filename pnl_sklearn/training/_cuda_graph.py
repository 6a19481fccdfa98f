"""One training step as a CUDA graph: captured once, replayed at each later step."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from skorch.callbacks import EarlyStopping, EpochTimer, PrintLog
from torch import Tensor, cuda, nn

from ..data._sampler import Batch
from ..views._adversarial import AdversarialView
from ..views._base import View, identity
from ._callbacks import FitNet, acts_on_steps
from ._schedules import ScheduleValues
from ._submodel import Submodel

# Function from a batch, the values of the schedules, whether the class prior is frozen,
# and the index of the student to the metrics of the students.
Step = Callable[[Batch, ScheduleValues, bool, int], list[Tensor]]

# Number of steps before one is captured, in which optimizers and libraries initialize
# their state.
N_WARMUP_STEPS = 3
# Optimizers whose learning rate may be a tensor on the device.
_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
# Callbacks that do not change the networks and their optimizers.
_PASSIVE_CALLBACKS = (EarlyStopping, EpochTimer, PrintLog)
# Attributes with the hooks of modules, parameters and optimizers.
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
    """Tell whether layers are compiled: with ``compile=True``, on a CUDA device.

    On CPUs, compiled layers are not faster.
    """
    asked = not isinstance(estimator.compile, str) and bool(estimator.compile)
    return asked and estimator.accelerator is None and _is_cuda(device)


def can_capture(
    estimator, submodel: Submodel, views: list[View], select, consistency
) -> bool:
    """Tell whether a step can be captured: whether all steps do the same operations.

    With ``compile=True`` this is assumed. Otherwise network, views, selection and
    consistency must declare it by ``capturable = True``.
    """
    if not estimator.compile or estimator.accelerator is not None:
        return False
    if estimator.exchange == "alternating":
        return False
    network = submodel.module_.network
    if any(type(view) is AdversarialView for view in views) and (
        not _is_capturable(network) or _is_random(submodel.module_)
    ):
        # Its two passes need the same dropout masks, which is impossible in a graph.
        return False
    if compiles(estimator, submodel.device):
        return True
    # The operations of a loss that was set on a selection are unknown.
    parts = [network, *views, select, consistency]
    return all(map(_is_capturable, parts)) and "loss" not in vars(select)


def _is_capturable(part) -> bool:
    """Tell whether the class of a part declares it, without its base classes."""
    if part is None or part is identity:
        return True
    return bool(vars(type(part)).get("capturable", False))


def _is_random(network: nn.Module) -> bool:
    """Tell whether a network of this package uses random numbers in training."""
    return any(
        getattr(module, "noise", 0) or (isinstance(module, nn.Dropout) and module.p)
        for module in network.modules()
    )


def _is_ready(net: FitNet, allow_hooks: bool) -> bool:
    """Tell whether a step of these submodels can be captured.

    Unless `allow_hooks`, there must be no hooks, and the step must be in the main
    thread.
    """
    supported = all(
        _is_cuda(submodel.device)
        and type(submodel.optimizer_) in _OPTIMIZERS
        and all(group.get("fused") for group in submodel.optimizer_.param_groups)
        for submodel in net.submodels
    ) and not any(acts_on_steps(callback) for _, callback in net.all_callbacks())
    is_main = threading.current_thread() is threading.main_thread()
    return supported and (
        allow_hooks or (is_main and not any(map(_has_hooks, net.submodels)))
    )


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda")


def _has_hooks(submodel: Submodel) -> bool:
    networks = submodel.module_, submodel.ema_module_
    modules = [module for network in networks for module in network.modules()]
    parts = [*modules, *submodel.module_.parameters(), submodel.optimizer_]
    return any(getattr(part, hooks, None) for part in parts for hooks in _HOOKS)


class GraphedStep:
    """A step of all submodels that is captured as a CUDA graph and replayed.

    A step of small networks launches hundreds of kernels, and launching them takes
    longer than running them. Replaying a graph launches all of them at once.

    The first steps are not captured. Then a step is captured as a graph, whose inputs
    are tensors. Later steps copy their batch to these tensors and replay the graph. A
    step is captured again after the class prior is frozen, since its operations then
    differ. After a callback that may change the networks, it is captured again, too.

    Parameters
    ----------
    step : callable
        Step of all submodels.
    net : FitNet
    enabled : bool
        Whether steps may be captured.
    allow_hooks : bool
        Whether steps with hooks, and in any thread, may be captured.
    """

    def __init__(
        self, step: Step, net: FitNet, enabled: bool, allow_hooks: bool
    ) -> None:
        self._step = step
        self._net, self._submodels = net, net.submodels
        self._enabled, self._allow_hooks = enabled, allow_hooks
        self._is_ready = False
        self._n_calls = 0
        self._captured: _CapturedStep | None = None

    def begin_epoch(self) -> None:
        """Check whether steps can be captured after the callbacks of an epoch."""
        self._is_ready = self._enabled and _is_ready(self._net, self._allow_hooks)
        changes = any(
            type(c) not in _PASSIVE_CALLBACKS for _, c in self._net.all_callbacks()
        )
        if changes or not self._is_ready:
            self._drop()
            self._n_calls = 0

    def __call__(
        self, batch: Batch, values: ScheduleValues, freeze_prior: bool, turn: int
    ) -> list[Tensor]:
        """Do the step. The next step may overwrite the tensors that are returned."""
        self._n_calls += 1
        if not self._is_ready or self._n_calls <= N_WARMUP_STEPS:
            return self._step(batch, values, freeze_prior, turn)
        captured = self._captured
        if captured is not None and captured.freeze_prior == freeze_prior:
            for submodel in self._submodels:
                submodel.n_steps_ += 1
        else:
            self._drop()
            captured = _CapturedStep(
                self._step, self._submodels, batch, values, freeze_prior
            )
            self._captured = captured
        for submodel in self._submodels:
            submodel.set_lr_factor(float(values.lr))
        return captured.run(batch, values)

    def _drop(self) -> None:
        """Free the memory of the graph, which contains the last gradients, too."""
        if self._captured is not None:
            self._captured = None
            for submodel in self._submodels:
                submodel.optimizer_.zero_grad()


class _CapturedStep:
    """A step as a CUDA graph, with its input and output tensors.

    The step is captured without being run.
    """

    def __init__(
        self,
        step: Step,
        submodels: list[Submodel],
        batch: Batch,
        values: ScheduleValues,
        freeze_prior: bool,
    ) -> None:
        self.freeze_prior = freeze_prior
        self._device = batch.labeled.device
        parts = {k: v.clone() for k, v in batch._asdict().items() if v is not None}
        self._inputs = batch._replace(**parts)
        self._values = torch.tensor(values.to_list(), device=self._device)
        groups = [g for s in submodels for g in s.optimizer_.param_groups]
        before = [dict(group) for group in groups]
        counts = [submodel.n_steps_ for submodel in submodels]
        self._graph = cuda.CUDAGraph()
        try:
            for group in groups:
                group["capturable"] = True
            with _capture(self._graph, self._device):
                values = ScheduleValues.from_list(self._values.unbind())
                self._outcome = step(self._inputs, values, freeze_prior, 0)
        except BaseException:
            for submodel, count in zip(submodels, counts, strict=True):
                submodel.n_steps_ = count
            raise
        finally:
            # The graph reads these tensors, so that they must not be freed.
            self._learning_rates = [group["lr"] for group in groups]
            for group, settings in zip(groups, before, strict=True):
                group.clear()
                group.update(settings)

    def run(self, batch: Batch, values: ScheduleValues) -> list[Tensor]:
        """Do the step. The next step overwrites the tensors that are returned."""
        for old, new in zip(self._inputs, batch, strict=True):
            if old is not None and new is not None:
                old.copy_(new)
        self._values.copy_(torch.tensor(values.to_list()), non_blocking=True)
        with cuda.device(self._device):
            self._graph.replay()
        return self._outcome


@contextmanager
def _capture(graph: cuda.CUDAGraph, device: torch.device) -> Iterator[None]:
    """Capture the kernels that this thread launches on the device."""
    with cuda.device(device):
        stream = cuda.current_stream()
        try:
            # torch's default stream of captures may be of another device.
            with cuda.graph(
                graph, stream=cuda.Stream(device), capture_error_mode="thread_local"
            ):
                yield
        except BaseException as error:
            cuda.set_stream(stream)  # torch does not restore it after an error
            is_of_memory = isinstance(error, torch.OutOfMemoryError)
            if isinstance(error, RuntimeError) and not is_of_memory:
                raise RuntimeError(
                    "A step could not be captured as a CUDA graph. Set compile=False, "
                    "and restart Python if torch still raises errors. (With "
                    "compile=True, the network, the views and the selection must do "
                    "the same operations on each batch, independently of its values "
                    "and without copies from or to the device.)"
                ) from error
            raise
