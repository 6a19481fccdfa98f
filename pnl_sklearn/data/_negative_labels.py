"""Validation of `negative_labels`."""

from collections.abc import Collection, Hashable

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_consistent_length

# Number of samples that a message names.
_N_NAMED = 5


def check_negative_labels(
    negative_labels, codes: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """Check given negative labels, and convert them to a mask.

    Parameters
    ----------
    negative_labels : bool array-like of shape (n_samples, n_classes), sequence of \
            collections of labels, or None
    codes : int array of shape (n_samples,)
        Class codes, -1 for unlabeled samples.
    classes : array of shape (n_classes,)

    Returns
    -------
    excluded : bool array of shape (n_samples, n_classes), or None
        True for excluded classes. None if no class is excluded.
    """
    if negative_labels is None:
        return None
    check_consistent_length(negative_labels, codes)
    excluded = _as_mask(negative_labels, classes)
    index = np.flatnonzero(excluded.all(axis=1))
    if len(index):
        raise ValueError(
            f"negative_labels exclude every class of the samples {_named(index)}. At "
            "least one class must not be excluded."
        )
    labeled = np.flatnonzero(codes >= 0)
    index = labeled[excluded[labeled, codes[labeled]]]
    if len(index):
        raise ValueError(
            f"negative_labels exclude the class that is the label in y of the samples "
            f"{_named(index)}. Remove the label or the negative label."
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
            array = array.astype(bool)  # a DataFrame of nullable dtype
        if array.dtype != bool or array.shape != shape:
            raise ValueError(
                f"negative_labels is an array of dtype {array.dtype} and shape "
                f"{array.shape}. It must be a bool array of shape {shape}, (n_samples, "
                "n_classes), or a sequence of collections of labels."
            )
        return array.copy()  # regular strides, and writable
    excluded = np.zeros(shape, dtype=bool)
    positions = {label: k for k, label in enumerate(classes.tolist())}
    for i, labels in enumerate(negative_labels):
        if labels is None or (isinstance(labels, float) and np.isnan(labels)):
            continue
        if isinstance(labels, str) or not isinstance(labels, Collection | np.ndarray):
            raise TypeError(
                f"negative_labels contain {labels!r} for sample {i}. Pass a collection "
                f"of labels for each sample, such as [{labels!r}], or a bool array of "
                "shape (n_samples, n_classes)."
            )
        for label in map(_plain, labels):
            # True == 1 in Python: a mask of nested lists could be taken for labels.
            mistaken = isinstance(label, bool) and classes.dtype != bool
            if mistaken or not isinstance(label, Hashable) or label not in positions:
                raise ValueError(
                    f"negative_labels contain {label!r} for sample {i}, which is not "
                    f"in classes: {classes.tolist()}. (A mask must be an array.)"
                )
            excluded[i, positions[label]] = True
    return excluded


def _plain(value):
    """Return a scalar of numpy as an object of Python."""
    return value.item() if isinstance(value, np.generic) else value


def _order_columns(frame, classes: np.ndarray):
    """Sort columns that are named after the classes."""
    names = list(frame.columns)
    if set(names) == set(classes.tolist()):
        return frame[classes.tolist()]
    if names != list(range(len(names))):
        raise ValueError(
            f"negative_labels have the columns {names}, but the classes are "
            f"{classes.tolist()}. Name the columns after the classes, or pass an array "
            "in this order."
        )
    return frame


def _named(index: np.ndarray) -> str:
    more = f" and {len(index) - _N_NAMED} more" if len(index) > _N_NAMED else ""
    return ", ".join(map(str, index[:_N_NAMED])) + more
