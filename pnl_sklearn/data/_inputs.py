"""Validation of X."""

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..utils._warnings import warn_user

_CHANNELS = (1, 3, 4)
# Largest range of a feature, so that sums of its squares are finite in float32.
_WIDEST = 1e18
# Number of values that are checked for features that vary too little.
_SAMPLE_VALUES = 2**20
# Number of samples of a checksum.
_N_SUMMED = 100
# These dtypes are kept, all others are converted to the first. Batches are float32.
_DTYPES = [np.float32, np.float64, np.uint8, np.int8, np.int16, np.int32, np.int64]


@dataclass
class Inputs:
    """Validated samples.

    Parameters
    ----------
    data : array or CSR matrix of shape (n_samples, n_features), or Items
    sample_shape : tuple of int
        (n_features,) or (channels, height, width).
    channels_last : bool, default=False
        Whether the axes of a flattened image are height, width, channels.
    """

    data: Any
    sample_shape: tuple[int, ...]
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
            raise ValueError(
                f"Item {index} of the Dataset has shape {tuple(x.shape)}, but item 0 "
                f"has shape {self.shape}. All items must have the same shape. Use for "
                "example torchvision's Resize."
            )
        if not x.isfinite().all():
            raise ValueError(f"Item {index} of the Dataset contains NaN or infinity.")
        if self.channels_last:
            return x.permute(2, 0, 1)
        return x.reshape(self.sample_shape)


def _input_of(dataset: Any, index: int) -> Any:
    """Return the sample of an item, which is a sample or a tuple (sample, ...)."""
    item = dataset[index]
    return item[0] if isinstance(item, tuple | list) else item


def check_inputs(estimator, X, *, reset: bool, learned: bool = False) -> Inputs:
    """Validate X and convert it to a form that torch supports.

    Parameters
    ----------
    estimator : PNLClassifier
        Its `image_shape` is used. If `reset`, its attributes `n_features_in_`,
        `feature_names_in_` and `input_shape_` are set. Otherwise X is compared with
        them.
    X : array-like, sparse matrix, Tensor or Dataset
    reset : bool
        Whether X is the X of a new fit.
    learned : bool, default=False
        Whether the samples are trained on, so that their squares must be finite.

    Returns
    -------
    inputs : Inputs
        Validated samples. The dtype of X is kept if torch has it, bool is converted to
        uint8, other dtypes to float32. C-contiguous arrays are not copied.
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
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        image, channels_last = None, False
        is_flat = len(X.shape) <= 2
        if not is_flat:
            X = np.asarray(X)
            image, channels_last = _image_shape(X.shape, estimator.image_shape)
            if not reset:
                _compare_shapes(estimator, image)
            X = X.reshape(len(X), math.prod(image))
        array = _check_array(estimator, X, reset=reset, learned=learned)
        if reset and not image and isinstance(array, np.ndarray):
            _warn_of_lost_digits(array)
        shape = image or _flat_shape(array.shape[1], estimator.image_shape)
        inputs = Inputs(array, shape, channels_last)
    if reset:
        if is_flat and estimator.image_shape is not None:
            _warn_of_layout(estimator.image_shape)
        estimator.input_shape_ = inputs.sample_shape
    else:
        _compare_shapes(estimator, inputs.sample_shape)
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


@contextmanager
def numbers_expected() -> Iterator[None]:
    """Explain errors that are raised if X contains values that are not numbers."""
    try:
        yield
    except (TypeError, ValueError) as error:
        reason = str(error).split(". ")[0]
        if "could not" not in reason and "float()" not in reason:
            raise
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            f"X contains values that are not numbers ({reason}). Encode them first: "
            "dates as numbers of days, categories for example with "
            "sklearn.preprocessing.OneHotEncoder."
        ) from error


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


def _check_array(estimator, X, *, reset: bool, learned: bool):
    is_bool = getattr(X, "dtype", None) == np.bool_ and not sparse.issparse(X)
    with numbers_expected():
        array = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=np.uint8 if is_bool else _DTYPES,
            order="C",
        )
    values = array.data if sparse.issparse(array) else array
    if values.dtype.kind == "f" and values.size:
        _check_range(values, learned)
    if sparse.issparse(array):
        return array
    # A single sample is contiguous with any strides. This makes the strides regular.
    return array.ravel().reshape(array.shape)


def _check_range(values: np.ndarray, learned: bool) -> None:
    """Raise for values that overflow in float32, or whose squares do in training."""
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
                f"A feature of input X has a range of more than {_WIDEST:g}. Its "
                "squares are too large for dtype('float32'). Rescale X, for example "
                "with sklearn.preprocessing.StandardScaler."
            )


def _warn_of_lost_digits(array: np.ndarray) -> None:
    """Warn of features whose variation is lost in float32."""
    if array.dtype not in (np.float64, np.int32, np.int64):
        return
    n = min(len(array), max(50, _SAMPLE_VALUES // array.shape[1]))
    sample = array[np.linspace(0, len(array) - 1, n).astype(int)].astype(np.float64)
    level, spread = np.abs(sample.mean(axis=0)), sample.std(axis=0)
    lost = np.flatnonzero((spread < 1e-6 * level) & (spread > 1e-12 * level))
    if len(lost):
        named = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
        warn_user(
            f"Features {named} of X vary by less than a millionth of their mean. "
            "Batches are float32, which is too inaccurate for them. Subtract the mean "
            "first, for example with sklearn.preprocessing.StandardScaler.",
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
    return Inputs(Items(dataset, shape, sample_shape, channels_last), sample_shape)


def _compare_shapes(estimator, shape: tuple[int, ...]) -> None:
    if shape != estimator.input_shape_:
        raise ValueError(
            f"X has samples of shape {shape}, but {type(estimator).__name__} was "
            f"fitted on samples of shape {estimator.input_shape_}."
        )
