"""What is measured of the submodels: the columns of `history_`."""

import math
import warnings
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from ..data._sources import Source, chunks, unlabeled_chunks
from ..exceptions import UnlabeledDataWarning
from ._predict import concatenate_predictions, log_probabilities
from ._submodel import Submodel


class RunningMean:
    """Mean of vectors that stay on the device."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._n = 0

    def add(self, vectors: list[Tensor]) -> None:
        """Take in some vectors."""
        for vector in vectors:
            # A copy, since a replayed step writes to the same tensors again.
            total = self._total
            self._total = vector.clone() if total is None else total.add_(vector)
            self._n += 1

    def value(self) -> Tensor:
        """Return the mean, on the device."""
        assert self._total is not None
        return self._total / self._n


def summary(means: list[float], n_classes: int) -> dict:
    """Return the row of an epoch from the means of what its steps measured."""
    names = ["train_loss", "supervised_loss", "negative_loss", "balance_loss"]
    names += ["consistency_loss"]
    row: dict = dict(zip(names, means, strict=False))
    by_class = np.reshape(means[len(names) :], (4, n_classes))
    distribution, believed, covered, agreed = by_class
    n_rows = believed.sum() or math.nan
    row["teacher_student_agreement"] = float(agreed.sum() / n_rows)
    row["negative_coverage"] = float(covered.sum() / n_rows)
    row["class_distribution"] = distribution.tolist()
    coverage = np.full(n_classes, math.nan)
    np.divide(covered, believed, out=coverage, where=believed > 0)
    row["class_coverage"] = coverage.tolist()
    return row


# Measurements of the submodels at the end of an epoch.
Measure = Callable[[list[Submodel]], dict[str, float]]
# Columns of `history_` that held-out rows add.
VALIDATED = ("valid_loss", "valid_accuracy", "valid_negative_precision")
# And the one that is recorded where a callback monitors it.
LABEL_CHANGE = "label_change"


def validation_metrics(
    rows: Source,
    shape: tuple[int, ...],
    codes: np.ndarray,
    select: Callable[[Tensor], Tensor],
    device: str,
) -> Measure:
    """Return what measures loss, accuracy and negatives on rows that have a label."""
    # Of its own, since a selection may keep what it has seen.
    select = deepcopy(select)
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    labeled = np.flatnonzero(codes >= 0)
    at_target = np.arange(len(labeled)), codes[labeled]

    def measure(submodels: list[Submodel]) -> dict[str, float]:
        indices = chunks(labeled, shape, device)
        logs = [
            torch.cat(list(log_probabilities([submodel], rows, indices)))
            for submodel in submodels
        ]
        with torch.random.fork_rng(devices=cuda):  # a selection may draw
            masks = [select(part.exp().float()) for part in logs]
        negatives = torch.stack(masks).cpu().numpy()
        each = torch.stack(logs).cpu().numpy()
        predicted = np.logaddexp.reduce(each) - math.log(len(each))
        n_negatives = int(negatives.sum())
        n_wrong = sum(int(mask[at_target].sum()) for mask in negatives)
        values = (
            float(-predicted[at_target].mean()),
            float((predicted.argmax(axis=1) == at_target[1]).mean()),
            1 - n_wrong / n_negatives if n_negatives else math.nan,
        )
        return dict(zip(VALIDATED, values, strict=True))

    return measure


def label_change_metric(
    rows: Source, shape: tuple[int, ...], codes: np.ndarray, device: str
) -> Measure:
    """Return what tells how many pseudo-labels changed since it was last asked."""
    n_unlabeled = int((codes < 0).sum())
    if not n_unlabeled:
        return lambda _: {LABEL_CHANGE: math.nan}
    last: list[np.ndarray] = []

    def measure(submodels: list[Submodel]) -> dict[str, float]:
        indices = unlabeled_chunks(codes, shape, device)
        parts = log_probabilities(submodels, rows, indices)
        last.append(
            concatenate_predictions((part.argmax(dim=1) for part in parts), n_unlabeled)
        )
        if len(last) == 1:
            return {LABEL_CHANGE: math.nan}
        return {LABEL_CHANGE: float((last.pop(0) != last[0]).mean())}

    return measure


_WIDTHS = {
    "epoch": 5,
    "train_loss": 10,
    "supervised_loss": 15,
    "negative_loss": 13,
    "balance_loss": 12,
    "negative_weight": 15,
    "teacher_student_agreement": 9,
    "negative_coverage": 8,
    "seconds": 7,
}


def print_epoch(row: dict) -> None:
    """Print a row of history, below a header if it is the first."""
    if row["epoch"] == 1:
        print("  ".join(f"{name:>{width}}" for name, width in _WIDTHS.items()))
        print("  ".join("-" * width for width in _WIDTHS.values()))
    cells = [
        f"{row[name]:>{width}}" if name == "epoch" else f"{row[name]:>{width}.4f}"
        for name, width in _WIDTHS.items()
    ]
    print("  ".join(cells), flush=True)


# Share of what a class is expected to have below which it counts as starved: where the
# prior is known, and where classes may be unequal.
_STARVED, _STARVED_UNKNOWN = 0.1, 0.02
# Unlabeled rows that a class has to expect before its share tells anything.
_N_EXPECTED = 10


def warn_of_class_collapse(
    history: list[dict],
    prior: torch.Tensor,
    is_known: bool,
    classes: np.ndarray,
    codes: np.ndarray,
) -> None:
    """Warn where predictions of unlabeled rows have all but given up a class.

    Parameters
    ----------
    history : list of dict
        A row an epoch.
    prior : Tensor of shape (n_classes,)
        What the mean prediction was drawn to at first.
    is_known : bool
        Whether that is what is known of the classes, not a guess.
    classes : array of shape (n_classes,)
    codes : int array of shape (n_samples,)
        Class codes, -1 where unlabeled.
    """
    n_unlabeled = int((codes < 0).sum())
    if not (history and n_unlabeled):
        return
    predicted = np.array(history[-1]["class_distribution"])
    expected = prior.cpu().numpy()
    starved = predicted < (_STARVED if is_known else _STARVED_UNKNOWN) * expected
    starved &= expected * n_unlabeled >= _N_EXPECTED
    starved &= np.bincount(codes[codes >= 0], minlength=len(classes)) > 0
    if not starved.any():
        return
    names = ", ".join(repr(label) for label in classes[starved].tolist())
    shares = ", ".join(f"{100 * share:.2g} %" for share in predicted[starved])
    if len(classes) > 2 and starved.sum() == len(classes) - 1:
        what = f"Predictions collapsed to one class, {classes[~starved].tolist()[0]!r}"
    else:
        what = f"Predictions all but gave up {names}: {shares} of the unlabeled rows"
    warnings.warn(
        f"{what}. If that is not so rare, label a few more rows of it, give the shares "
        "that you know as class_prior, or raise balance_weight; lower lr if the loss "
        "jumps. The column class_distribution of history_ shows when it happened.",
        UnlabeledDataWarning,
        stacklevel=4,  # of fit, and of scikit-learn's wrapper around it
    )
