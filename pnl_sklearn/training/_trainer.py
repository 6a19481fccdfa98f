"""The training loop of two submodels."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data._sampler import Batch, BatchSampler
from ..objectives._class_prior import ClassPrior
from ..objectives._consistency import Consistency
from ..objectives._selection import (
    mask_and_renormalize,
    product_of_experts,
    selection_loss,
)
from ..objectives._temperature import TeacherTemperature
from ..utils._distributed import Processes
from ..utils._progress import Progress
from ..utils._sklearn_callbacks import FitTasks
from ..utils._threads import limit_threads
from ..utils._warnings import warn_user
from ..views._base import StudentView, View
from ._callbacks import FitNet
from ._checkpoint import Stateful, TrainingCheckpoint
from ._cuda_graph import GraphedStep
from ._metrics import EpochMetric, RunningMean, summary
from ._schedules import ScheduleValues, cosine_decay, late_decay, sigmoid_rampup
from ._submodel import StudentBatch, Submodel


@dataclass
class Trainer:
    """Trainer of two submodels: training loop, schedules and one training step.

    Parameters
    ----------
    select : callable
        Selection of pseudo-negative labels.
    weak_view, strong_view : View
    exchange : {"simultaneous", "alternating"} or None
    consistency : Consistency or None
    class_prior : ClassPrior
    temperature : TeacherTemperature
    negative_weight, balance_weight : float
        Weights of the losses after the ramp-up.
    rampup, consistency_rampup : float
        Fractions of the training in which the weights increase.
    lr : float
        Initial learning rate.
    anneal : bool
        Whether the learning rate decreases along half a cosine.
    n_epochs, n_steps : int
        Number of epochs, and of steps per epoch.
    epoch_metrics : list of callable
        Functions from the submodels to further columns of the history.
    net : FitNet
        Net with which callbacks are called.
    progress : Progress
    tasks : FitTasks
        Calls scikit-learn's callbacks.
    write_checkpoint : callable
        Called after each epoch.
    processes : Processes
    compiles : bool
        Whether layers are compiled.
    captures : bool
        Whether a step may be captured as a CUDA graph.
    n_threads : int or None
        Largest number of CPU threads; None is no limit.
    resumes : bool
        Whether an interrupted fit is resumed.
    n_done : int
        Number of epochs that it has already been trained for.
    """

    select: Callable[[Tensor], Tensor]
    weak_view: View
    strong_view: View
    exchange: str | None
    consistency: Consistency | None
    class_prior: ClassPrior
    temperature: TeacherTemperature
    negative_weight: float
    balance_weight: float
    rampup: float
    consistency_rampup: float
    lr: float
    anneal: bool
    n_epochs: int
    n_steps: int
    epoch_metrics: list[EpochMetric]
    net: FitNet
    progress: Progress
    tasks: FitTasks
    write_checkpoint: Callable[[], None]
    processes: Processes
    compiles: bool
    captures: bool
    n_threads: int | None
    resumes: bool
    n_done: int

    def fit(
        self,
        batches: BatchSampler,
        history: list[dict],
        checkpoint: TrainingCheckpoint,
    ) -> FloatingPointError | None:
        """Train for all epochs, until an interrupt, or until a loss is not finite.

        Parameters
        ----------
        batches : BatchSampler
        history : list of dict
            One record per epoch is appended.
        checkpoint : TrainingCheckpoint
            It is updated after each epoch.

        Returns
        -------
        error : FloatingPointError or None
            Error if a loss is not finite. The submodels then have the weights of the
            last epoch with finite losses.
        """
        step = GraphedStep(self.train_step, self.net, self.captures, self.compiles)
        self.net.initialize()
        try:
            with limit_threads(self.n_threads) if self.n_threads else nullcontext():
                if self.resumes:  # before learning rates are set
                    checkpoint.restore_weights(self.submodels)
                for submodel in self.submodels:
                    submodel.begin_training(self.lr, self.processes, self.compiles)
                self.net.notify_all("on_train_begin", X=None, y=None)
                return self._fit_epochs(step, batches, history, checkpoint)
        finally:  # callbacks may raise any exception
            self.net.release_training_state()
            # Remove the record of an epoch that was not completed.
            del self.net.history[len(history) :]

    @property
    def submodels(self) -> list[Submodel]:
        """The two submodels."""
        return self.net.submodels

    def _fit_epochs(
        self,
        step: GraphedStep,
        batches: BatchSampler,
        history: list[dict],
        checkpoint: TrainingCheckpoint,
    ) -> FloatingPointError | None:
        submodels = self.submodels
        error, usable = None, True
        kept = [submodel.snapshot() for submodel in submodels]
        try:
            if self.resumes:
                self._resume(batches, checkpoint)
            checkpoint.update(submodels, self._stateful, self.processes)
            self.progress.begin(self.n_epochs, self.n_steps, self.n_done)
            self.tasks.begin(self.n_epochs - self.n_done)
            for epoch in range(self.n_done, self.n_epochs):
                means, sample = self._fit_epoch(epoch, step, batches)
                row = {"epoch": len(history) + 1} | means
                finite = all(submodel.is_finite(sample) for submodel in submodels)
                finite = finite and math.isfinite(row["train_loss"])
                if not self.processes.all_true(finite):
                    error = _divergence_error(row["epoch"], self.lr, bool(history))
                    break
                for metric in self.epoch_metrics:
                    row |= metric(submodels)
                # With the same metrics, all processes end in the same epoch.
                row = self.processes.broadcast(row)
                history.append(row)
                self.progress.end_epoch(row)
                try:
                    ends = self._end_epoch(row)
                finally:  # callbacks may change weights, and draw random numbers
                    kept = [submodel.snapshot() for submodel in submodels]
                    checkpoint.update(submodels, self._stateful, self.processes)
                    checkpoint.is_stopped = self.net.is_stopped
                self.write_checkpoint()
                if ends:
                    break
        except KeyboardInterrupt:
            # As in skorch, the current weights are kept.
            usable = all(submodel.is_finite() for submodel in submodels)
            warn_user(
                f"The fit was interrupted in epoch {len(history) + 1}. The estimator "
                "has the current weights. Set warm_start='resume' and call fit again "
                "to finish the fit.",
            )
        except BaseException:
            checkpoint.keep_weights(kept)
            raise
        if error is not None or not usable:
            for submodel, snapshot in zip(submodels, kept, strict=True):
                submodel.restore(snapshot)
        self.net.notify_all("on_train_end", X=None, y=None)
        # A callback may have restored weights, and an interrupted epoch is repeated.
        if not all(map(Submodel.has_weights_of, submodels, kept)):
            checkpoint.keep_weights(kept)
        return error

    def _fit_epoch(
        self, epoch: int, step: GraphedStep, batches: BatchSampler
    ) -> tuple[dict, Tensor]:
        """Train for one epoch; return its metrics and the last labeled batch.

        No values are copied from the device before the end of the epoch.
        """
        begin = time.perf_counter()
        n_total = self.n_epochs * self.n_steps
        n_rampup = round(self.rampup * n_total)
        self.tasks.begin_epoch()
        datasets = {"dataset_train": None, "dataset_valid": None}
        self.net.notify_all("on_epoch_begin", **datasets)
        for submodel in self.submodels:
            submodel.check_trainable()
        step.begin_epoch()
        metrics = RunningMean()
        for i, batch in enumerate(batches.epoch(self.n_steps), epoch * self.n_steps):
            values = ScheduleValues(
                unlabeled=sigmoid_rampup(i, n_rampup),
                consistency=sigmoid_rampup(i, round(self.consistency_rampup * n_total)),
                balance=late_decay(i, n_total),
                lr=cosine_decay(i, n_total),
                ema_decays=[submodel.next_ema_decay() for submodel in self.submodels],
            )
            # At this step the unlabeled losses have less than half of their weights.
            freeze_prior = i >= max(0.6 * n_rampup, min(50, n_total // 2))
            turn = i % 2 if self.exchange == "alternating" else 0
            self.net.notify("on_batch_begin", batch=batch, training=True)
            of_students = step(batch, values, freeze_prior, turn)
            metrics.add(of_students)
            self.net.end_step(batch, of_students)
            self.progress.step()
        for submodel in self.submodels:
            submodel.broadcast_weights()
        means = self.processes.mean(metrics.value()).tolist()
        row = summary(means, len(self.class_prior.target))
        row["negative_weight"] = values.unlabeled * self.negative_weight
        row["seconds"] = time.perf_counter() - begin
        return row, batch.labeled

    def _end_epoch(self, row: dict) -> bool:
        """Call the callbacks; return whether one of them ends the fit."""
        for name, value in row.items():
            if not isinstance(value, list):
                self.net.history.record(name, value)
        ended = False
        try:
            self.net.notify_all("on_epoch_end", dataset_train=None, dataset_valid=None)
        except KeyboardInterrupt:
            ended = True
        return self.tasks.end_epoch() or ended

    def train_step(
        self, batch: Batch, values: ScheduleValues, freeze_prior: bool, turn: int
    ) -> list[Tensor]:
        """Do one step: teachers predict on weak views, then students are trained.

        Parameters
        ----------
        batch : Batch
        values : ScheduleValues
        freeze_prior : bool
            Whether the exponent of the class prior is constant.
        turn : int
            Index of the student if ``exchange="alternating"``.

        Returns
        -------
        metrics : list of Tensor
            Metrics of each student, see :meth:`Submodel.train_step`.
        """
        prior = self.class_prior
        prior.frozen, prior.decay = freeze_prior, values.balance
        teachers = self.submodels if self.exchange is None else self.submodels[::-1]
        pairs = list(zip(self.submodels, teachers, values.ema_decays, strict=True))
        if self.exchange == "alternating":
            pairs = [pairs[turn]]
        n_labeled = len(batch.labeled)
        samples = torch.cat([batch.labeled, batch.unlabeled])
        # All teachers predict before the first student is trained.
        weak = _augment(self.weak_view, samples, len(pairs))
        strong = _augment(self.strong_view, batch.unlabeled, len(pairs))
        predictions = [
            teacher.probabilities(x[n_labeled:])
            for (_, teacher, _), x in zip(pairs, weak, strict=True)
        ]
        if batch.excluded is not None:
            predictions = [mask_and_renormalize(p, batch.excluded) for p in predictions]
        posteriors = predictions
        if batch.log_posterior is not None:
            posteriors = [
                product_of_experts(p, batch.log_posterior) for p in predictions
            ]
        for posterior in posteriors:
            prior.update(posterior)
        # Softer predictions would make classes seem more balanced.
        posteriors = self.temperature(posteriors)
        student_batches = []
        for (student, teacher, ema_decay), x_weak, x_strong, prediction, q in zip(
            pairs, weak, strong, predictions, posteriors, strict=True
        ):
            x = x_strong
            if isinstance(self.strong_view, StudentView) and len(x):
                x = self.strong_view.perturb(x, student.logits)
            negatives = self.select(q)
            targets = None
            if self.consistency is not None:
                targets = self.consistency.targets(
                    student, teacher, x_weak[n_labeled:], x, prediction
                )
                negatives = negatives & targets.use_negatives[:, None]
            if batch.excluded is not None:
                negatives = negatives | batch.excluded
            student_batch = StudentBatch(
                inputs=torch.cat([x_weak[:n_labeled], x]),
                labels=batch.labels,
                weights=batch.weights,
                negatives=negatives,
                excluded=batch.excluded,
                pseudo_labels=q.argmax(dim=1),
                class_prior=prior.target,
                negative_loss=selection_loss(self.select),
                negative_weight=values.unlabeled * self.negative_weight,
                balance_weight=values.unlabeled * self.balance_weight * prior.weight,
                consistency=targets,
                consistency_weight=values.consistency,
                ema_decay=ema_decay,
            )
            student_batches.append((student, student_batch))
        if self.anneal:
            for student, _ in student_batches:
                student.set_lr_factor(values.lr)
        return [student.train_step(b) for student, b in student_batches]

    @property
    def _stateful(self) -> list[Stateful]:
        """What changes during a fit, beside the submodels."""
        return [self.class_prior, self.temperature]

    def _resume(self, batches: BatchSampler, checkpoint: TrainingCheckpoint) -> None:
        """Restore the state at the end of the last epoch of an interrupted fit."""
        batches.skip(self.n_done, self.n_steps)
        for metric in self.epoch_metrics:  # label_change needs the last predictions
            metric(self.submodels)
        checkpoint.restore(self.submodels, self._stateful, self.processes)


def _augment(view: View, x: Tensor, n: int) -> tuple[Tensor, ...]:
    """Return n views of the batch. One call is faster than n calls."""
    return view(torch.cat([x] * n)).tensor_split(n) if len(x) else (x,) * n


def _divergence_error(epoch: int, lr: float, is_trained: bool) -> FloatingPointError:
    kept = "The weights of the last finite epoch are kept."
    return FloatingPointError(
        f"The loss became NaN or infinite in epoch {epoch}. Decrease the learning "
        f"rate, for example to lr={lr / 10:g}, or rescale X if it has large values. "
        + (kept if is_trained else "The networks have their initial weights.")
    )
