"""Inputs and targets in; clean arrays, class codes and messages about bad input out."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_array, column_or_1d, compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, validate_data
from torch.utils.data import Dataset

from ._batches import dataset_input

_CHANNELS = (1, 3, 4)
# How much a column may span: a float32 holds the square of this, and sums of some.
_WIDEST = 1e18
# How many values tell whether columns vary enough.
_SAMPLE_VALUES = 2**20
# What is a string once missing values have been made strings.
_MISSING_NAMES = {"nan", "NaN", "None", "<NA>", "NaT", "-1.0"}
# Kept as they are; a batch is float32 whatever they are. The first is for all others.
_DTYPES = [np.float32, np.float64, np.uint8, np.int8, np.int16, np.int32, np.int64]


@dataclass
class Inputs:
    """Clean inputs: flat rows or a Dataset, and the shape (d,) or (c, h, w) of one.

    The values of an image are in the order of its shape, or channels are last.
    """

    data: Any
    sample_shape: tuple[int, ...]
    channels_last: bool = False

    def __len__(self) -> int:
        return len(self.data) if self.is_dataset else self.data.shape[0]

    @property
    def is_dataset(self) -> bool:
        """Tell whether the data is a Dataset, read item by item."""
        return isinstance(self.data, Dataset)


def check_inputs(estimator, X, *, reset: bool, learned: bool = False) -> Inputs:
    """Validate X and return it as rows that torch can take.

    Parameters
    ----------
    estimator : PNLClassifier
        Holds `image_shape`; gets `n_features_in_`, `feature_names_in_` and
        `input_shape_` if `reset`, and is compared with otherwise.
    X : array-like, sparse matrix, Tensor or Dataset
    reset : bool
        True in fit.
    learned : bool, default=False
        Whether the rows are trained on, so that their squares have to be finite.

    Returns
    -------
    inputs : Inputs
        Rows are of the dtype they came in where torch has it, uint8 for bool, float32
        otherwise; no copy is made of C-contiguous arrays.
    """
    if estimator.image_shape is not None and len(estimator.image_shape) != 3:
        raise ValueError(
            f"image_shape={estimator.image_shape!r} has to be (channels, height, "
            "width)."
        )
    X = to_numpy(X)
    if isinstance(X, Dataset):
        inputs = _check_dataset(X, estimator.image_shape)
        if reset:
            estimator.n_features_in_ = math.prod(inputs.sample_shape)
            vars(estimator).pop("feature_names_in_", None)
    else:
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        image, channels_last = None, False
        if len(X.shape) > 2:
            X = np.asarray(X)
            image, channels_last = _image_shape(X, estimator.image_shape)
            if not reset:
                _compare_shapes(estimator, image)
            X = X.reshape(len(X), math.prod(image))
        rows = _check_rows(estimator, X, reset=reset, learned=learned)
        if reset and not image and isinstance(rows, np.ndarray):
            _warn_of_lost_digits(rows)
        shape = image or _row_shape(rows, estimator.image_shape)
        inputs = Inputs(rows, shape, channels_last)
    if reset:
        estimator.input_shape_ = inputs.sample_shape
    else:
        _compare_shapes(estimator, inputs.sample_shape)
    return inputs


def to_numpy(X):
    """Return tensors as arrays, wherever they are, and all else as it is."""
    if not isinstance(X, torch.Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


def _check_rows(estimator, X, *, reset: bool, learned: bool):
    is_bool = getattr(X, "dtype", None) == np.bool_ and not sparse.issparse(X)
    try:
        rows = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=np.uint8 if is_bool else _DTYPES,
            order="C",
        )
    except (TypeError, ValueError) as error:
        if "could not" not in str(error):
            raise
        raise type(error)(
            f"X holds values that are not numbers ({error}). Encode them first, for "
            "example with sklearn.preprocessing.OneHotEncoder."
        ) from error
    values = rows.data if sparse.issparse(rows) else rows
    if values.dtype.kind == "f" and values.size:
        _check_range(values, learned)
    if sparse.issparse(rows):
        return rows
    # Not a view of odd strides: one row is contiguous whatever they are.
    return rows.ravel().reshape(rows.shape)


def _check_range(values: np.ndarray, learned: bool) -> None:
    """Refuse values that a batch, or squares in training, could not hold."""
    if values.dtype == np.float32 and not learned:
        return
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > float(np.finfo(np.float32).max):
        raise ValueError(
            "Input X contains infinity or a value too large for dtype('float32')."
        )
    if learned and high - low > _WIDEST:
        spans = values.max(axis=0).astype(float) - values.min(axis=0)
        if spans.max() > _WIDEST:
            raise ValueError(
                f"Input X spans more than {_WIDEST:g} in a column, and squares of that "
                "are too large for dtype('float32'). Rescale X, for example with "
                "sklearn.preprocessing.StandardScaler."
            )


def _warn_of_lost_digits(rows: np.ndarray) -> None:
    """Warn of columns that vary too little for the digits of a float32."""
    if rows.dtype not in (np.float64, np.int32, np.int64):
        return
    n = min(len(rows), max(50, _SAMPLE_VALUES // rows.shape[1]))
    sample = rows[np.linspace(0, len(rows) - 1, n).astype(int)].astype(np.float64)
    level, spread = np.abs(sample.mean(axis=0)), sample.std(axis=0)
    lost = np.flatnonzero((spread < 1e-6 * level) & (spread > 1e-12 * level))
    if len(lost):
        named = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
        warnings.warn(
            f"Columns {named} of X vary by less than a millionth of their mean. "
            "Batches are float32, which has no digits for that: subtract the mean "
            "first, for example with sklearn.preprocessing.StandardScaler.",
            stacklevel=6,
        )


def _row_shape(rows, image_shape) -> tuple[int, ...]:
    if image_shape is None:
        return (rows.shape[1],)
    if rows.shape[1] != math.prod(image_shape):
        raise ValueError(
            f"image_shape={image_shape!r} asks for rows of {math.prod(image_shape)} "
            f"values, but X has {rows.shape[1]} columns."
        )
    return tuple(image_shape)


def _image_shape(X: np.ndarray, image_shape) -> tuple[tuple[int, ...], bool]:
    """Return the shape (c, h, w) of images, and whether channels are last in X."""
    gray = X.ndim == 3
    if gray:
        X = X[:, None]
    if X.ndim != 4:
        raise ValueError(
            f"Found array with dim {X.ndim}. X has to be a table of shape (n_samples, "
            "n_features) or images of shape (n, h, w), (n, c, h, w) or (n, h, w, c)."
        )
    _, first, middle, last = X.shape
    if image_shape is not None:
        if X.shape[1:] == tuple(image_shape):
            channels_last = False
        elif not gray and (last, first, middle) == tuple(image_shape):
            channels_last = True
        else:
            raise ValueError(
                f"X of shape {X.shape} does not hold images of image_shape="
                f"{image_shape!r}, which means (channels, height, width)."
            )
    else:
        channels_last = not gray and last in _CHANNELS
        if not gray and channels_last == (first in _CHANNELS):
            raise ValueError(
                f"X of shape {X.shape} may be (n, c, h, w) or (n, h, w, c). Settle it "
                f"by image_shape=(channels, height, width), {X.shape[1:]} for example."
            )
    if channels_last:
        return (last, first, middle), True
    return X.shape[1:], False


def _check_dataset(dataset: Dataset, image_shape) -> Inputs:
    if not len(dataset):  # type: ignore[arg-type]
        raise ValueError("Found a Dataset with 0 sample(s); at least 1 is required.")
    item = dataset_input(dataset, 0)
    if not isinstance(item, torch.Tensor | np.ndarray):
        raise TypeError(
            "The items of the Dataset have to be tensors or arrays (or pairs that "
            f"begin with one), got {type(item).__name__}. A transform such as "
            "torchvision's ToTensor makes them so."
        )
    shape = tuple(item.shape)
    if image_shape is not None:
        if math.prod(shape) != math.prod(image_shape):
            raise ValueError(
                f"Items of the Dataset have shape {shape}, which does not fit "
                f"image_shape={image_shape!r}."
            )
        shape = tuple(image_shape)
    elif len(shape) == 2:
        shape = (1, *shape)
    if len(shape) not in (1, 3):
        raise ValueError(
            f"Items of the Dataset have shape {shape}; expected (n_features,), (h, w) "
            "or (c, h, w)."
        )
    return Inputs(dataset, shape)


def _compare_shapes(estimator, shape: tuple[int, ...]) -> None:
    if shape != estimator.input_shape_:
        raise ValueError(
            f"X has samples of shape {shape}, but {type(estimator).__name__} was "
            f"fitted on samples of shape {estimator.input_shape_}."
        )


def check_targets(y, classes=None) -> tuple[np.ndarray, np.ndarray]:
    """Return class codes (-1 where unlabeled) and the classes.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels; -1, "-1", None, NaN and pandas.NA mark unlabeled rows.
    classes : array-like, default=None
        All classes, in the order wanted. None: those in y, sorted.

    Returns
    -------
    codes : int64 array of shape (n_samples,)
        Positions in the classes, -1 where unlabeled.
    classes : array of shape (n_classes,)
    """
    known, labels = known_labels(y, one_class=classes is not None)
    if not known.any():
        raise ValueError(
            "y has no labeled row: every target is -1 or missing. Label a few rows of "
            "each class."
        )
    found = np.unique(labels)
    if classes is None:
        if len(found) == 1:
            raise ValueError(
                f"y holds labels of one class only, {found[:1].tolist()}; two classes "
                "at least are needed."
            )
        classes = found
        _warn_of_missing_names(found)
    else:
        classes = to_array(classes)
        if not known_mask(classes).all():
            raise ValueError(
                f"classes={classes.tolist()} holds a mark of unlabeled rows (-1, None "
                "or NaN). Leave it out."
            )
        if len(np.unique(classes)) != len(classes) or len(classes) < 2:
            raise ValueError(f"classes={classes!r} has to name two or more, each once.")
        strange = np.setdiff1d(found, classes)
        if len(strange):
            raise ValueError(f"y holds labels {strange!r} that are not in classes.")
    codes = np.full(len(known), -1, dtype=np.int64)
    order = np.argsort(classes)
    codes[known] = order[np.searchsorted(classes, labels, sorter=order)]
    return codes, classes


def _warn_of_missing_names(labels: np.ndarray) -> None:
    names = sorted(_MISSING_NAMES.intersection(map(str, labels)))
    if names and isinstance(labels[0], str):
        warnings.warn(
            f"y holds the labels {names}, which are taken for classes. If they mark "
            "unlabeled rows, put -1, None or NaN in their place before y is made "
            "strings; if they are classes, name all of them by classes=...",
            stacklevel=5,
        )


def known_labels(y, one_class: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return where targets are labels, and these labels, of one dtype.

    A y of -1 and 1 only is refused, unless the labels may be of `one_class`.
    """
    y = to_array(y)
    known = known_mask(y)
    labels = _clean_labels(y[known])
    found = {str(label) for label in np.unique(labels)}
    if not one_class and found in ({"1"}, {"1.0"}) and not known.all():
        raise ValueError(
            "y holds only -1 and 1. -1 marks unlabeled rows here, so a single "
            "class is left. If -1 and 1 are your two classes, recode them, for "
            "example y = np.where(y == -1, 0, y), and mark unlabeled rows with -1."
        )
    return known, labels


def to_array(y) -> np.ndarray:
    """Return targets as a one-dimensional array, missing values as they came."""
    if y is None:
        raise ValueError(
            "This PNLClassifier estimator requires y to be passed, but the target y is "
            "None. Mark unlabeled rows with -1."
        )
    if isinstance(y, torch.Tensor):
        y = y.detach().cpu().numpy()
    if sparse.issparse(y):
        y = check_array(y, accept_sparse=True, ensure_2d=False)  # raises for sparse y
    array = np.asarray(y)
    if array.dtype.kind == "U" and not hasattr(y, "dtype"):
        # In a list of strings numpy turns NaN into the string "nan".
        objects = np.asarray(y, dtype=object)
        if not all(isinstance(label, str) for label in objects.flat):
            array = objects
    elif array.dtype.kind == "T":
        array = array.astype(object)
    return column_or_1d(array, warn=True)


def known_mask(y: np.ndarray) -> np.ndarray:
    """Return True where a target is a label."""
    if y.dtype.kind in "iu":
        return y != -1
    if y.dtype.kind == "f":
        return ~np.isnan(y) & (y != -1)
    if y.dtype.kind in "US":
        return y != np.array("-1", dtype=y.dtype.kind)
    if y.dtype.kind == "O":
        return np.array([not _is_missing(label) for label in y], dtype=bool)
    return np.ones(len(y), dtype=bool)


def _is_missing(label) -> bool:
    """Tell -1, "-1", None, NaN and pandas.NA (whose comparisons give no bool)."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(label, str):
        return label == "-1"
    return bool(label != label) or bool(label == -1)


def _clean_labels(labels: np.ndarray) -> np.ndarray:
    """Check labels, without unlabeled ones; give object arrays of numbers a dtype."""
    if labels.dtype.kind == "O" and len(labels):
        if all(isinstance(label, str) for label in labels):
            return labels
        clean = np.asarray(labels.tolist())
        if clean.dtype.kind not in "iufb" or clean.ndim != 1:
            kinds = sorted({type(label).__name__ for label in labels})
            raise ValueError(
                f"Unknown label type: y mixes {kinds}. Labels have to be all strings "
                "or all whole numbers."
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
                f"Unknown label type: continuous. y holds {example!r}; float labels "
                "have to be whole numbers (NaN or -1 where unlabeled)."
            )
    if labels.dtype.kind in "if" and (labels < 0).any():
        raise ValueError(
            f"y holds the negative label {labels[labels < 0][0].item()!r}. Only -1, "
            "for unlabeled rows, may be negative; number the classes from 0."
        )
    return labels


def labeled_weights(codes, classes, sample_weight, class_weight) -> np.ndarray:
    """Return one float64 weight, of mean 1, for each labeled row."""
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
        weights *= compute_sample_weight(class_weight, classes[codes[labeled]])
        if (weights < 0).any():
            raise ValueError(
                f"class_weight={class_weight!r} holds a negative weight. Give 0 to a "
                "class whose labels should not count."
            )
    if not weights.sum() > 0:
        raise ValueError("The weights of the labeled rows are all zero.")
    return weights * (len(weights) / weights.sum())
