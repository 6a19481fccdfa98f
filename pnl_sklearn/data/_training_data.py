"""Everything that `fit` is given, checked and put together."""

from collections.abc import Collection, Hashable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _num_samples, check_consistent_length
from torch.utils.data import ConcatDataset

from ._inputs import Inputs, check_inputs
from ._targets import check_targets, labeled_weights

# Source that a message names.
_N_NAMED = 5


@dataclass
class TrainingData:
    """The rows of `fit`, and what is known of each.

    Parameters
    ----------
    inputs : Inputs
        All rows, those of `X_unlabeled` last.
    labels : int array of shape (n_rows,)
        Class codes as given, -1 where there is none.
    codes : int array of shape (n_rows,)
        Class codes to learn: `labels` without those that are held out.
    weights : float array of shape (n_labeled,)
        Weights of the rows with a code, in their order, in the supervised loss.
    excluded : bool array of shape (n_rows, n_classes) or None
        Classes that rows are known not to be of.
    chances : float array of shape (n_rows,) or None
        How often unlabeled rows are drawn, relative to one another.
    held_out : tuple of Inputs and int array, or None
        Source to measure on, and their class codes.
    """

    inputs: Inputs
    labels: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    excluded: np.ndarray | None
    chances: np.ndarray | None
    held_out: tuple[Inputs, np.ndarray] | None


def make_training_data(
    estimator,
    X,
    codes: np.ndarray,
    classes: np.ndarray,
    *,
    reset: bool,
    seed: int,
    sample_weight,
    X_unlabeled,
    negative_labels,
    unlabeled_weight,
    X_val,
    y_val,
) -> TrainingData:
    """Check what `fit` is given beside y, and put the rows together.

    Parameters
    ----------
    estimator : PNLClassifier
    X, sample_weight, X_unlabeled, negative_labels, unlabeled_weight, X_val, y_val
        As `fit` takes them.
    codes : int array of shape (n_samples,)
        Class codes of y.
    classes : array of shape (n_classes,)
    reset : bool
        Whether the form of X is new, not compared with an earlier one.
    seed : int
        Governs which labels are held out.

    Returns
    -------
    material : TrainingData
    """
    excluded = check_negative_labels(negative_labels, codes, classes)
    inputs = check_inputs(estimator, X, reset=reset, learned=True)
    check_consistent_length(inputs, codes)
    labels, held = codes, np.zeros(len(codes), dtype=bool)
    if estimator.validation_fraction is not None:
        held = _held_out_rows(labels, estimator.validation_fraction, seed)
        codes = np.where(held, -1, labels)
    weights = labeled_weights(codes, classes, sample_weight, estimator.class_weight)
    n_pool = 0
    if X_unlabeled is not None and _num_samples(X_unlabeled):
        n_own = len(inputs)
        inputs = with_unlabeled(estimator, inputs, X_unlabeled)
        n_pool = len(inputs) - n_own
        labels, codes = (lengthened(c, len(inputs), -1) for c in (labels, codes))
        excluded, held = (lengthened(m, len(inputs), False) for m in (excluded, held))
    chances = check_unlabeled_weight(unlabeled_weight, labels, n_pool)
    if chances is not None and held.any():
        others = chances[labels < 0]
        chances = np.where(held, others.mean() if len(others) else 1.0, chances)
    held_out = None
    if X_val is not None or y_val is not None:
        held_out = check_validation(estimator, X_val, y_val, classes)
    elif held.any():
        held_out = inputs, np.where(held, labels, -1)
    return TrainingData(inputs, labels, codes, weights, excluded, chances, held_out)


def with_unlabeled(estimator, inputs: Inputs, X_unlabeled) -> Inputs:
    """Put the rows of `X_unlabeled`, checked against those of X, below them."""
    more = check_inputs(estimator, X_unlabeled, reset=False, learned=True)
    if len(more) == len(inputs):
        raise ValueError(
            f"X_unlabeled has as many rows as X, or as this training part of it, "
            f"{len(inputs)}. scikit-learn's cross-validation takes what is as long as "
            "X for one value a row and splits it by folds, so this is refused. Leave "
            "out one of its rows, or put them into X, with -1 in y."
        )
    if inputs.is_dataset != more.is_dataset:
        raise TypeError(
            "X and X_unlabeled have to be both Datasets, or both arrays or matrices."
        )
    if inputs.channels_last != more.channels_last:
        if sparse.issparse(more.data):
            inputs = _turned(inputs)
        else:
            more = _turned(more)
    parts = [inputs.data, more.data]
    data: Any
    if inputs.is_dataset:
        data = ConcatDataset(parts)
    elif any(sparse.issparse(part) for part in parts):
        data = sparse.vstack(parts, format="csr")
    else:
        data = np.concatenate(parts)
    return replace(inputs, data=data)


def _turned(images: Inputs) -> Inputs:
    """Put the channels of images last if they are first, or first if they are last."""
    n_channels, height, width = images.sample_shape
    if images.channels_last:
        rows = images.data.reshape(-1, height, width, n_channels).transpose(0, 3, 1, 2)
    else:
        rows = images.data.reshape(-1, n_channels, height, width).transpose(0, 2, 3, 1)
    data = rows.reshape(len(rows), -1)
    return replace(images, data=data, channels_last=not images.channels_last)


def lengthened(values: np.ndarray | None, n_rows: int, fill) -> Any:
    """Fill up an array that has an entry a row to so many rows; None stays."""
    if values is None:
        return None
    widths = [(0, n_rows - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, widths, constant_values=fill)


def check_validation(
    estimator, X_val, y_val, classes: np.ndarray
) -> tuple[Inputs, np.ndarray]:
    """Validate rows to measure on; return them and their class codes."""
    if X_val is None or y_val is None:
        raise ValueError("X_val and y_val belong together; one of them is missing.")
    if estimator.validation_fraction is not None:
        raise ValueError(
            f"validation_fraction={estimator.validation_fraction!r} and X_val both ask "
            "for rows to measure on. Give one of the two."
        )
    codes, _ = check_targets(y_val, classes)
    inputs = check_inputs(estimator, X_val, reset=False)
    check_consistent_length(inputs, codes)
    return inputs, codes


def _held_out_rows(codes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mask of the labeled rows whose labels are held out, some of each class."""
    labeled = np.flatnonzero(codes >= 0)
    classes, places = np.unique(codes[labeled], return_inverse=True)
    mask = np.zeros(len(codes), dtype=bool)
    with suppress(ValueError):  # one label of a class, or fewer rows than classes
        _, held = train_test_split(
            labeled, test_size=share, stratify=places, random_state=seed
        )
        mask[held] = True
    counts = [np.bincount(places[mask[labeled] == part]) for part in (True, False)]
    if any(len(count) < len(classes) or not count.all() for count in counts):
        raise ValueError(
            f"validation_fraction={share!r} of {len(labeled)} labeled rows of "
            f"{len(classes)} classes leaves a class without a label to learn or to "
            "measure on. Label more rows, or hold out another share; give labeled "
            "rows as X_val and y_val; or do without: let EarlyStopping monitor "
            "'label_change', and compare settings by SemiSupervisedSplit."
        )
    return mask


def check_unlabeled_weight(
    unlabeled_weight, codes: np.ndarray, n_pool: int
) -> np.ndarray | None:
    """Return the weights of all rows, float64; those of labeled rows mean nothing.

    They may be given for the last `n_pool` rows alone, those of `X_unlabeled`.
    """
    if unlabeled_weight is None:
        return None
    weights = np.asarray(unlabeled_weight, dtype=np.float64)
    if n_pool and len(weights) == n_pool:
        weights = np.concatenate([np.ones(len(codes) - n_pool), weights])
    check_consistent_length(weights, codes)
    unlabeled = weights[codes < 0]
    if weights.ndim != 1 or not np.isfinite(unlabeled).all() or (unlabeled < 0).any():
        raise ValueError(
            "unlabeled_weight has to hold one number for each row, not negative."
        )
    if len(unlabeled) and not unlabeled.sum() > 0:
        raise ValueError(
            "The weights of the unlabeled rows are all zero. Use supervised_baseline to "
            "train without them."
        )
    return weights


def check_negative_labels(
    negative_labels, codes: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """Return the classes that rows are known not to be of, as a mask.

    Parameters
    ----------
    negative_labels : bool array-like (n_samples, n_classes), sequence of collections \
            of labels, or None
    codes : int array of shape (n_samples,)
        Class codes, -1 where unlabeled.
    classes : array of shape (n_classes,)

    Returns
    -------
    excluded : bool array of shape (n_samples, n_classes), or None
        None where nothing is excluded.
    """
    if negative_labels is None:
        return None
    check_consistent_length(negative_labels, codes)
    excluded = _mask(negative_labels, classes)
    rows = np.flatnonzero(excluded.all(axis=1))
    if len(rows):
        raise ValueError(
            f"negative_labels exclude every class of the rows {_named(rows)}; leave "
            "one class at least."
        )
    labeled = np.flatnonzero(codes >= 0)
    rows = labeled[excluded[labeled, codes[labeled]]]
    if len(rows):
        raise ValueError(
            f"negative_labels exclude the label that y gives to the rows "
            f"{_named(rows)}. Take back one or the other."
        )
    return excluded if excluded.any() else None


def _mask(negative_labels, classes: np.ndarray) -> np.ndarray:
    if sparse.issparse(negative_labels):
        negative_labels = negative_labels.toarray()
    shape = len(negative_labels), len(classes)
    if hasattr(negative_labels, "columns"):
        negative_labels = _in_order(negative_labels, classes)
    if len(getattr(negative_labels, "shape", ())) > 1:
        array = np.asarray(negative_labels)
        if array.dtype == object and all(isinstance(v, bool) for v in array.flat):
            array = array.astype(bool)  # a nullable frame
        if array.dtype != bool or array.shape != shape:
            raise ValueError(
                f"negative_labels of dtype {array.dtype} and shape {array.shape} has "
                f"to be a bool array of shape {shape}, (n_samples, n_classes), or a "
                "sequence of collections of labels."
            )
        return array.copy()  # of any strides, and writable
    excluded = np.zeros(shape, dtype=bool)
    positions = {label: k for k, label in enumerate(classes.tolist())}
    for row, labels in enumerate(negative_labels):
        if labels is None or (isinstance(labels, float) and np.isnan(labels)):
            continue
        if isinstance(labels, str) or not isinstance(labels, Collection | np.ndarray):
            raise TypeError(
                f"negative_labels hold {labels!r} for row {row}. Give a collection of "
                f"labels for each row, [{labels!r}] for example, or a bool array of "
                "shape (n_samples, n_classes)."
            )
        for label in labels:
            # True == 1 in Python: a list of a mask's rows would pass for labels.
            mistaken = isinstance(label, bool | np.bool_) and classes.dtype != bool
            if mistaken or not isinstance(label, Hashable) or label not in positions:
                raise ValueError(
                    f"negative_labels hold {label!r} for row {row}, which is not in "
                    f"classes: {classes.tolist()}. (A mask has to be an array.)"
                )
            excluded[row, positions[label]] = True
    return excluded


def _in_order(frame, classes: np.ndarray):
    """Put columns that are named after classes in their order."""
    names = list(frame.columns)
    if set(names) == set(classes.tolist()):
        return frame[classes.tolist()]
    if names != list(range(len(names))):
        raise ValueError(
            f"negative_labels have the columns {names}, but the classes are "
            f"{classes.tolist()}. Name them so, or give an array in that order."
        )
    return frame


def _named(rows: np.ndarray) -> str:
    more = f" and {len(rows) - _N_NAMED} more" if len(rows) > _N_NAMED else ""
    return ", ".join(map(str, rows[:_N_NAMED])) + more
