"""Validation of X."""

import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..utils._warnings import warn_user

_CHANNELS = (1, 3, 4)
# Largest value and largest range of a feature, so that squares of the values and sums
# of squared differences are finite in float32. Nanoseconds since 1970 are allowed.
LARGEST, WIDEST = 1e19, 1e18
# Number of values that are checked for features that vary too little.
_SAMPLE_VALUES = 2**20
# Number of samples of a checksum.
_N_SUMMED = 100
# Number of items of a Dataset of images that tell the range of its values.
_N_ITEMS = 20
# These dtypes are kept. Batches are float32.
_DTYPES = [np.float64, np.float32, np.uint8, np.int8, np.int16, np.int32, np.int64]
# These dtypes are converted without loss, all others to the first of those above. It
# may be checked for values that float32 cannot represent.
_CONVERTED: dict[Any, type] = {
    np.dtype(np.bool_): np.uint8,
    np.dtype(np.float16): np.float32,
    np.dtype(np.uint16): np.int32,
}


@dataclass
class Inputs:
    """Validated samples.

    Parameters
    ----------
    data : array or CSR matrix of shape (n_samples, n_features), or Items
    sample_shape : tuple of int
        (n_features,) or (channels, height, width).
    value_range : tuple of (float, float)
        Smallest and largest value; of a few items of a Dataset of images, and NaN for
        a Dataset of a table.
    channels_last : bool, default=False
        Whether the axes of a flattened image are height, width, channels.
    """

    data: Any
    sample_shape: tuple[int, ...]
    value_range: tuple[float, float]
    channels_last: bool = False

    def __len__(self) -> int:
        return len(self.data) if self.is_dataset else self.data.shape[0]

    @property
    def is_dataset(self) -> bool:
        """Whether the data is a Dataset, which is read item by item."""
        return isinstance(self.data, Dataset)


class Items(Dataset):
    """Samples of a Dataset whose items are samples, or tuples that begin with one.

    Parameters
    ----------
    dataset : Dataset or list
    shape : tuple of int
        Shape of each sample in the dataset.
    sample_shape : tuple of int
        Shape that is returned: (n_features,) or (channels, height, width).
    channels_last : bool
        Whether `shape` is (height, width, channels).
    """

    def __init__(
        self,
        dataset: Any,
        shape: tuple[int, ...],
        sample_shape: tuple[int, ...],
        channels_last: bool,
    ) -> None:
        self.dataset = dataset
        self.shape = shape
        self.sample_shape = sample_shape
        self.channels_last = channels_last

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor:
        x = torch.as_tensor(_input_of(self.dataset, index))
        if x.shape != self.shape:
            raise _shape_error(f"Item {index} of the Dataset", x.shape, self.shape)
        if not x.float().isfinite().all():
            raise ValueError(
                f"Item {index} of the Dataset contains NaN, infinity or a value too "
                "large for dtype('float32')."
            )
        if self.channels_last:
            return x.permute(2, 0, 1)
        return x.reshape(self.sample_shape)


def _shape_error(sample: str, shape: Sequence[int], first: Sequence[int]) -> Exception:
    return ValueError(
        f"{sample} has shape {tuple(shape)}, but item 0 has shape {tuple(first)}. All "
        "items must have the same shape. Use for example torchvision's Resize."
    )


def _input_of(dataset: Any, index: int) -> Any:
    """Return the sample of an item, which is a sample or a tuple (sample, ...)."""
    item = dataset[index]
    return item[0] if isinstance(item, tuple | list) else item


def check_inputs(estimator, X, *, reset: bool) -> Inputs:
    """Validate X and convert it to a form that torch supports.

    Parameters
    ----------
    estimator : PNLClassifier
        Its `image_shape` is used. If `reset`, its attributes `n_features_in_`,
        `feature_names_in_`, `input_shape_` and `_value_range` are set. Otherwise X is
        compared with them.
    X : array-like, sparse matrix, Tensor or Dataset
    reset : bool
        Whether X is the X of a new fit.

    Returns
    -------
    inputs : Inputs
        Validated samples. The dtype of X is kept if it is in `_DTYPES`. C-contiguous
        arrays are then not copied.
    """
    _check_image_shape(estimator.image_shape)
    X = to_numpy(X)
    refuse_masked(X)
    if isinstance(X, DataLoader):
        raise TypeError(
            "X is a DataLoader, but PNLClassifier samples the batches itself. Pass "
            "its Dataset, X.dataset, and the loader's arguments as net_params."
        )
    if isinstance(X, Dataset) or _holds_items(X):
        inputs = _check_dataset(X, estimator.image_shape)
        is_flat = len(inputs.data.shape) == 1
        if reset:
            estimator.n_features_in_ = math.prod(inputs.sample_shape)
            vars(estimator).pop("feature_names_in_", None)
    else:
        if not hasattr(X, "shape") or _is_array_of_arrays(X):
            X = _stack(X)
        image, channels_last = None, False
        is_flat = len(X.shape) <= 2
        if not is_flat:
            X = np.asarray(X)
            image, channels_last = _image_shape(X.shape, estimator.image_shape)
            if not reset:
                _compare_shapes(estimator, image)
            X = X.reshape(len(X), math.prod(image))
        array = _check_array(estimator, X, reset=reset)
        value_range = _range_of(array)
        if reset and not image and isinstance(array, np.ndarray):
            _warn_of_lost_digits(array, getattr(estimator, "feature_names_in_", None))
        elif reset and sparse.issparse(array) and estimator.image_shape is None:
            _warn_of_many_features(array.shape[1])
        shape = image or _flat_shape(array.shape[1], estimator.image_shape)
        inputs = Inputs(array, shape, value_range, channels_last)
    if reset:
        if is_flat and estimator.image_shape is not None:
            _warn_of_layout(estimator.image_shape)
        estimator.input_shape_ = inputs.sample_shape
        estimator._value_range = inputs.value_range
    else:
        _compare_shapes(estimator, inputs.sample_shape)
        _compare_ranges(estimator, inputs.value_range)
    return inputs


def _check_image_shape(image_shape) -> None:
    if image_shape is not None and len(image_shape) != 3:
        raise ValueError(
            f"image_shape={image_shape!r} must be (channels, height, width)."
        )


def _warn_of_layout(image_shape) -> None:
    """Warn if `image_shape` may be (height, width, channels)."""
    first, middle, last = image_shape
    if last in _CHANNELS and first not in _CHANNELS:
        warn_user(
            f"image_shape={image_shape!r} means {first} channels of {middle} x {last} "
            f"pixels. If {last} is the number of channels, reshape X to (n, {first}, "
            f"{middle}, {last}), since flattened images must have channels first.",
        )


def refuse_masked(X) -> None:
    """Raise for arrays with masked values, whose mask numpy would ignore."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            "X is a masked array with masked values. Missing values are not supported. "
            "Fill them, for example by X.filled(np.nan) and "
            "sklearn.impute.SimpleImputer."
        )


def _holds_items(X) -> bool:
    """Tell whether X is a list of items, such as an indexed Dataset."""
    first = X[0] if isinstance(X, list) and X else None
    if not isinstance(first, tuple | list) or not first:
        return False
    x, *others = first
    if not isinstance(x, Tensor | np.ndarray) or not x.ndim:
        return False
    # Arrays of the same shape may be the channels of an image, or its lines.
    alone = not others and isinstance(first, tuple)
    return alone or any(np.shape(other) != tuple(x.shape) for other in others)


def to_numpy(X):
    """Convert a tensor on any device to an array; return other objects unchanged."""
    if not isinstance(X, Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


def _is_array_of_arrays(X) -> bool:
    return (
        isinstance(X, np.ndarray)
        and X.dtype == object
        and X.ndim == 1
        and any(hasattr(sample, "shape") for sample in X[:1])
    )


def _stack(samples) -> np.ndarray:
    """Convert a sequence of samples to an array; raise if their shapes differ."""
    try:
        return np.asarray(list(samples) if _is_array_of_arrays(samples) else samples)
    except ValueError:
        shapes = [np.shape(sample) for sample in samples]
        for i, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise _shape_error(f"Item {i} of X", shape, shapes[0]) from None
        raise


@contextmanager
def numbers_expected(X) -> Iterator[None]:
    """Explain errors that are raised if X has missing values, or is not numeric."""
    try:
        dtypes = X.dtypes if hasattr(X, "columns") else [getattr(X, "dtype", None)]
        if any(map(_is_temporal, dtypes)):  # numpy may convert them to integers
            raise TypeError("dates and times could not be compared with numbers")
        yield
    except OverflowError as error:
        raise ValueError(f"X contains a value that is too large: {error}.") from error
    except (TypeError, ValueError) as error:
        reason, is_frame = str(error).split(". ")[0], hasattr(X, "columns")
        # The message of scikit-learn about NaN is good, but names no columns.
        known = ["could not", "float()"] + ["contains NaN"] * is_frame
        if not any(part in reason for part in known):
            raise
        reason = re.sub(r"np\.str_\((.*)\)", r"\1", reason)
        message = (
            f"X contains values that are not numbers ({reason}). Encode them first: "
            "dates as numbers of days, categories for example with "
            "sklearn.preprocessing.OneHotEncoder."
        )
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(_describe_columns(X) if is_frame else message) from error


def _is_temporal(dtype) -> bool:
    """Tell whether a dtype of numpy, pandas or polars is of dates, times or spans."""
    if hasattr(dtype, "is_temporal"):
        return dtype.is_temporal()
    return getattr(dtype, "kind", None) in ("m", "M")


def _describe_columns(X) -> str:
    """Name the columns of a DataFrame that are not numeric, or have missing values."""
    others, missing = [], []
    for i, name in enumerate(X.columns):
        column = _safe_indexing(X, i, axis=1)
        try:
            values = np.asarray(column, dtype=float)
        except (TypeError, ValueError):
            others.append(name)
        else:
            if _is_temporal(column.dtype):
                others.append(name)
            elif np.isnan(values).any():
                missing.append(name)
    found = [
        f"{what} in {'columns' if len(names) > 1 else 'column'} {enumerated(names)}"
        for what, names in [
            ("values that are not numbers", others),
            ("NaN", missing),
        ]
        if names
    ]
    return (
        f"X contains {', and '.join(found)}. A pipeline encodes and imputes them:\n\n"
        "    from skrub import tabular_pipeline\n"
        "    model = tabular_pipeline(PNLClassifier())\n\n"
        "With scikit-learn alone, use ColumnTransformer with OneHotEncoder and "
        "SimpleImputer."
    )


def enumerated(names: Iterable, n_shown: int = 5) -> str:
    """Return names of features as a list in words, at most `n_shown` of them."""
    names = [repr(str(name)) if isinstance(name, str) else str(name) for name in names]
    return ", ".join(names[:n_shown] + ["..."] * (len(names) > n_shown))


def checksum(inputs: Inputs) -> int:
    """Return a checksum of some samples; 0 for a Dataset.

    It does not depend on the dtype and on the axis of the channels.
    """
    if inputs.is_dataset:
        return 0
    n_samples = len(inputs)
    array = inputs.data[
        np.linspace(0, n_samples - 1, min(n_samples, _N_SUMMED)).astype(int)
    ]
    array = array.toarray() if sparse.issparse(array) else array
    return zlib.crc32(np.sort(array.astype(np.float32), axis=1).tobytes())


def _check_array(estimator, X, *, reset: bool):
    dtype: Any = _DTYPES
    if not sparse.issparse(X):
        dtype = _CONVERTED.get(getattr(X, "dtype", None), dtype)
    with numbers_expected(X):
        array = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=dtype,
            order="C",
        )
    if sparse.issparse(array):
        return array
    # torch has no other byte order, which columns of a DataFrame may keep.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    # A single sample is contiguous with any strides. This makes the strides regular.
    return array.ravel().reshape(array.shape)


def _range_of(array) -> tuple[float, float]:
    """Return the smallest and the largest value; raise if they overflow in float32."""
    low, high = float(array.min()), float(array.max())
    if max(-low, high) > float(np.finfo(np.float32).max):
        raise ValueError(
            "Input X contains infinity or a value too large for dtype('float32')."
        )
    return low, high


def check_spans(*parts: Inputs) -> None:
    """Raise if squares of a feature, over several inputs, are too large."""
    lows, highs = zip(*(part.value_range for part in parts), strict=True)
    low, high = min(lows), max(highs)
    if high - low <= WIDEST and max(-low, high) <= LARGEST:
        return
    if any(part.is_dataset for part in parts):
        return

    def reduced(function: np.ufunc, name: str) -> np.ndarray:
        each = [getattr(part.data, name)(axis=0) for part in parts]
        each = [x.toarray().ravel() if sparse.issparse(x) else x for x in each]
        return function.reduce([x.astype(float) for x in each])

    spans = reduced(np.maximum, "max") - reduced(np.minimum, "min")
    if max(-low, high) > LARGEST or spans.max() > WIDEST:
        raise ValueError(
            f"Input X has values beyond {LARGEST:g}, or a feature that ranges over "
            f"more than {WIDEST:g}. The squares are too large for dtype('float32'). "
            "Rescale X, for example with sklearn.preprocessing.StandardScaler."
        )


def warn_of_scale(estimator, inputs: Inputs, name: str) -> None:
    """Warn of images on another scale than those that the estimator was fitted to."""
    (low, high), (fit_low, fit_high) = inputs.value_range, estimator._value_range
    largest, of_fit = max(-low, high), max(-fit_low, fit_high)
    is_small = 0 < largest < of_fit / 50
    is_signed = low < -of_fit / 2 and fit_low >= 0
    if len(inputs.sample_shape) == 3 and (
        is_small or is_signed or largest > 10 * of_fit > 0
    ):
        warn_user(
            f"{name} has values from {low:g} to {high:g}, but the X of fit has values "
            f"from {fit_low:g} to {fit_high:g}. Images must have the same scale. For "
            "example, divide all of them by 255.",
        )


def _warn_of_lost_digits(array: np.ndarray, names: np.ndarray | None) -> None:
    """Warn of features whose variation is lost in float32."""
    if array.dtype not in (np.float64, np.int32, np.int64):
        return
    n = min(len(array), max(50, _SAMPLE_VALUES // array.shape[1]))
    sample = array[np.linspace(0, len(array) - 1, n).astype(int)].astype(np.float64)
    level, spread = np.abs(sample.mean(axis=0)), sample.std(axis=0)
    smallest = np.maximum(1e-6 * level, np.finfo(np.float32).tiny)
    lost = np.flatnonzero((spread < smallest) & (spread > 1e-12 * level))
    if len(lost):
        shown = enumerated(lost if names is None else names[lost])
        warn_user(
            f"Features {shown} of X vary by less than a millionth of their mean, or by "
            f"less than {np.finfo(np.float32).tiny:.1g}. Batches are float32, which is "
            "too inaccurate for them. Scale them first, for example with "
            "sklearn.preprocessing.StandardScaler.",
        )


def _warn_of_many_features(n_features: int) -> None:
    """Warn of sparse matrices that should be reduced first, such as those of TF-IDF."""
    if n_features > 1000:
        warn_user(
            f"X is a sparse matrix of {n_features:,} features. A fit to so many "
            "features is slow, and often less accurate than to a hundred. Reduce them "
            "first, for example with make_pipeline(TruncatedSVD(100), Normalizer(), "
            "PNLClassifier()).",
        )


def _flat_shape(n_features: int, image_shape) -> tuple[int, ...]:
    if image_shape is None:
        return (n_features,)
    if n_features != math.prod(image_shape):
        raise ValueError(
            f"image_shape={image_shape!r} has {math.prod(image_shape)} values, but X "
            f"has {n_features} features. They must be equal."
        )
    return tuple(image_shape)


def _image_shape(shape: tuple[int, ...], image_shape) -> tuple[tuple[int, ...], bool]:
    """Return the shape (c, h, w) of an image of X, and whether X has channels last.

    The first entry of `shape`, the number of images, is used in messages only.
    """
    if len(shape) not in (3, 4):
        raise ValueError(
            f"Found array with dim {len(shape)}. X must be a table of shape "
            "(n_samples, n_features) or images of shape (n, h, w), (n, c, h, w) or "
            "(n, h, w, c)."
        )
    gray = len(shape) == 3
    first, middle, last = (1, *shape[1:]) if gray else shape[1:]
    if image_shape is not None:
        if (first, middle, last) == tuple(image_shape):
            channels_last = False
        elif not gray and (last, first, middle) == tuple(image_shape):
            channels_last = True
        else:
            raise ValueError(
                f"X of shape {shape} does not contain images of image_shape="
                f"{image_shape!r}, which is (channels, height, width)."
            )
    else:
        channels_last = not gray and last in _CHANNELS
        if not gray and channels_last == (first in _CHANNELS):
            raise ValueError(
                f"X of shape {shape} may be (n, c, h, w) or (n, h, w, c). Set "
                f"image_shape=(channels, height, width), for example {shape[1:]}."
            )
    if channels_last:
        return (last, first, middle), True
    return (first, middle, last), False


def _check_dataset(dataset: Any, image_shape) -> Inputs:
    if not hasattr(dataset, "__len__"):
        raise TypeError(
            f"X is a Dataset without a length, {type(dataset).__name__}. It must have "
            "__len__ and __getitem__, since it is read in random order."
        )
    if not len(dataset):
        raise ValueError("Found a Dataset with 0 sample(s); at least 1 is required.")
    item = _input_of(dataset, 0)
    if not isinstance(item, Tensor | np.ndarray):
        raise TypeError(
            "The items of the Dataset must be tensors or arrays (or tuples that begin "
            f"with one), got {type(item).__name__}. Use a transform, such as "
            "torchvision's ToTensor."
        )
    shape, channels_last = tuple(item.shape), False
    if len(shape) == 1:
        sample_shape = _flat_shape(len(item), image_shape)
    else:
        sample_shape, channels_last = _image_shape((len(dataset), *shape), image_shape)
    items = Items(dataset, shape, sample_shape, channels_last)
    value_range = np.nan, np.nan
    if len(sample_shape) == 3:
        used = np.linspace(0, len(dataset) - 1, min(len(dataset), _N_ITEMS))
        some = torch.stack([items[i] for i in used.astype(int).tolist()]).float()
        value_range = float(some.min()), float(some.max())
    return Inputs(items, sample_shape, value_range)


def _compare_shapes(estimator, shape: tuple[int, ...]) -> None:
    if shape != estimator.input_shape_:
        raise ValueError(
            f"X has samples of shape {shape}, but {type(estimator).__name__} was "
            f"fitted on samples of shape {estimator.input_shape_}."
        )


def _compare_ranges(estimator, value_range: tuple[float, float]) -> None:
    (low, high), (fit_low, fit_high) = value_range, estimator._value_range
    if max(fit_low - low, high - fit_high) > WIDEST:
        raise ValueError(
            f"X has values from {low:.3g} to {high:.3g}, far beyond those in fit, from "
            f"{fit_low:.3g} to {fit_high:.3g}. They may mark missing values, and are "
            "too large for dtype('float32'). Correct or remove these samples."
        )
