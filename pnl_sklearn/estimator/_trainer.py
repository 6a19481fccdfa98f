"""From the estimator's parameters and its inputs to what the training loop is told."""

import math
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy

import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch.callbacks import LRScheduler
from torch import Tensor

from ..data._inputs import Inputs
from ..data._sampler import BatchSampler
from ..data._sources import Source
from ..data._training_data import TrainingData
from ..graph._beliefs import class_beliefs, may_believe
from ..objectives._class_prior import ClassPrior
from ..objectives._consistency import CONSISTENCIES
from ..objectives._selection import SELECTIONS
from ..training._callbacks import monitored, named_callbacks
from ..training._cuda_graph import compiles, may_replay
from ..training._metrics import LABEL_CHANGE, label_change_metric, validation_metrics
from ..training._submodel import Submodel
from ..training._trainer import Plan
from ..utils._distributed import Processes
from ..views._auto import auto_views
from ..views._base import View, identity
from ..views._image import ImageView
from ..views._randaugment import RandAugmentView
from ._networks import make_source

# Source that the automatic views look at.
_SAMPLE = 1000
# Optimizer steps that an epoch has at least, so that small data train long enough.
_MIN_STEPS = 110
# The least that a class is believed in, by neighbors.
_TINY = 1e-9


def build_batches(
    estimator,
    given: TrainingData,
    rows: Source,
    device: str,
    seed: int,
    ranks: Processes,
    prior: ClassPrior,
) -> BatchSampler:
    """Cut the rows into two streams of batches."""
    return BatchSampler(
        rows,
        given.codes,
        given.weights,
        (estimator.labeled_batch_size, estimator.batch_size),
        device,
        np.random.default_rng(seed),
        given.excluded,
        given.chances,
        ranks,
        _log_beliefs(estimator, given, rows, prior, ranks),
    )


def _log_beliefs(
    estimator, given: TrainingData, rows: Source, prior: ClassPrior, ranks: Processes
) -> np.ndarray | None:
    """What neighbors tell of the classes of rows, where negatives use it."""
    weight = estimator.graph_weight
    shape, n_rows = given.inputs.sample_shape, len(given.codes)
    features = estimator.graph_features
    if isinstance(features, type):
        raise _of_class("graph_features", features)
    features = None if isinstance(features, str) else features
    is_used = weight and estimator.negative_weight and (given.codes < 0).any()
    if not is_used or not may_believe(n_rows, shape, features is not None):
        return None
    codes = given.codes.copy()
    codes[np.flatnonzero(codes >= 0)[given.weights == 0]] = -1
    drawn_to = prior.prior.cpu().numpy() if _balance_weight(estimator) else None
    beliefs = class_beliefs(
        rows,
        shape,
        codes,
        len(estimator.classes_),
        features,
        drawn_to,
        float(prior.strength),
        bool(estimator.verbose) and ranks.index == 0,
    )
    return None if beliefs is None else np.float32(weight) * np.log(beliefs.clip(_TINY))


def _balance_weight(estimator) -> float:
    """Weight of the pull to the class prior; 0 without one."""
    return 0.0 if estimator.class_prior is None else estimator.balance_weight


def build_plan(
    estimator,
    given: TrainingData,
    rows: Source,
    submodels: list[Submodel],
    ranks: Processes,
) -> Plan:
    """Collect what the training loop needs to know."""
    weak, strong = _views(estimator, given.inputs, rows)
    select = _selection(estimator)
    device = submodels[0].device
    with torch.random.fork_rng([device] if device.startswith("cuda") else []):
        _try_selection(select, estimator.batch_size, len(estimator.classes_), device)
        # On as many rows as a step has, of both students.
        n_unlabeled = 2 * estimator.batch_size
        n_rows = n_unlabeled + 2 * estimator.labeled_batch_size
        for name, size in [("weak_view", n_rows), ("strong_view", n_unlabeled)]:
            view = getattr(estimator, name)
            if callable(view):
                # By an array, which makes a copy: a view may write to what it is given.
                index = np.resize(np.arange(len(given.codes)), size)
                _try_view(name, view, next(rows.stream([index])))
    shape = given.inputs.sample_shape
    measures = []
    if given.held_out is not None:
        inputs, codes = given.held_out
        held_out = rows
        if inputs is not given.inputs:
            held_out = make_source(inputs, device, estimator.net_params or {})
        measures.append(validation_metrics(held_out, shape, codes, select, device))
    if LABEL_CHANGE in monitored(named_callbacks(estimator)):
        measures.append(label_change_metric(rows, shape, given.codes, device))
    companion = _companion(estimator, submodels[0].ema_decay)
    scheduled = any(
        isinstance(callback, LRScheduler) for _, callback in named_callbacks(estimator)
    )
    return Plan(
        select=select,
        weak_view=weak,
        strong_view=strong,
        exchange=estimator.exchange,
        companion=companion,
        negative_weight=estimator.negative_weight,
        balance_weight=_balance_weight(estimator),
        rampup=estimator.rampup,
        companion_rampup=getattr(companion, "rampup", 0.0),
        lr=estimator.lr,
        anneal=not scheduled,
        n_epochs=estimator.max_epochs,
        n_steps=steps_per_epoch(estimator, given.codes, ranks.count),
        verbose=bool(estimator.verbose),
        measures=measures,
        ranks=ranks,
        compiles=compiles(estimator, device),
        replays=not scheduled
        and may_replay(estimator, submodels[0], [weak, strong], select, companion),
    )


def _selection(estimator) -> Callable[[Tensor], Tensor]:
    selection = estimator.selection
    if isinstance(selection, type):
        raise _of_class("selection", selection)
    return SELECTIONS[selection]() if isinstance(selection, str) else selection


def _try_selection(select, n_rows: int, n_classes: int, device: str) -> None:
    """Refuse a selection that makes something else than a mask."""
    # Of rows of which nothing is known, up to rows that are all but sure.
    scale = torch.linspace(0.001, 10, n_rows, device=device)[:, None]
    logits = scale * torch.randn(n_rows, n_classes, device=device)
    probabilities = logits.softmax(dim=1)
    with suppress(Exception):  # a copy, if there can be one: it may keep what it sees
        select = deepcopy(select)
    mask = select(probabilities)
    expected = torch.bool, probabilities.shape
    if not isinstance(mask, Tensor) or (mask.dtype, mask.shape) != expected:
        raise ValueError(
            f"selection={select!r} makes {_described(mask)} of probabilities of shape "
            f"{tuple(probabilities.shape)}. It has to be a bool Tensor of that shape, "
            "such as probabilities < 0.01."
        )
    if bool(mask.all(dim=1).any()):
        raise ValueError(
            f"selection={select!r} excludes every class of a row, such as one whose "
            "classes are about as probable as each other. Leave one class at least."
        )


def _try_view(name: str, view: View, x: Tensor) -> None:
    """Refuse a view that changes the form of a batch, or its numbers to none."""
    if x.ndim == 2 and type(view) in (ImageView, RandAugmentView):
        raise ValueError(
            f"{name}={view!r} is for images, but X is a table. If its rows are images, "
            "give their image_shape=(channels, height, width)."
        )
    form = x.dtype, x.shape
    viewed = view(x)
    if not isinstance(viewed, Tensor) or (viewed.dtype, viewed.shape) != form:
        raise ValueError(
            f"{name}={view!r} makes {_described(viewed)} of a batch, a float32 Tensor "
            f"of shape {tuple(form[1])}. It has to return a batch of the same form."
        )
    if not viewed.isfinite().all():
        raise ValueError(f"{name}={view!r} makes NaN or infinite values.")


def _described(value) -> str:
    if not isinstance(value, Tensor):
        return f"an object of type {type(value).__name__}"
    return f"a Tensor of dtype {value.dtype} and shape {tuple(value.shape)}"


def steps_per_epoch(estimator, codes: np.ndarray, n_ranks: int = 1) -> int:
    """Steps in an epoch: as given, or as many as one pass takes, but enough."""
    if estimator.steps_per_epoch is not None:
        return estimator.steps_per_epoch
    n_labeled = int((codes >= 0).sum())
    return max(
        math.ceil((len(codes) - n_labeled) / (n_ranks * estimator.batch_size)),
        math.ceil(n_labeled / (n_ranks * estimator.labeled_batch_size)),
        _MIN_STEPS,
    )


def _of_class(name: str, given: type) -> ValueError:
    return ValueError(
        f"{name}={given!r} is a class. Give an object of it: {name}={given.__name__}()."
    )


def _companion(estimator, ema_decay: float | None):
    companion = estimator.consistency
    if isinstance(companion, str):
        companion = CONSISTENCIES[companion]()
    if isinstance(companion, type):
        raise _of_class("consistency", companion)
    if isinstance(companion, BaseEstimator):
        companion._validate_params()
    if getattr(companion, "needs_ema", False) and ema_decay is None:
        raise ValueError(
            f"consistency={estimator.consistency!r} needs the average of the weights, but "
            "the submodels were built with ema_decay=None. Fit anew with a decay, for "
            "example ema_decay=0.99."
        )
    return companion


def _views(estimator, inputs: Inputs, rows: Source) -> list[View]:
    given = [estimator.weak_view, estimator.strong_view]
    if "auto" in [view for view in given if isinstance(view, str)]:
        index = np.linspace(0, len(inputs) - 1, min(len(inputs), _SAMPLE)).astype(int)
        automatic = auto_views(next(rows.stream([index])))
        given = [
            auto if isinstance(view, str) else view
            for view, auto in zip(given, automatic, strict=True)
        ]
    if hasattr(given[0], "perturb"):
        raise ValueError(
            f"weak_view={given[0]!r} asks the student, but it is the partner that sees "
            "weak views. Give it as the strong view."
        )
    return [identity if view is None else view for view in given]


def build_prior(
    estimator, codes: np.ndarray, device: str, ranks: Processes
) -> ClassPrior:
    """Turn `class_prior` into the distribution that mean predictions are drawn to."""
    n_classes = len(estimator.classes_)
    prior = np.full(n_classes, 1 / n_classes)
    given = estimator.class_prior
    if isinstance(given, str):
        if given == "labeled":
            prior = np.bincount(codes[codes >= 0], minlength=n_classes)
    elif given is not None:
        if hasattr(given, "keys") and not hasattr(given, "columns"):
            # Of a dict or a Series.
            given = _in_order(given, estimator.classes_)
        prior = np.asarray(given, dtype=float)
        valid = prior.shape == (n_classes,) and np.isfinite(prior).all()
        if not valid or (prior < 0).any() or not prior.sum() > 0:
            raise ValueError(
                f"class_prior={given!r} has to hold one share, not negative, for each "
                f"of the {n_classes} classes."
            )
    shares = torch.as_tensor(prior / prior.sum(), dtype=torch.float32, device=device)
    follows = isinstance(given, str) and given == "auto"
    return ClassPrior(shares, follows, ranks)


def _in_order(shares, classes: np.ndarray) -> list[float]:
    """Return the values of a dict or Series in the order of classes.

    A Series with the default index has them in this order already.
    """
    by_class = dict(shares.items())
    if len(shares) == len(by_class) and set(by_class) == set(classes.tolist()):
        return [by_class[name] for name in classes.tolist()]
    names = list(shares.keys())
    if isinstance(shares, dict) or names != list(range(len(names))):
        raise ValueError(
            f"class_prior has shares of {names}, but the classes are "
            f"{classes.tolist()}. Name each of them once, or give an array in that "
            "order."
        )
    return list(shares)
