"""The submodel: a skorch net that takes one student step and predicts."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, EpochTimer, LRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

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

# Decay, a step, of the mean prediction that is drawn to the class prior.
_MEAN_DECAY = 0.97
# Weight of the mean squared difference between the logits of two heads.
_TIE_WEIGHT = 0.01
# What an epoch that fails is taken back to.
_STATEFUL = ("module_", "ema_module_", "optimizer_")


def _call(module: nn.Module, x: Tensor, **fit_params):
    return module(x, **fit_params)


@cache
def _compiled(kind: type[nn.Module], shape: torch.Size) -> Callable:
    """Return the compiled form of a call of such a network on such a batch.

    Networks of one form share its code; each kind and shape has its own, since torch
    stops compiling a function that has been compiled eight times. Random draws are
    torch's own, so that compiled layers draw what others do. Made on demand, since
    torch.compile takes long to load.
    """
    call = FunctionType(_call.__code__.replace(), globals())
    return torch.compile(call, dynamic=False, options={"fallback_random": True})


class StudentBatch(NamedTuple):
    """What a student learns from in one step.

    The first rows of `inputs`, as many as there are `labels`, are weak views of
    labeled rows; the others are strong views of unlabeled rows, whose pseudo-negative
    labels are `negatives` and whose mean prediction is drawn to `prior`. Of these,
    `excluded` were given by people, if any were. A companion may add `guidance`. The
    average of the weights has the `decay`.
    """

    inputs: Tensor
    labels: Tensor
    weights: Tensor
    negatives: Tensor
    excluded: Tensor | None
    prior: Tensor
    negative_loss: Callable[[Tensor, Tensor], Tensor]
    negative_weight: float | Tensor
    balance_weight: Tensor
    guidance: ConsistencyTargets | None
    guidance_weight: float | Tensor
    decay: float | Tensor


class Submodel(NeuralNet):
    """One of the two networks, with its optimizer, callbacks and weight average.

    In evaluation mode it predicts with the exponential moving average of its weights
    and buffers; in training mode with the weights themselves.

    Parameters
    ----------
    module : type or nn.Module
        Network from a standardized batch to logits; an instance is copied.
    shift, scale : Tensor
        Standardization of the inputs.
    ema_decay : float or None
        Decay of the average a step; None predicts with the weights themselves.
    precision : {"float32", "bfloat16"}
        Of the layers that torch's autocast computes in bfloat16; weights are float32.
    **kwargs
        Arguments of :class:`skorch.NeuralNet`.
    """

    mean_prediction: Tensor | None
    _ranks: Processes
    _compiles = False

    def __init__(
        self,
        module,
        *,
        shift,
        scale,
        ema_decay,
        precision="float32",
        criterion=nn.CrossEntropyLoss,
        **kwargs,
    ):
        self.shift = shift
        self.scale = scale
        self.ema_decay = ema_decay
        self.precision = precision
        super().__init__(module, criterion=criterion, **kwargs)

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer())]

    def initialize_module(self):
        """Build the network and its average."""
        params = self.get_params_for("module")
        network = self.initialized_instance(self.module, params)
        if network is self.module:
            network = deepcopy(network)
            if callable(getattr(network, "reset_head", None)):
                network.reset_head()
        self.module_ = Standardized(network, self.shift, self.scale)
        self.ema_module_ = self.module_
        if self.ema_decay is not None:
            self.ema_module_ = deepcopy(self.module_).requires_grad_(False)
        self.n_steps_ = 0
        self.common_lr_ = self.lr
        return self

    def get_all_learnable_params(self):
        """Yield names and parameters of the network, without those of its average."""
        yield from self.module_.named_parameters()

    def infer(self, x, **fit_params):
        """Return logits, in evaluation mode those of the averaged weights."""
        module = self.module_ if self.module_.training else self.ema_module_
        return self._run(module, x, **fit_params)

    def _run(self, module: nn.Module, x: Tensor, **fit_params):
        # Here, not around the fit: students may run in threads of their own.
        low = self.precision == "bfloat16"
        call = _call
        if self._compiles and module.training:
            kind: type = type(module.network)
            call = _compiled(kind, x.shape)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            return call(module, x, **fit_params)

    def _set_mode(self, training: bool) -> None:
        """Switch all modules, but only if need be: it walks through every layer."""
        if self.module_.training != training:
            self._set_training(training)

    def heads(
        self, x: Tensor, module: nn.Module | None = None, **fit_params
    ) -> tuple[Tensor, Tensor]:
        """Scores of the network as it trains, and those that a companion teaches.

        They are the same but for a module with a second head, which puts out a pair.
        """
        self._set_mode(True)
        scores = self._run(module or self.module_, x, **fit_params)
        return scores if isinstance(scores, tuple) else (scores, scores)

    def logits(self, x: Tensor) -> Tensor:
        """Scores of the network as it trains."""
        return self.heads(x)[0]

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Predictions as a partner: of the network as it trains, without gradient."""
        return self.logits(x).float().softmax(dim=1)

    @torch.no_grad()
    def ema_probabilities(self, x: Tensor) -> Tensor:
        """Predictions of the averaged weights, while the network trains."""
        self._set_mode(True)
        if self.ema_module_.training:
            self.ema_module_.eval()
        return self._run(self.ema_module_, x).float().softmax(dim=1)

    @torch.no_grad()
    def log_probabilities(self, x: Tensor) -> Tensor:
        """Predictions of the trained network, float64."""
        self._set_mode(False)
        return self.infer(x).double().log_softmax(dim=1)

    def train_step_single(self, batch: StudentBatch, **fit_params):
        """Compute the loss of the lesson and its gradient; skorch does the rest."""
        learner = self._ranks.averaging(self.module_)
        logits, taught = self.heads(batch.inputs, learner, **fit_params)
        labeled, unlabeled = logits.tensor_split([len(batch.labels)])
        supervised = supervised_loss(labeled, batch.labels, batch.weights)
        if batch.excluded is not None:
            supervised = supervised + candidate_loss(unlabeled, batch.excluded)
        negative = batch.negative_loss(unlabeled, batch.negatives)
        prediction = unlabeled.detach().float().softmax(dim=1).mean(dim=0)
        running_mean = self._observe(prediction, len(unlabeled), batch.prior)
        balance = balance_loss(unlabeled, batch.prior, running_mean)
        loss = (
            supervised
            + batch.negative_weight * negative
            + batch.balance_weight * balance
        )
        if taught is not logits:
            loss = loss + _TIE_WEIGHT * F.mse_loss(taught, logits)
        consistency = torch.zeros_like(loss)
        if batch.guidance is not None:
            targets, weights, _ = batch.guidance
            of_unlabeled = taught[len(batch.labels) :]
            consistency = consistency_loss(of_unlabeled, targets, weights)
            loss = loss + batch.guidance_weight * consistency
        loss.backward()
        losses = [loss, supervised, negative, balance, consistency]
        return {
            "loss": loss.detach(),
            "y_pred": logits.detach(),
            "losses": torch.stack(losses).detach(),
            "prediction": prediction,
        }

    def _observe(self, prediction: Tensor, n_rows: int, prior: Tensor) -> Tensor:
        """Update the running mean prediction, which starts at the prior."""
        if self.mean_prediction is None:
            self.mean_prediction = prior.clone()
        if n_rows:
            # Over all ranks. Each sends gradients through its own mean, and DDP
            # averages them, which gives those of the mean over all.
            prediction = self._ranks.mean(prediction)
            self.mean_prediction.lerp_(prediction, 1 - _MEAN_DECAY)
        return self.mean_prediction

    def train_step(self, batch: StudentBatch, **fit_params) -> dict[str, Tensor]:
        """Take one optimizer step and update the average."""
        self.notify("on_batch_begin", batch=batch, training=True)
        step = super().train_step(batch, **fit_params)
        self.n_steps_ += 1
        if self.ema_decay is not None:
            self._update_average(batch.decay)
        self.notify("on_batch_end", batch=batch, training=True, **step)
        return step

    def next_decay(self) -> float:
        """Decay of the average at the next step; 0 if there is none."""
        if self.ema_decay is None:
            return 0.0
        return ema_decay_at(self.n_steps_ + 1, self.ema_decay)

    def _update_average(self, decay: float | Tensor) -> None:
        averages, values, counters = self._tensors
        if isinstance(decay, Tensor):
            torch._foreach_mul_(averages, decay)
            torch._foreach_add_(averages, torch._foreach_mul(values, 1 - decay))
        else:
            get_ema_multi_avg_fn(decay)(averages, values, None)
        for old, new in counters:
            old.copy_(new)

    def begin_training(self, lr: float, ranks: Processes, compiles: bool) -> None:
        """Set the learning rate, which annealing may have left at 0, and notify."""
        self._ranks, self._compiles = ranks, compiles
        self.level()
        for group in self.optimizer_.param_groups:
            own = group.get("base_lr", group["lr"])
            # A group that was given a rate of its own keeps it.
            base = lr if own == self.common_lr_ else own
            # The last is torch's name, for schedulers that begin with a later epoch.
            group["lr"] = group["base_lr"] = group["initial_lr"] = base
        self.common_lr_ = lr
        # Collected once, since that takes longer than averaging a small network. They
        # are not kept: skorch would not move them when it loads the net elsewhere.
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
        self._tensors = averages, values, counters
        self.mean_prediction = None
        self._best_averages: dict[EarlyStopping, dict] = {}
        self.notify("on_train_begin", X=None, y=None)

    def let_go(self) -> None:
        """Let go of what training alone needs."""
        self.optimizer_.zero_grad()
        for _, callback in self.callbacks_:
            if isinstance(callback, LRScheduler):
                # It holds the optimizer, whose state would be pickled a second time,
                # and could not be read where the device is none.
                callback.lr_scheduler_ = None
        for name in (
            "_tensors",
            "mean_prediction",
            "_ranks",
            "_compiles",
            "_best_averages",
        ):
            self.__dict__.pop(name, None)

    def end_training(self) -> bool:
        """Notify, and take back the average where a callback takes back the weights.

        Tells whether one does.
        """
        self.notify("on_train_end", X=None, y=None)
        taken_back = False
        for callback, average in self._best_averages.items():
            if callback.best_epoch_ != self.history[-1, "epoch"]:
                self.ema_module_.load_state_dict(average)
                taken_back = True
        return taken_back

    def level(self) -> None:
        """Give all ranks the first one's network and average."""
        self._ranks.level(self.module_, self.ema_module_)

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Record the measurements of an epoch and notify."""
        for name, value in row.items():
            self.history.record(name, value)
        try:
            self.notify("on_epoch_end", dataset_train=None, dataset_valid=None)
        finally:  # also where a callback ends the fit
            self._keep_best_averages(row["epoch"])

    def _keep_best_averages(self, epoch: int) -> None:
        """Keep the average of an epoch whose weights a callback may take back."""
        for _, callback in self.callbacks_:
            best = isinstance(callback, EarlyStopping) and callback.load_best
            if best and callback.best_epoch_ == epoch:
                average = deepcopy(self.ema_module_.state_dict())
                self._best_averages[callback] = average

    def is_finite(self, x: Tensor | None = None) -> bool:
        """Tell whether all weights are finite, and the predictions of x if given."""
        values = list(self.module_.parameters())
        if x is not None:
            values.append(self.log_probabilities(x).exp())
        return all(bool(value.isfinite().all()) for value in values)

    def anneal(self, factor: float | Tensor) -> None:
        """Set the learning rate of every parameter group to factor times its own."""
        for group in self.optimizer_.param_groups:
            group["lr"] = factor * group["base_lr"]

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of the weights, their average and the optimizer's state."""
        return deepcopy({n: getattr(self, n).state_dict() for n in _STATEFUL})

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take back the weights of a snapshot."""
        for name, state in snapshot.items():
            getattr(self, name).load_state_dict(state)
