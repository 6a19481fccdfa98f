"""The submodel: one network with its optimizer, callbacks and EMA.

It is a skorch net: it uses skorch's initialization by ``module__...`` and
``optimizer__...``, callbacks, history and pickling across devices. It has its own
training step. Iterators, criterion and training loop of skorch are not used.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from skorch.utils import TeeGenerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..networks._base import ResettableHead
from ..networks._standardized import Standardized
from ..objectives._consistency import ConsistencyTargets
from ..objectives._losses import (
    balance_loss,
    candidate_loss,
    consistency_loss,
    supervised_loss,
)
from ..utils._distributed import Processes
from ._schedules import ema_decay_at

# Decay per step of the running mean prediction in the balance loss.
_MEAN_DECAY = 0.97
# Weight of the mean squared difference between the logits of two heads.
_HEAD_TIE_WEIGHT = 0.01
# Attributes that are restored after an epoch whose losses are not finite.
_STATEFUL = {"module_", "ema_module_", "optimizer_"}


def _call(module: nn.Module, x: Tensor, **fit_params):
    return module(x, **fit_params)


@cache
def _compiled(kind: type[nn.Module], shape: torch.Size) -> Callable:
    """Return the compiled call of a type of network on batches of a shape.

    Each type and shape has its own function, since torch compiles a function at most
    eight times. The random numbers are the same as those of layers that are not
    compiled. Functions are created on demand, since torch.compile is slow to import.
    """
    call = FunctionType(_call.__code__.replace(), globals())
    return torch.compile(call, dynamic=False, options={"fallback_random": True})


class StudentBatch(NamedTuple):
    """Inputs, targets and loss weights of one optimizer step.

    Parameters
    ----------
    inputs : Tensor of shape (n_labeled + n_unlabeled, ...)
        Weak views of labeled samples, followed by strong views of unlabeled samples.
    labels : int64 Tensor of shape (n_labeled,)
    weights : float Tensor of shape (n_labeled,)
        Sample weights.
    negatives : bool Tensor of shape (n_unlabeled, n_classes)
        Pseudo-negative labels and given negative labels.
    excluded : bool Tensor of shape (n_unlabeled, n_classes) or None
        Given negative labels.
    pseudo_labels : int64 Tensor of shape (n_unlabeled,)
        Classes predicted by the teacher, with the graph posterior if there is one.
    class_prior : Tensor of shape (n_classes,)
    negative_loss : callable
        Function from logits and `negatives` to a scalar.
    negative_weight, balance_weight : float or Tensor of shape ()
    consistency : ConsistencyTargets or None
    consistency_weight : float or Tensor of shape ()
    ema_decay : float or Tensor of shape ()
    """

    inputs: Tensor
    labels: Tensor
    weights: Tensor
    negatives: Tensor
    excluded: Tensor | None
    pseudo_labels: Tensor
    class_prior: Tensor
    negative_loss: Callable[[Tensor, Tensor], Tensor]
    negative_weight: float | Tensor
    balance_weight: float | Tensor
    consistency: ConsistencyTargets | None
    consistency_weight: float | Tensor
    ema_decay: float | Tensor


class Submodel(NeuralNet):
    """One of the two networks, with its optimizer, callbacks and EMA.

    In evaluation mode it predicts with the EMA of its weights and buffers, in training
    mode with the current weights.

    Parameters
    ----------
    module : type or nn.Module
        Network that maps a standardized batch to logits. An instance is copied.
    shift, scale : Tensor
        Standardization of the inputs.
    linear : tuple of Tensor or None
        Coefficients and intercepts of a linear classifier, whose logits are added.
    sample_shape : tuple of int
        Shape of a sample. A batch of zeros initializes lazy layers.
    ema_decay : float or None
        Decay of the EMA per step. None predicts with the current weights.
    precision : {"float32", "bfloat16"}
        "bfloat16" uses torch's autocast. Weights are float32.
    **kwargs
        Arguments of :class:`skorch.NeuralNet`.
    """

    mean_prediction: Tensor | None
    _processes: Processes
    _compiles = False
    _gradient_callbacks: Sequence[Callback] = ()

    def __init__(
        self,
        module,
        *,
        shift,
        scale,
        sample_shape,
        ema_decay,
        linear=None,
        precision="float32",
        criterion=nn.CrossEntropyLoss,
        **kwargs,
    ):
        self.shift = shift
        self.scale = scale
        self.linear = linear
        self.sample_shape = sample_shape
        self.ema_decay = ema_decay
        self.precision = precision
        super().__init__(module, criterion=criterion, **kwargs)

    @property
    def _default_callbacks(self):
        return []

    def initialize_module(self):
        """Build the network and its EMA."""
        params = self.get_params_for("module")
        network = self.initialized_instance(self.module, params)
        if network is self.module:
            # torch cannot copy lazy buffers, such as those of LazyBatchNorm2d.
            lazy = {
                id(buffer): UninitializedBuffer(
                    device=buffer.device, dtype=buffer.dtype
                )
                for buffer in network.buffers()
                if is_lazy(buffer)
            }
            network = deepcopy(network, lazy)
            if isinstance(network, ResettableHead):
                network.reset_head()
        network = network.to(self.device).float()  # batches are float32
        if any(map(is_lazy, [*network.parameters(), *network.buffers()])):
            with torch.no_grad():
                network.eval()(torch.zeros(2, *self.sample_shape, device=self.device))
        self.module_ = Standardized(network, self.shift, self.scale, self.linear)
        self.check_trainable()
        self.ema_module_ = self.module_
        if self.ema_decay is not None:
            self.ema_module_ = deepcopy(self.module_).requires_grad_(False)
        self.n_steps_ = 0
        self.common_lr_ = self.lr
        return self

    def check_trainable(self) -> None:
        """Raise if no weight can be trained."""
        if not any(weight.requires_grad for weight in self.module_.parameters()):
            raise ValueError(
                f"The module, a {type(self.module_.network).__name__}, has no weights "
                "that can be trained. Call requires_grad_(True) on it, or on its last "
                "layer. A callback such as Freezer must leave some weights."
            )

    def get_all_learnable_params(self):
        """Yield names and parameters of the network, but not of its EMA."""
        yield from self.module_.named_parameters()

    # Predictions.

    def infer(self, x, **fit_params):
        """Return logits: of the EMA in evaluation mode, of the network in training."""
        module = self.module_ if self.module_.training else self.ema_module_
        return self._run(module, x, **fit_params)

    def _run(self, module: nn.Module, x: Tensor, **fit_params):
        low = self.precision == "bfloat16"
        call = _call
        if self._compiles and module.training:
            kind: type = type(module.network)
            call = _compiled(kind, x.shape)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            return call(module, x, **fit_params)

    def _set_mode(self, training: bool) -> None:
        """Set the mode of all modules, unless it is set already, which saves time."""
        if self.module_.training != training:
            self._set_training(training)

    def heads(
        self, x: Tensor, module: nn.Module | None = None, **fit_params
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of both heads in training mode.

        The second head is trained by the consistency loss. If a network has one head,
        its logits are returned twice.
        """
        self._set_mode(True)
        logits = self._run(module or self.module_, x, **fit_params)
        return logits if isinstance(logits, tuple) else (logits, logits)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits in training mode."""
        return self.heads(x)[0]

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Predict as a teacher: with the current weights, in training mode."""
        return self.logits(x).float().softmax(dim=1)

    @torch.no_grad()
    def ema_probabilities(self, x: Tensor) -> Tensor:
        """Predict with the EMA of the weights, in evaluation mode, during training."""
        self._set_mode(True)
        if self.ema_module_.training:
            self.ema_module_.eval()
        return self._run(self.ema_module_, x).float().softmax(dim=1)

    @torch.no_grad()
    def log_probabilities(self, x: Tensor) -> Tensor:
        """Return float64 log-probabilities, in evaluation mode."""
        self._set_mode(False)
        return self.infer(x).double().log_softmax(dim=1)

    # One step.

    def train_step(self, batch: StudentBatch, **fit_params) -> Tensor:
        """Do one optimizer step and update the EMA.

        Parameters
        ----------
        batch : StudentBatch
        **fit_params
            Passed to the module.

        Returns
        -------
        metrics : Tensor of shape (5 + 4 * n_classes,)
            Losses (total, supervised, negative, balance, consistency) and mean
            prediction of the unlabeled samples. Then, by pseudo-label, the numbers of
            all samples, of samples with a negative label, and of samples with the same
            class predicted by the student.
        """
        self.notify("on_batch_begin", batch=batch, training=True)
        network = self._processes.wrap(self.module_)
        step: dict[str, Tensor] = {}

        def closure() -> Tensor:
            self.optimizer_.zero_grad()
            logits, second_logits = self.heads(batch.inputs, network, **fit_params)
            labeled, unlabeled = logits.tensor_split([len(batch.labels)])
            supervised = supervised_loss(labeled, batch.labels, batch.weights)
            if batch.excluded is not None:
                supervised = supervised + candidate_loss(unlabeled, batch.excluded)
            negative = batch.negative_loss(unlabeled, batch.negatives)
            prediction = unlabeled.detach().float().softmax(dim=1).mean(dim=0)
            running_mean = self._update_mean_prediction(prediction, batch)
            balance = balance_loss(unlabeled, batch.class_prior, running_mean)
            loss = (
                supervised
                + batch.negative_weight * negative
                + batch.balance_weight * balance
            )
            if second_logits is not logits:
                loss = loss + _HEAD_TIE_WEIGHT * F.mse_loss(second_logits, logits)
            consistency = torch.zeros_like(loss)
            if batch.consistency is not None:
                targets, weights, _ = batch.consistency
                of_unlabeled = second_logits[len(batch.labels) :]
                consistency = consistency_loss(of_unlabeled, targets, weights)
                loss = loss + batch.consistency_weight * consistency
            loss.backward()
            losses = [loss, supervised, negative, balance, consistency]
            step["loss"], step["y_pred"] = loss.detach(), logits.detach()
            step["metrics"] = torch.cat([torch.stack(losses).detach(), prediction])
            self.notify(
                "on_grad_computed",
                named_parameters=TeeGenerator(self.get_all_learnable_params()),
                batch=batch,
                training=True,
            )
            return step["loss"]

        self.optimizer_.step(closure)
        self.n_steps_ += 1
        if self.ema_decay is not None:
            self._update_ema(batch.ema_decay)
        self.notify("on_batch_end", batch=batch, training=True, **step)
        unlabeled = step["y_pred"][len(batch.labels) :]
        covered = batch.negatives.any(dim=1)
        agreed = unlabeled.argmax(dim=1) == batch.pseudo_labels
        flags = torch.stack([torch.ones_like(covered), covered, agreed]).float()
        one_hot = torch.zeros(unlabeled.shape, device=unlabeled.device)
        one_hot.scatter_(1, batch.pseudo_labels[:, None], 1.0)
        return torch.cat([step["metrics"], (flags @ one_hot).flatten()])

    def _update_mean_prediction(
        self, prediction: Tensor, batch: StudentBatch
    ) -> Tensor:
        """Update the running mean prediction, which starts at the class prior."""
        if self.mean_prediction is None:
            self.mean_prediction = batch.class_prior.clone()
        if len(batch.negatives):
            # The mean is over all processes. Each process computes gradients of its own
            # mean. DDP averages them, which gives the gradients of the common mean.
            prediction = self._processes.mean(prediction)
            self.mean_prediction.lerp_(prediction, 1 - _MEAN_DECAY)
        return self.mean_prediction

    def next_ema_decay(self) -> float:
        """Return the decay of the EMA at the next step, or 0 without an EMA."""
        if self.ema_decay is None:
            return 0.0
        return ema_decay_at(self.n_steps_ + 1, self.ema_decay)

    def _update_ema(self, decay: float | Tensor) -> None:
        averages, values, counters = self._ema_tensors
        if isinstance(decay, Tensor):
            torch._foreach_mul_(averages, decay)
            torch._foreach_add_(averages, torch._foreach_mul(values, 1 - decay))
        else:
            get_ema_multi_avg_fn(decay)(averages, values, None)
        for old, new in counters:
            old.copy_(new)

    def set_lr_factor(self, factor: float | Tensor) -> None:
        """Multiply the initial learning rate of each parameter group by `factor`."""
        for group in self.optimizer_.param_groups:
            group["lr"] = factor * group["base_lr"]

    # Beginnings and ends.

    def set_callbacks(
        self, callbacks: list[tuple[str, Callback]], of_gradients: list[Callback]
    ) -> None:
        """Set the callbacks of this submodel, and those that both submodels share.

        Only the method `on_grad_computed` of the latter is called.
        """
        self.callbacks, self._gradient_callbacks = callbacks, of_gradients
        self.initialize_callbacks()

    def on_grad_computed(self, net, named_parameters, **kwargs):
        """Call the callbacks of both submodels."""
        for callback in self._gradient_callbacks:
            callback.on_grad_computed(self, named_parameters=named_parameters, **kwargs)

    def on_epoch_begin(self, net, **kwargs):
        """Do nothing: the history is shared, and :class:`FitNet` begins its rows."""

    def on_batch_begin(self, net, **kwargs):
        """Do nothing, see `on_epoch_begin`."""

    def begin_training(self, lr: float, processes: Processes, compiles: bool) -> None:
        """Set the initial learning rates."""
        self._processes, self._compiles = processes, compiles
        self.broadcast_weights()
        for group in self.optimizer_.param_groups:
            own = group.get("base_lr", group["lr"])
            # A group whose learning rate is set in net_params keeps it.
            base = lr if own == self.common_lr_ else own
            # Schedulers of torch that begin with a later epoch need "initial_lr".
            group["lr"] = group["base_lr"] = group["initial_lr"] = base
        self.common_lr_ = lr
        # Collecting the tensors takes longer than the EMA of a small network, so it is
        # done once per fit. Pickles must not contain them, since skorch would not move
        # them to another device.
        pairs = list(
            zip(
                self.ema_module_.state_dict().values(),
                self.module_.state_dict().values(),
                strict=True,
            )
        )
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        averages, values = map(list, zip(*floating, strict=True))
        counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._ema_tensors = averages, values, counters
        self.mean_prediction = None

    def release_training_state(self) -> None:
        """Delete gradients and attributes that are used in training only."""
        self.optimizer_.zero_grad()
        for _, callback in self.callbacks_:
            if isinstance(callback, LRScheduler):
                # It contains the optimizer, whose state would be pickled twice, and
                # could not be loaded on a machine without the device.
                callback.lr_scheduler_ = None
        for name in (
            "_ema_tensors",
            "mean_prediction",
            "_processes",
            "_compiles",
            "_gradient_callbacks",
        ):
            self.__dict__.pop(name, None)

    def broadcast_weights(self) -> None:
        """Copy the network and EMA of the first process to all processes."""
        self._processes.broadcast_weights(self.module_, self.ema_module_)

    def is_finite(self, x: Tensor | None = None) -> bool:
        """Tell whether all weights, and predictions of x if given, are finite."""
        values = list(self.module_.parameters())
        if x is not None:
            values.append(self.log_probabilities(x).exp())
        return all(bool(value.isfinite().all()) for value in values)

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of the weights, their EMA and the optimizer's state."""
        states = deepcopy({n: getattr(self, n).state_dict() for n in _STATEFUL})
        trained = [p.requires_grad for p in self.module_.parameters()]
        return states | {"n_steps": self.n_steps_, "requires_grad": trained}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Load a snapshot."""
        for name in _STATEFUL & snapshot.keys():
            getattr(self, name).load_state_dict(snapshot[name])
        self.n_steps_ = snapshot["n_steps"]
        parameters = self.module_.parameters()
        for parameter, trained in zip(
            parameters, snapshot["requires_grad"], strict=True
        ):
            parameter.requires_grad_(trained)
        # Fused optimizers need tensors in the memory format of the weights.
        for weight, values in self.optimizer_.state.items():
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    values[key] = torch.empty_like(weight, dtype=value.dtype)
                    values[key].copy_(value)

    def has_weights_of(self, snapshot: dict[str, Any]) -> bool:
        """Tell whether the network and its EMA are those of a snapshot."""
        return all(
            torch.equal(value, snapshot[name][key])
            for name in ("module_", "ema_module_")
            for key, value in getattr(self, name).state_dict().items()
        )
