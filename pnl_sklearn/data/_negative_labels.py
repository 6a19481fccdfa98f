"""Checks of the negative labels that `fit` is given."""

from collections.abc import Collection, Hashable

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_consistent_length

# Samples that a message names.
_N_NAMED = 5


def check_negative_labels(
    negative_labels, codes: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """Return the classes that samples are known not to be of, as a mask.

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
    excluded = _as_mask(negative_labels, classes)
    index = np.flatnonzero(excluded.all(axis=1))
    if len(index):
        raise ValueError(
            f"negative_labels exclude every class of the samples {_named(index)}; "
            "leave one class at least."
        )
    labeled = np.flatnonzero(codes >= 0)
    index = labeled[excluded[labeled, codes[labeled]]]
    if len(index):
        raise ValueError(
            f"negative_labels exclude the label that y gives to the samples "
            f"{_named(index)}. Take back one or the other."
        )
    return excluded if excluded.any() else None


def _as_mask(negative_labels, classes: np.ndarray) -> np.ndarray:
    if sparse.issparse(negative_labels):
        negative_labels = negative_labels.toarray()
    shape = len(negative_labels), len(classes)
    if hasattr(negative_labels, "columns"):
        negative_labels = _order_columns(negative_labels, classes)
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
    for i, labels in enumerate(negative_labels):
        if labels is None or (isinstance(labels, float) and np.isnan(labels)):
            continue
        if isinstance(labels, str) or not isinstance(labels, Collection | np.ndarray):
            raise TypeError(
                f"negative_labels hold {labels!r} for sample {i}. Give a collection "
                f"of labels for each sample, [{labels!r}] for example, or a bool array "
                "of shape (n_samples, n_classes)."
            )
        for label in labels:
            # True == 1 in Python: a list of a mask's lines would pass for labels.
            mistaken = isinstance(label, bool | np.bool_) and classes.dtype != bool
            if mistaken or not isinstance(label, Hashable) or label not in positions:
                raise ValueError(
                    f"negative_labels hold {label!r} for sample {i}, which is not in "
                    f"classes: {classes.tolist()}. (A mask has to be an array.)"
                )
            excluded[i, positions[label]] = True
    return excluded


def _order_columns(frame, classes: np.ndarray):
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


def _named(index: np.ndarray) -> str:
    more = f" and {len(index) - _N_NAMED} more" if len(index) > _N_NAMED else ""
    return ", ".join(map(str, index[:_N_NAMED])) + more
