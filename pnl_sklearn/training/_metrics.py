"""Metrics of a fit: the columns of `history_`, and a warning of class collapse."""

import math
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from ..data._sources import Source, chunks, unlabeled_chunks
from ..exceptions import UnlabeledDataWarning
from ..objectives._class_prior import ClassPrior
from ..utils._warnings import warn_user
from ._predict import concatenate_predictions, log_probabilities
from ._submodel import Submodel

# Function from the submodels to metrics at the end of an epoch.
EpochMetric = Callable[[list[Submodel]], dict[str, float]]

# Numeric columns of the history, which callbacks can monitor.
COLUMNS = (
    "epoch",
    "train_loss",
    "supervised_loss",
    "negative_loss",
    "balance_loss",
    "consistency_loss",
    "teacher_student_agreement",
    "negative_coverage",
    "negative_weight",
    "seconds",
)
# Columns that validation samples add.
VALIDATED = ("valid_loss", "valid_accuracy", "valid_negative_precision")
# Column that is recorded if a callback monitors it.
LABEL_CHANGE = "label_change"


class RunningMean:
    """Mean of vectors that stay on the device."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._n = 0

    def add(self, vectors: list[Tensor]) -> None:
        """Add some vectors."""
        for vector in vectors:
            # A copy, since a replayed CUDA graph overwrites its tensors.
            total = self._total
            self._total = vector.clone() if total is None else total.add_(vector)
            self._n += 1

    def value(self) -> Tensor:
        """Return the mean, on the device."""
        assert self._total is not None
        return self._total / self._n


def summary(means: list[float], n_classes: int) -> dict:
    """Return the record of an epoch for the history, from its mean metrics."""
    names = ["train_loss", "supervised_loss", "negative_loss", "balance_loss"]
    names += ["consistency_loss"]
    row: dict = dict(zip(names, means, strict=False))
    by_class = np.reshape(means[len(names) :], (4, n_classes))
    distribution, predicted, covered, agreed = by_class
    n_samples = predicted.sum() or math.nan
    row["teacher_student_agreement"] = float(agreed.sum() / n_samples)
    row["negative_coverage"] = float(covered.sum() / n_samples)
    row["class_distribution"] = distribution.tolist()
    coverage = np.full(n_classes, math.nan)
    np.divide(covered, predicted, out=coverage, where=predicted > 0)
    row["class_coverage"] = coverage.tolist()
    return row


def validation_metrics(
    source: Source,
    shape: tuple[int, ...],
    codes: np.ndarray,
    select: Callable[[Tensor], Tensor],
    device: str,
) -> EpochMetric:
    """Return a function that computes the metrics of validation samples."""
    # A copy, since calls may change the state of a selection.
    select = deepcopy(select)
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    labeled = np.flatnonzero(codes >= 0)
    at_label = np.arange(len(labeled)), codes[labeled]

    def metric(submodels: list[Submodel]) -> dict[str, float]:
        indices = chunks(labeled, shape, device)
        logs = [
            torch.cat(list(log_probabilities([submodel], source, indices)))
            for submodel in submodels
        ]
        with torch.random.fork_rng(devices=cuda):  # a selection may be random
            masks = [select(part.exp().float()) for part in logs]
        negatives = torch.stack(masks).cpu().numpy()
        each = torch.stack(logs).cpu().numpy()
        predicted = np.logaddexp.reduce(each) - math.log(len(each))
        n_negatives = int(negatives.sum())
        n_wrong = sum(int(mask[at_label].sum()) for mask in negatives)
        values = (
            float(-predicted[at_label].mean()),
            float((predicted.argmax(axis=1) == at_label[1]).mean()),
            1 - n_wrong / n_negatives if n_negatives else math.nan,
        )
        return dict(zip(VALIDATED, values, strict=True))

    return metric


def label_change_metric(
    source: Source, shape: tuple[int, ...], codes: np.ndarray, device: str
) -> EpochMetric:
    """Return a function that computes the fraction of changed predictions."""
    n_unlabeled = int((codes < 0).sum())
    if not n_unlabeled:
        return lambda _: {LABEL_CHANGE: math.nan}
    last: list[np.ndarray] = []

    def metric(submodels: list[Submodel]) -> dict[str, float]:
        indices = unlabeled_chunks(codes, shape, device)
        parts = log_probabilities(submodels, source, indices)
        labels = (part.argmax(dim=1) for part in parts)
        last.append(concatenate_predictions(labels, n_unlabeled))
        if len(last) == 1:
            return {LABEL_CHANGE: math.nan}
        return {LABEL_CHANGE: float((last.pop(0) != last[0]).mean())}

    return metric


def warn_of_class_collapse(
    history: list[dict],
    prior: ClassPrior,
    classes: np.ndarray,
    codes: np.ndarray,
    known_threshold: float = 0.1,
    unknown_threshold: float = 0.02,
    min_expected: int = 10,
) -> None:
    """Warn if the mean prediction of unlabeled samples is very low for some class.

    Parameters
    ----------
    history : list of dict
        One record per epoch.
    prior : ClassPrior
    classes : array of shape (n_classes,)
    codes : int array of shape (n_samples,)
        Class codes, -1 for unlabeled samples.
    known_threshold : float, default=0.1
        A class has collapsed if its mean prediction is below this fraction of the
        initial class prior. It is used if the class prior was given by the user.
    unknown_threshold : float, default=0.02
        The same threshold if the class prior was not given.
    min_expected : int, default=10
        Smallest number of unlabeled samples, expected by the prior, of a class that is
        checked.
    """
    n_unlabeled = int((codes < 0).sum())
    if not (history and n_unlabeled):
        return
    predicted = np.array(history[-1]["class_distribution"])
    expected = prior.initial.cpu().numpy()
    threshold = known_threshold if prior.is_known else unknown_threshold
    collapsed = predicted < threshold * expected
    collapsed &= expected * n_unlabeled >= min_expected
    collapsed &= np.bincount(codes[codes >= 0], minlength=len(classes)) > 0
    if not collapsed.any():
        return
    names = ", ".join(repr(label) for label in classes[collapsed].tolist())
    shares = ", ".join(f"{100 * share:.2g} %" for share in predicted[collapsed])
    if len(classes) > 2 and collapsed.sum() == len(classes) - 1:
        left = classes[~collapsed].tolist()[0]
        what = f"Predictions collapsed to one class, {left!r}"
    else:
        which = "Classes {} have" if collapsed.sum() > 1 else "Class {} has"
        what = f"{which.format(names)} collapsed: {shares} mean predicted probability"
    warn_user(
        f"{what}. If this is unexpected, label more samples of each class, pass known "
        "class frequencies as class_prior, or increase class_prior__weight. If the "
        "loss fluctuates, decrease lr. The column class_distribution of history_ "
        "contains the mean prediction of each epoch.",
        UnlabeledDataWarning,
    )
