"""Validation of y and of the weights of labeled samples."""

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_array, column_or_1d, compute_sample_weight
from sklearn.utils.validation import _check_sample_weight

from ..utils._warnings import warn_user

# Strings to which missing values are converted, or that stand for them; in lower case.
_MISSING_NAMES = {"", "nan", "none", "<na>", "nat", "-1.0"}
_MISSING_NAMES |= {"unknown", "unlabeled", "unlabelled"}


def check_targets(y, classes=None) -> tuple[np.ndarray, np.ndarray]:
    """Return class codes (-1 where unlabeled) and the classes.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels. -1, "-1", None, NaN and pandas.NA mark unlabeled samples.
    classes : array-like, default=None
        All classes in their order. None takes the sorted classes of y.

    Returns
    -------
    codes : int64 array of shape (n_samples,)
        Indices of the classes, -1 for unlabeled samples.
    classes : array of shape (n_classes,)
        All classes.
    """
    known, labels = known_labels(y, one_class=classes is not None)
    if not known.any():
        raise ValueError(
            "y has no labeled sample: every target is -1 or missing. Label a few "
            "samples of each class."
        )
    found = np.unique(labels)
    if classes is None:
        if len(found) == 1:
            raise ValueError(
                f"y contains labels of one class only, {found[:1].tolist()}. At least "
                "two classes are needed."
            )
        classes = found
        _warn_of_lost_marks(found)
        _warn_of_two_marks(y, known, found)
    else:
        classes = to_array(classes)
        if not known_mask(classes).all():
            raise ValueError(
                f"classes={classes.tolist()} contains a mark of unlabeled samples (-1, "
                "None or NaN). Remove it."
            )
        if len(np.unique(classes)) != len(classes) or len(classes) < 2:
            raise ValueError(
                f"classes={classes.tolist()} must contain at least two classes, each "
                "once."
            )
        strange = np.setdiff1d(found, classes)
        if len(strange):
            raise ValueError(
                f"y contains the labels {strange.tolist()}, which are not in classes. "
                "Add them to classes, or remove them from y."
            )
    codes = np.full(len(known), -1, dtype=np.int64)
    order = np.argsort(classes)
    codes[known] = order[np.searchsorted(classes, labels, sorter=order)]
    return codes, classes


def warn_of_order(classes: np.ndarray) -> None:
    """Warn of classes that are not sorted, which scikit-learn expects."""
    if len(classes) and (np.unique(classes) != classes).any():
        warn_user(
            f"classes={classes.tolist()} are not sorted. The columns of predict_proba "
            "are in this order, but scikit-learn's scorers of probabilities (such as "
            "roc_auc and neg_log_loss), its calibration and its voting expect sorted "
            "classes.",
        )


def _warn_of_lost_marks(labels: np.ndarray) -> None:
    """Warn of labels that may be converted marks of unlabeled samples."""
    lost: list = []
    if isinstance(labels[0], str):
        names = map(str, labels)
        lost, kind = [s for s in names if s.lower() in _MISSING_NAMES], "strings"
    elif labels.dtype.kind == "u" and len(labels) > 2:  # two classes may be 0 and 255
        largest, kind = np.iinfo(labels.dtype).max, str(labels.dtype)
        lost = [largest] if labels[-1] == largest and labels[-2] < largest // 2 else []
    if lost:
        warn_user(
            f"y contains the labels {lost}, which are treated as classes. If they mark "
            "unlabeled samples, use -1, None or NaN instead, before y is converted to "
            f"{kind}. If they are classes, pass all classes as classes=...",
        )


def _warn_of_two_marks(y, known: np.ndarray, labels: np.ndarray) -> None:
    """Warn if -1 may be a class beside 0 and 1, since y has another mark, too."""
    if not {str(label) for label in labels} <= {"0", "1", "0.0", "1.0"}:
        return
    marks = to_array(y)[~known]
    if marks.dtype.kind in "iu":
        return
    minus_one = np.array([str(mark) in ("-1", "-1.0") for mark in marks])
    if minus_one.any() and not minus_one.all():
        warn_user(
            "y contains -1, 0 and 1, and missing values. Both -1 and missing values "
            "mark unlabeled samples. If -1 is a class, recode the classes, for example "
            "y = y + 1. Otherwise use only one of both marks.",
        )


def known_labels(y, one_class: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask of the labeled samples, and their labels.

    Raise if y contains -1 and 1 only, unless the labels may be of `one_class`.
    """
    y = to_array(y)
    if y.dtype.kind not in "biufUO":
        raise ValueError(
            f"Unknown label type: y is of dtype {y.dtype}. Labels must be whole "
            "numbers, bools or strings. Convert dates or bytes to strings first, and "
            "mark unlabeled samples with -1 or None."
        )
    known = known_mask(y)
    labels = _clean_labels(y[known])
    found = {str(label) for label in np.unique(labels)}
    if not one_class and found in ({"1"}, {"1.0"}) and not known.all():
        raise ValueError(
            "y contains only -1 and 1. -1 marks unlabeled samples, so that there is a "
            "single class. If -1 and 1 are two classes, recode them, for example "
            "y = np.where(y == -1, 0, y), and mark unlabeled samples with -1."
        )
    return known, labels


def to_array(y) -> np.ndarray:
    """Convert targets to a one-dimensional array, and keep missing values."""
    if y is None:
        raise ValueError(
            "This PNLClassifier estimator requires y to be passed, but the target y is "
            "None. Mark unlabeled samples with -1."
        )
    if isinstance(y, torch.Tensor):
        y = y.detach().cpu().numpy()
    if isinstance(y, np.ma.MaskedArray):
        y, mask = y.data, np.ma.getmaskarray(y)
        if mask.any():
            y = y.astype(object)
            y[mask] = None
    if sparse.issparse(y):
        y = check_array(y, accept_sparse=True, ensure_2d=False)  # raises for sparse y
    array = np.asarray(y)
    if array.dtype.kind == "U" and not hasattr(y, "dtype"):
        # In a list of strings, numpy converts NaN to the string "nan".
        objects = np.asarray(y, dtype=object)
        if not all(isinstance(label, str) for label in objects.flat):
            array = objects
    elif array.dtype.kind == "T":
        array = array.astype(object)
    elif array.dtype.kind == "f" and not isinstance(y, np.ndarray):
        # In nullable dtypes of pandas or polars, numbers stay integers as objects.
        values = getattr(y, "to_list", getattr(y, "tolist", None))
        if values and not isinstance(getattr(y, "dtype", None), np.dtype):
            array = np.array(values(), dtype=object)
    return column_or_1d(array, warn=True)


def known_mask(y: np.ndarray) -> np.ndarray:
    """Return a mask of the labeled samples."""
    if y.dtype.kind in "iu":
        return y != -1
    if y.dtype.kind == "f":
        return ~np.isnan(y) & (y != -1)
    if y.dtype.kind == "U":
        return y != "-1"
    if y.dtype.kind == "O":
        return np.array([not _is_missing(label) for label in y], dtype=bool)
    return np.ones(len(y), dtype=bool)


def _is_missing(label) -> bool:
    """Tell whether a target is -1, "-1", None, NaN, pandas.NA or NaT."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(label, str):
        return label == "-1"
    return bool(label != label) or bool(label == -1)


def _clean_labels(labels: np.ndarray) -> np.ndarray:
    """Check labels, and convert object arrays of numbers to a numeric dtype."""
    if labels.dtype.kind == "O" and len(labels):
        if all(isinstance(label, str) for label in labels):
            return labels
        clean = np.asarray(labels.tolist())
        if clean.dtype.kind not in "iufb" or clean.ndim != 1:
            kinds = sorted({type(label).__name__ for label in labels})
            raise ValueError(
                f"Unknown label type: y mixes {kinds}. Labels must be all strings or "
                "all whole numbers."
            )
        labels = clean
    if labels.dtype.kind == "f":
        if np.isinf(labels).any():
            raise ValueError(
                "Input y contains infinity or a value too large for dtype('float64')."
            )
        if (labels != np.floor(labels)).any():
            example = labels[labels != np.floor(labels)][0].item()
            raise ValueError(
                f"Unknown label type: continuous. y contains {example!r}, but float "
                "labels must be whole numbers (NaN or -1 for unlabeled samples)."
            )
    if labels.dtype.kind in "if" and (labels < 0).any():
        raise ValueError(
            f"y contains the negative label {labels[labels < 0][0].item()!r}. Only "
            "-1, for unlabeled samples, may be negative. Number the classes from 0."
        )
    return labels


def labeled_weights(codes, classes, sample_weight, class_weight) -> np.ndarray:
    """Return the float64 weight of each labeled sample, normalized to mean 1."""
    labeled = codes >= 0
    weights = np.ones(labeled.sum())
    if sample_weight is not None:
        given = np.array(sample_weight)
        if given.shape == codes.shape:
            given[~labeled] = 1
        weights = _check_sample_weight(
            given, codes, dtype=np.float64, ensure_non_negative=True
        )[labeled]
    if class_weight is not None:
        of_classes = compute_sample_weight(class_weight, classes[codes[labeled]])
        if (of_classes < 0).any() or not np.isfinite(of_classes).all():
            raise ValueError(
                f"class_weight={class_weight!r} contains a negative weight, or one "
                "that is not finite. Weights must be at least 0."
            )
        weights = relative_weights(weights) * relative_weights(of_classes)
    if not weights.any():
        raise ValueError(
            "The weights of the labeled samples are all zero. At least one must be "
            "positive."
        )
    weights = relative_weights(weights)
    return weights * (len(weights) / weights.sum())


def relative_weights(weights: np.ndarray) -> np.ndarray:
    """Divide weights by the largest one, so that sums neither over- nor underflow."""
    return weights / weights.max(initial=np.finfo(float).tiny)
