"""The one training loop: rounds in which partners teach students."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..data._sampler import Batch, BatchSampler
from ..objectives._class_prior import ClassPrior
from ..objectives._consistency import Consistency
from ..objectives._losses import negative_learning_loss
from ..objectives._selection import mask_and_renormalize, product_of_experts
from ..utils._distributed import Processes
from ..views._base import View
from ._checkpoint import TrainingCheckpoint
from ._cuda_graph import GraphedStep
from ._metrics import Measure, RunningMean, print_epoch, summary
from ._schedules import ScheduleValues, cosine, rampup, relaxation
from ._submodel import StudentBatch, Submodel


@dataclass
class Plan:
    """How to train: everything but the data and the networks.

    Of `n_epochs`, which the schedules are for, `n_done` are behind. Networks are
    compiled where `compiles`; where `replays`, every step has the same operations, and
    may be recorded.
    """

    select: Callable[[Tensor], Tensor]
    weak_view: View
    strong_view: View
    exchange: str | None
    companion: Consistency | None
    negative_weight: float
    balance_weight: float
    rampup: float
    companion_rampup: float
    lr: float
    anneal: bool
    n_epochs: int
    n_steps: int
    verbose: bool
    measures: list[Measure]
    ranks: Processes
    compiles: bool
    replays: bool
    n_done: int = 0


def run(
    submodels: list[Submodel],
    batches: BatchSampler,
    prior: ClassPrior,
    plan: Plan,
    history: list[dict],
    standing: TrainingCheckpoint,
) -> FloatingPointError | None:
    """Train to the end, to an interrupt, or to a loss that is not finite.

    Appends a row an epoch to `history`, and notes in `standing` how to go on from it.
    Returns the error of the last case, with the weights of the last finite epoch taken
    back.
    """
    try:
        for submodel in submodels:
            submodel.begin_training(plan.lr, plan.ranks, plan.compiles)
        return _epochs(submodels, batches, prior, plan, history, standing)
    finally:  # a callback may raise what it likes
        for submodel in submodels:
            submodel.let_go()
            # The row of an epoch that was not finished.
            del submodel.history[len(history) :]


def _epochs(
    submodels: list[Submodel],
    batches: BatchSampler,
    prior: ClassPrior,
    plan: Plan,
    history: list[dict],
    standing: TrainingCheckpoint,
) -> FloatingPointError | None:
    """Run and watch over the epochs, as `run` says."""
    error = None
    usable = True
    kept = [submodel.snapshot() for submodel in submodels]
    try:
        if plan.n_done:
            _take_up(submodels, batches, prior, plan, standing)
        for row, sample in train(submodels, batches, prior, plan):
            row = {"epoch": len(history) + 1, **row}
            finite = all(submodel.is_finite(sample) for submodel in submodels)
            if not plan.ranks.agree(finite and math.isfinite(row["train_loss"])):
                error = _divergence(row["epoch"], plan.lr, bool(history))
                break
            kept = [submodel.snapshot() for submodel in submodels]
            for measure in plan.measures:
                row |= measure(submodels)
            # What ends a fit, here or in a callback, has to be equal everywhere.
            row = plan.ranks.of_first(row)
            standing.note(submodels, prior, plan.ranks)
            history.append(row)
            if plan.verbose and plan.ranks.index == 0:
                print_epoch(row)
            if _end_epoch(submodels, row):
                break
    except KeyboardInterrupt:
        # As in skorch, what there is can be used.
        usable = all(submodel.is_finite() for submodel in submodels)
        warnings.warn(
            f"The fit was interrupted in epoch {len(history) + 1}. What was learned is "
            "kept; warm_start='resume' goes on from there.",
            stacklevel=5,
        )
    if error is not None or not usable:
        for submodel, snapshot in zip(submodels, kept, strict=True):
            submodel.restore(snapshot)
    taken_back = [submodel.end_training() for submodel in submodels]
    if any(taken_back):
        standing.keep(kept)
    return error


def _end_epoch(submodels: list[Submodel], row: dict) -> bool:
    """Call the callbacks of both submodels; tell whether one of them ends the fit."""
    ended = False
    for submodel in submodels:
        try:
            submodel.end_epoch(row)
        except KeyboardInterrupt:  # as skorch's EarlyStopping does
            ended = True
    return ended


def _take_up(
    submodels: list[Submodel],
    batches: BatchSampler,
    prior: ClassPrior,
    plan: Plan,
    standing: TrainingCheckpoint,
) -> None:
    """Go to the end of the last epoch that is behind."""
    batches.skip(plan.n_done, plan.n_steps)
    standing.restore_weights(submodels)
    for measure in plan.measures:  # since some compare with the epoch before
        measure(submodels)
    standing.restore(submodels, prior, plan.ranks)


def _divergence(epoch: int, lr: float, is_trained: bool) -> FloatingPointError:
    kept = "The weights of the last finite epoch are kept."
    return FloatingPointError(
        f"The loss became NaN or infinite in epoch {epoch}. Lower the learning rate, "
        f"for example to lr={lr / 10:g}, or rescale X if its values are huge. "
        + (kept if is_trained else "The networks are as untrained as they began.")
    )


def train(
    submodels: list[Submodel],
    batches: BatchSampler,
    prior: ClassPrior,
    plan: Plan,
) -> Iterator[tuple[dict, Tensor]]:
    """Train the two submodels; yield one row of measurements at the end of each epoch.

    Nothing is read from the device between two ends of epochs.
    """
    n_total = plan.n_epochs * plan.n_steps
    n_rampup = round(plan.rampup * n_total)
    step = plan.n_done * plan.n_steps
    take = GraphedStep(
        partial(_turn, submodels=submodels, prior=prior, plan=plan),
        submodels,
        plan.replays,
        plan.compiles,
    )
    for _ in range(plan.n_done, plan.n_epochs):
        begin = time.perf_counter()
        for submodel in submodels:
            submodel.notify("on_epoch_begin", dataset_train=None, dataset_valid=None)
        take.begin_epoch()
        measures = RunningMean()
        for batch in batches.epoch(plan.n_steps):
            pace = _pace(submodels, plan, step)
            # By then the unlabeled terms have not yet half of their weight.
            settled = step >= max(0.6 * n_rampup, min(50, n_total // 2))
            turn = step % 2 if plan.exchange == "alternating" else 0
            measures.add(take(batch, pace, settled, turn))
            step += 1
        for submodel in submodels:
            submodel.level()
        row = summary(plan.ranks.mean(measures.value()).tolist(), len(prior.prior))
        row["negative_weight"] = pace.unlabeled * plan.negative_weight
        row["seconds"] = time.perf_counter() - begin
        yield row, batch.labeled


def _pace(submodels: list[Submodel], plan: Plan, step: int) -> ScheduleValues:
    """Return what the schedules give at a step."""
    n_total = plan.n_epochs * plan.n_steps
    return ScheduleValues(
        unlabeled=rampup(step, round(plan.rampup * n_total)),
        consistency=rampup(step, round(plan.companion_rampup * n_total)),
        balance=relaxation(step, n_total),
        rate=cosine(step, n_total),
        decays=[submodel.next_decay() for submodel in submodels],
    )


def _turn(
    batch: Batch,
    pace: ScheduleValues,
    settled: bool,
    turn: int,
    submodels: list[Submodel],
    prior: ClassPrior,
    plan: Plan,
) -> list[Tensor]:
    """Take one step with the submodels whose turn it is; return its measurements."""
    prior.settled, prior.relaxation = settled, pace.balance
    lessons = _lessons(submodels, batch, prior, plan, pace, turn)
    if plan.anneal:
        for student, *_ in lessons:
            student.anneal(pace.rate)
    return [_learn(*lesson) for lesson in lessons]


def _lessons(
    submodels: list[Submodel],
    batch: Batch,
    prior: ClassPrior,
    plan: Plan,
    pace: ScheduleValues,
    turn: int,
) -> list[tuple[Submodel, StudentBatch, Tensor]]:
    """Have the partners predict; return each student of the step with its lesson."""
    partners = submodels if plan.exchange is None else submodels[::-1]
    pairs = list(zip(submodels, partners, pace.decays, strict=True))
    if plan.exchange == "alternating":
        pairs = [pairs[turn]]
    n_labeled = len(batch.labeled)
    rows = torch.cat([batch.labeled, batch.unlabeled])
    weak_rows = _views(plan.weak_view, rows, len(pairs))
    strong_rows = _views(plan.strong_view, batch.unlabeled, len(pairs))
    predictions = [
        partner.probabilities(weak[n_labeled:])
        for (_, partner, _), weak in zip(pairs, weak_rows, strict=True)
    ]
    if batch.excluded is not None:
        predictions = [mask_and_renormalize(p, batch.excluded) for p in predictions]
    believed = predictions
    if batch.log_beliefs is not None:
        believed = [product_of_experts(p, batch.log_beliefs) for p in predictions]
    for probabilities in believed:
        prior.observe(probabilities)
    lessons = []
    for (student, partner, decay), weak, strong, prediction, probabilities in zip(
        pairs, weak_rows, strong_rows, predictions, believed, strict=True
    ):
        perturb = getattr(plan.strong_view, "perturb", None)
        if perturb is not None and len(batch.unlabeled):
            strong = perturb(strong, student.logits)
        negatives = plan.select(probabilities)
        guidance = None
        if plan.companion is not None:
            guidance = plan.companion.guide(
                student, partner, weak[n_labeled:], strong, prediction
            )
            negatives = negatives & guidance.learns[:, None]
        if batch.excluded is not None:
            negatives = negatives | batch.excluded
        lesson = StudentBatch(
            torch.cat([weak[:n_labeled], strong]),
            batch.labels,
            batch.weights,
            negatives,
            batch.excluded,
            prior.prior,
            getattr(plan.select, "loss", negative_learning_loss),
            pace.unlabeled * plan.negative_weight,
            pace.unlabeled * plan.balance_weight * prior.strength,
            guidance,
            pace.companion,
            decay,
        )
        lessons.append((student, lesson, probabilities.argmax(dim=1)))
    return lessons


def _views(view: View, x: Tensor, n: int) -> tuple[Tensor, ...]:
    """Return n views of the batch, made at once: one call takes less time than n."""
    return view(torch.cat([x] * n)).tensor_split(n) if len(x) else (x,) * n


def _learn(student: Submodel, lesson: StudentBatch, pseudo_labels: Tensor) -> Tensor:
    """Take one student step.

    Returns its losses and mean prediction, and by pseudo-label the numbers of all rows,
    of rows with negative labels, and of rows that the student agrees on.
    """
    outcome = student.train_step(lesson)
    unlabeled = outcome["y_pred"][len(lesson.labels) :]
    covered = lesson.negatives.any(dim=1)
    agreed = unlabeled.argmax(dim=1) == pseudo_labels
    marks = torch.stack([torch.ones_like(covered), covered, agreed]).float()
    believed = torch.zeros(unlabeled.shape, device=unlabeled.device)
    believed.scatter_(1, pseudo_labels[:, None], 1.0)
    counts = (marks @ believed).flatten()
    return torch.cat([outcome["losses"], outcome["prediction"], counts])
