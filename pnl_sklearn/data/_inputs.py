"""Checks of X: clean samples, their shape, and messages about bad ones."""

import math
import warnings
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

_CHANNELS = (1, 3, 4)
# Largest range of a feature: a float32 holds the square of this, and sums of some.
_WIDEST = 1e18
# Number of values that are looked at for features that vary too little.
_SAMPLE_VALUES = 2**20
# Samples that a checksum covers.
_N_SUMMED = 100
# Kept as they are; a batch is float32 whatever they are. The first is for all others.
_DTYPES = [np.float32, np.float64, np.uint8, np.int8, np.int16, np.int32, np.int64]


@dataclass
class Inputs:
    """Clean inputs.

    Parameters
    ----------
    data : array or CSR matrix of shape (n_samples, n_features), or Items
    sample_shape : tuple of int
        (n_features,) or (channels, height, width).
    channels_last : bool, default=False
        Whether the values of an image are in the order height, width, channels.
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


class Items(Dataset):
    """Inputs that a Dataset holds as items, or first in them, all of one shape.

    Parameters
    ----------
    dataset : Dataset or list
    shape : tuple of int
        Of an item as it comes.
    sample_shape : tuple of int
        (d,) or (c, h, w), which it is brought to.
    channels_last : bool
        Whether it comes as (h, w, c).
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
                f"has shape {self.shape}. Bring all to one shape, for example by "
                "torchvision's Resize."
            )
        if not x.isfinite().all():
            raise ValueError(f"Item {index} of the Dataset contains NaN or infinity.")
        if self.channels_last:
            return x.permute(2, 0, 1)
        return x.reshape(self.sample_shape)


def _input_of(dataset: Any, index: int) -> Any:
    """The input of an item that is an input or a pair (input, anything)."""
    item = dataset[index]
    return item[0] if isinstance(item, tuple | list) else item


def check_inputs(estimator, X, *, reset: bool, learned: bool = False) -> Inputs:
    """Validate X and convert it to what torch can take.

    Parameters
    ----------
    estimator : PNLClassifier
        Holds `image_shape`; gets `n_features_in_`, `feature_names_in_` and
        `input_shape_` if `reset`, and is compared with otherwise.
    X : array-like, sparse matrix, Tensor or Dataset
    reset : bool
        True in fit.
    learned : bool, default=False
        Whether the samples are trained on, so that their squares have to be finite.

    Returns
    -------
    inputs : Inputs
        Of the dtype of X where torch has it, uint8 for bool, float32 otherwise. No copy
        is made of C-contiguous arrays.
    """
    _check_image_shape(estimator.image_shape)
    X = to_numpy(X)
    refuse_masked(X)
    if isinstance(X, DataLoader):
        raise TypeError(
            "X is a DataLoader, which decides on batches; they are drawn here. Give "
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
            f"image_shape={image_shape!r} has to be (channels, height, width)."
        )


def _warn_of_layout(image_shape) -> None:
    """Warn of an `image_shape` that may be (height, width, channels)."""
    first, middle, last = image_shape
    if last in _CHANNELS and first not in _CHANNELS:
        warnings.warn(
            f"image_shape={image_shape!r} means {first} channels of {middle} x {last} "
            f"pixels. If {last} is the number of channels, X has to be of shape (n, "
            f"{first}, {middle}, {last}): flat samples hold the channels first.",
            stacklevel=6,
        )


def refuse_masked(X) -> None:
    """Refuse arrays with masked values, which numpy would hand out unmasked."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            "X is a masked array with masked values, which are missing ones. Fill them "
            "first: X.filled(np.nan) and sklearn.impute.SimpleImputer, for example."
        )


def _holds_items(X) -> bool:
    """Tell whether X is a list of items, as scikit-learn's indexing makes it."""
    first = X[0] if isinstance(X, list) and X else None
    if not isinstance(first, tuple | list) or not first:
        return False
    x, *others = first
    if not isinstance(x, Tensor | np.ndarray) or not x.ndim:
        return False
    # Arrays of one shape may be the channels of an image, or its lines of pixels.
    alone = not others and isinstance(first, tuple)
    return alone or any(np.shape(other) != tuple(x.shape) for other in others)


def to_numpy(X):
    """Return tensors as arrays, wherever they are, and all else as it is."""
    if not isinstance(X, Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


@contextmanager
def numbers_expected() -> Iterator[None]:
    """Say what to do where X turns out to hold something else than numbers."""
    try:
        yield
    except (TypeError, ValueError) as error:
        reason = str(error).split(". ")[0]
        if "could not" not in reason and "float()" not in reason:
            raise
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            f"X holds values that are not numbers ({reason}). Encode them first: dates "
            "as days since one of them, categories for example with "
            "sklearn.preprocessing.OneHotEncoder."
        ) from error


def checksum(inputs: Inputs) -> int:
    """Return a checksum of some samples; 0 for a Dataset.

    It does not depend on the dtype, nor on which axis holds the channels.
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
    # Not a view of odd strides: a single sample is contiguous whatever they are.
    return array.ravel().reshape(array.shape)


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
                f"Input X spans more than {_WIDEST:g} in a feature, whose squares "
                "are too large for dtype('float32'). Rescale X, for example with "
                "sklearn.preprocessing.StandardScaler."
            )


def _warn_of_lost_digits(array: np.ndarray) -> None:
    """Warn of features that vary too little for the digits of a float32."""
    if array.dtype not in (np.float64, np.int32, np.int64):
        return
    n = min(len(array), max(50, _SAMPLE_VALUES // array.shape[1]))
    sample = array[np.linspace(0, len(array) - 1, n).astype(int)].astype(np.float64)
    level, spread = np.abs(sample.mean(axis=0)), sample.std(axis=0)
    lost = np.flatnonzero((spread < 1e-6 * level) & (spread > 1e-12 * level))
    if len(lost):
        named = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
        warnings.warn(
            f"Features {named} of X vary by less than a millionth of their mean. "
            "Batches are float32, which has no digits for that: subtract the mean "
            "first, for example with sklearn.preprocessing.StandardScaler.",
            stacklevel=6,
        )


def _flat_shape(n_features: int, image_shape) -> tuple[int, ...]:
    if image_shape is None:
        return (n_features,)
    if n_features != math.prod(image_shape):
        raise ValueError(
            f"image_shape={image_shape!r} asks for {math.prod(image_shape)} values "
            f"a sample, but X has {n_features} features."
        )
    return tuple(image_shape)


def _image_shape(shape: tuple[int, ...], image_shape) -> tuple[tuple[int, ...], bool]:
    """Return the shape (c, h, w) of images in X, and whether channels are last there.

    The first entry of `shape`, their number, only shows in messages.
    """
    if len(shape) not in (3, 4):
        raise ValueError(
            f"Found array with dim {len(shape)}. X has to be a table of shape "
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
                f"X of shape {shape} does not hold images of image_shape="
                f"{image_shape!r}, which means (channels, height, width)."
            )
    else:
        channels_last = not gray and last in _CHANNELS
        if not gray and channels_last == (first in _CHANNELS):
            raise ValueError(
                f"X of shape {shape} may be (n, c, h, w) or (n, h, w, c). Settle it "
                f"by image_shape=(channels, height, width), {shape[1:]} for example."
            )
    if channels_last:
        return (last, first, middle), True
    return (first, middle, last), False


def _check_dataset(dataset: Any, image_shape) -> Inputs:
    if not hasattr(dataset, "__len__"):
        raise TypeError(
            f"X is a Dataset without a length, {type(dataset).__name__}. It is read in "
            "random order: give a Dataset with __len__ and __getitem__."
        )
    if not len(dataset):
        raise ValueError("Found a Dataset with 0 sample(s); at least 1 is required.")
    item = _input_of(dataset, 0)
    if not isinstance(item, Tensor | np.ndarray):
        raise TypeError(
            "The items of the Dataset have to be tensors or arrays (or pairs that "
            f"begin with one), got {type(item).__name__}. A transform such as "
            "torchvision's ToTensor makes them so."
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
