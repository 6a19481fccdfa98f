"""Building the trainer from the estimator's parameters, its data and its networks."""

import math
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback, LRScheduler
from torch import Tensor

from ..data._sources import Source, make_source
from ..data._training_data import TrainingData
from ..evidence._evidence import Evidence
from ..objectives._class_prior import ClassPrior
from ..objectives._consistency import Consistency
from ..objectives._temperature import TeacherTemperature
from ..training._callbacks import FitNet, monitored
from ..training._cuda_graph import can_capture, compiles
from ..training._metrics import LABEL_CHANGE, label_change_metric, validation_metrics
from ..training._submodel import Submodel
from ..training._trainer import Trainer
from ..utils._distributed import Processes
from ..utils._progress import Progress
from ..utils._sklearn_callbacks import FitTasks
from ..views._auto import auto_views
from ..views._base import StudentView, View, identity
from ..views._image import ImageView
from ..views._randaugment import RandAugmentView
from ._parameters import as_object

# Number of samples from which automatic views are chosen, at most.
_N_SAMPLE = 1000
# Minimum number of steps per epoch. Otherwise small data would be trained too briefly.
_MIN_STEPS = 110
# Number of input values of a step, and of weights of a network, up to which a second
# CPU thread does not make steps faster.
_SMALL_STEP, _SMALL_NETWORK = 2**14, 2**19


class FitStart(NamedTuple):
    """Where a fit starts.

    Parameters
    ----------
    path : str or None
        Path of the checkpoint.
    seed : int
    n_before : int
        Epochs of earlier fits.
    n_done : int
        Epochs of this fit that were trained before it was interrupted.
    is_warm : bool
        Whether the submodels are fitted already.
    resumes : bool
        Whether an interrupted fit is resumed.
    is_read : bool
        Whether it is read from the checkpoint.
    """

    path: str | None
    seed: int
    n_before: int
    n_done: int
    is_warm: bool
    resumes: bool = False
    is_read: bool = False


class Observers(NamedTuple):
    """What is called in the course of a fit, and does not change its result by itself.

    Parameters
    ----------
    callbacks : list of (str, Callback)
        Callbacks of skorch.
    progress : Progress
    tasks : FitTasks
        Calls scikit-learn's callbacks.
    write_checkpoint : callable
    """

    callbacks: list[tuple[str, Callback]]
    progress: Progress
    tasks: FitTasks
    write_checkpoint: Callable[..., None]


def build_class_prior(
    estimator, data: TrainingData, device: str, processes: Processes
) -> ClassPrior:
    """Return the initial class prior; it is uniform without distribution alignment."""
    alignment = as_object("class_prior", estimator.class_prior)
    target = np.full(len(data.classes), 1 / len(data.classes))
    is_estimated = is_known = False
    if alignment is not None:
        alignment._validate_params()
        target = alignment.target(data.codes, data.classes)
        # The labels tell nothing if there are as many of each class.
        is_estimated = alignment.is_automatic and np.ptp(target) < 1e-9
        is_known = not alignment.is_automatic
    start = torch.as_tensor(target, dtype=torch.float32, device=device)
    return ClassPrior(start, is_estimated, processes, is_known)


def balance_weight(estimator) -> float:
    alignment = as_object("class_prior", estimator.class_prior)
    return 0.0 if alignment is None else alignment.weight


def build_trainer(
    estimator,
    data: TrainingData,
    source: Source,
    submodels: list[Submodel],
    class_prior: ClassPrior,
    evidence: Evidence,
    processes: Processes,
    observers: Observers,
    start: FitStart,
) -> Trainer:
    """Return the trainer of a fit.

    Parameters
    ----------
    estimator : PNLClassifier
    data : TrainingData
    source : Source
    submodels : list of Submodel
    class_prior : ClassPrior
    evidence : Evidence
    processes : Processes
    observers : Observers
    start : FitStart
    """
    device, shape = submodels[0].device, data.inputs.sample_shape
    is_first = not start.n_before  # further epochs have no ramp-up
    # That classes are equally frequent is only assumed where they seem to be clusters.
    is_aligned = evidence.uses_neighbors or not class_prior.is_estimated
    learns_unlabeled = estimator.negative_weight > 0 and (data.codes < 0).any()
    weak, strong = _views(
        estimator,
        source,
        len(data.inputs),
        evidence.uses_neighbors and bool(learns_unlabeled),
    )
    select = as_object("selection", estimator.selection)
    consistency = _consistency(estimator, submodels[0].ema_decay)
    n_unlabeled = 2 * estimator.batch_size  # of both students
    n_step = n_unlabeled + 2 * estimator.labeled_batch_size
    with torch.random.fork_rng([device] if device.startswith("cuda") else []):
        _check_selection(select, estimator.batch_size, len(data.classes), device)
        for name, size in [("weak_view", n_step), ("strong_view", n_unlabeled)]:
            view = getattr(estimator, name)
            if callable(view):
                # An index array makes a copy, since a view may change its input.
                index = np.resize(np.arange(len(data.codes)), size)
                _check_view(name, view, next(source.stream([index])))
    epoch_metrics = []
    if data.held_out is not None:
        inputs, codes = data.held_out
        held_out = source
        if inputs is not data.inputs:
            held_out = make_source(inputs, device, estimator.net_params)
        metric = validation_metrics(held_out, shape, codes, select, device)
        epoch_metrics.append(metric)
    if LABEL_CHANGE in monitored(observers.callbacks):
        epoch_metrics.append(label_change_metric(source, shape, data.codes, device))
    scheduled = any(
        isinstance(callback, LRScheduler) for _, callback in observers.callbacks
    )
    n_weights = sum(weight.numel() for weight in submodels[0].module_.parameters())
    is_small = n_step * math.prod(shape) <= _SMALL_STEP and n_weights <= _SMALL_NETWORK
    return Trainer(
        select=select,
        weak_view=weak,
        strong_view=strong,
        exchange=estimator.exchange,
        consistency=consistency,
        class_prior=class_prior,
        temperature=TeacherTemperature(
            None if evidence.uses_neighbors else evidence.expected_accuracy,
            device,
            processes,
        ),
        negative_weight=estimator.negative_weight,
        balance_weight=balance_weight(estimator) if is_aligned else 0.0,
        rampup=estimator.rampup if is_first else 0.0,
        consistency_rampup=consistency.rampup if is_first and consistency else 0.0,
        lr=estimator.lr,
        anneal=not scheduled,
        n_epochs=estimator.max_epochs,
        n_steps=steps_per_epoch(estimator, data.codes, processes.count),
        epoch_metrics=epoch_metrics,
        net=FitNet(
            submodels,
            callbacks=observers.callbacks,
            verbose=bool(estimator.verbose),
            max_epochs=estimator.max_epochs,
            lr=estimator.lr,
            batch_size=estimator.batch_size,
        ),
        progress=observers.progress,
        tasks=observers.tasks,
        write_checkpoint=observers.write_checkpoint,
        processes=processes,
        compiles=compiles(estimator, device),
        captures=not scheduled
        and can_capture(estimator, submodels[0], [weak, strong], select, consistency),
        n_threads=1 if device == "cpu" and is_small else None,
        resumes=start.resumes,
        n_done=start.n_done,
    )


def steps_per_epoch(estimator, codes: np.ndarray, n_processes: int = 1) -> int:
    """Return the number of steps per epoch, by default one pass or `_MIN_STEPS`."""
    if estimator.steps_per_epoch is not None:
        return estimator.steps_per_epoch
    n_labeled = int((codes >= 0).sum())
    return max(
        math.ceil((len(codes) - n_labeled) / (n_processes * estimator.batch_size)),
        math.ceil(n_labeled / (n_processes * estimator.labeled_batch_size)),
        _MIN_STEPS,
    )


def _views(
    estimator, source: Source, n_samples: int, uses_neighbors: bool
) -> list[View]:
    views = [estimator.weak_view, estimator.strong_view]
    if "auto" in [view for view in views if isinstance(view, str)]:
        index = np.linspace(0, n_samples - 1, min(n_samples, _N_SAMPLE)).astype(int)
        automatic = auto_views(next(source.stream([index])), uses_neighbors)
        views = [
            auto if isinstance(view, str) else view
            for view, auto in zip(views, automatic, strict=True)
        ]
    if isinstance(views[0], StudentView):
        raise ValueError(
            f"weak_view={views[0]!r} uses the student's predictions, but the teacher "
            "predicts on the weak view. Use it as strong_view."
        )
    return [identity if view is None else view for view in views]


def _consistency(estimator, ema_decay: float | None) -> Consistency | None:
    consistency = as_object("consistency", estimator.consistency)
    if consistency is None:
        return None
    if not isinstance(consistency, Consistency):
        raise TypeError(
            f"consistency={consistency!r} is no pnl_sklearn.objectives.Consistency: it "
            "needs the method targets and the attributes rampup and needs_ema."
        )
    if isinstance(consistency, BaseEstimator):
        consistency._validate_params()
    if consistency.needs_ema and ema_decay is None:
        raise ValueError(
            f"consistency={estimator.consistency!r} needs the EMA of the weights, but "
            "the submodels were built with ema_decay=None. Start a new fit with a "
            "decay, such as ema_decay=0.99."
        )
    return consistency


def _check_selection(
    select: Callable[[Tensor], Tensor], n_samples: int, n_classes: int, device: str
) -> None:
    """Raise if a selection does not return a mask that leaves one class per sample."""
    # From uniform to confident predictions.
    scale = torch.linspace(0.001, 10, n_samples, device=device)[:, None]
    logits = scale * torch.randn(n_samples, n_classes, device=device)
    probabilities = logits.softmax(dim=1)
    with suppress(Exception):  # a copy if possible, since calls may change its state
        select = deepcopy(select)
    mask = select(probabilities)
    expected = torch.bool, probabilities.shape
    if not isinstance(mask, Tensor) or (mask.dtype, mask.shape) != expected:
        raise ValueError(
            f"selection={select!r} returns {_describe(mask)} for probabilities of "
            f"shape {tuple(probabilities.shape)}. A pnl_sklearn.objectives.Selection "
            "returns a bool Tensor of the same shape, such as probabilities < 0.01."
        )
    if bool(mask.all(dim=1).any()):
        raise ValueError(
            f"selection={select!r} excludes every class of a sample, for example of "
            "one whose prediction is uniform. At least one class must not be selected."
        )


def _check_view(name: str, view: View, x: Tensor) -> None:
    """Raise if a view changes the dtype or shape of a batch, or makes it non-finite."""
    if x.ndim == 2 and type(view) in (ImageView, RandAugmentView):
        raise ValueError(
            f"{name}={view!r} is for images, but X is a table. If X contains flattened "
            "images, set image_shape=(channels, height, width)."
        )
    form = x.dtype, x.shape
    try:
        augmented = view(x)
    except RuntimeError as error:
        raise ValueError(
            f"{name}={view!r} failed on a float32 batch of shape {tuple(form[1])}: "
            f"{error}"
        ) from error
    if not isinstance(augmented, Tensor) or (augmented.dtype, augmented.shape) != form:
        raise ValueError(
            f"{name}={view!r} returns {_describe(augmented)} for a batch, a float32 "
            f"Tensor of shape {tuple(form[1])}. A pnl_sklearn.views.View returns a "
            "batch of the same dtype and shape."
        )
    if not augmented.isfinite().all():
        raise ValueError(f"{name}={view!r} returns NaN or infinite values.")


def _describe(value) -> str:
    if not isinstance(value, Tensor):
        return f"an object of type {type(value).__name__}"
    return f"a Tensor of dtype {value.dtype} and shape {tuple(value.shape)}"
