"""Clipping of outliers: values that are far beyond those of all other samples."""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from ._inputs import Inputs
from ._sources import ClippedSource, Source, SparseSource, chunks

# Number of exponents of float32.
_N_EXPONENTS = 256
# Values of a sparse matrix, and features, that are processed at a time.
_N_VALUES, _N_FEATURES = 2**19, 2**12


def clip_outliers(
    source: Source, inputs: Inputs, names: np.ndarray | None = None
) -> Source:
    """Clip samples of a table with values far beyond those of all others, and warn.

    One such value, for example 1e9 among values up to 16, would increase the standard
    deviation so much that the standardized feature of all other samples is constant.

    Parameters
    ----------
    source : Source
    inputs : Inputs
        The samples of the source. Images and Datasets are not clipped.
    names : array of shape (n_features,) or None, default=None
        Names of the features.

    Returns
    -------
    source : Source
        The given source if no value is far beyond the others. Otherwise a source that
        clips the samples with such values to the range of all other samples.

    Warns
    -----
    UserWarning
        If values are clipped.
    """
    if inputs.is_dataset or len(inputs.sample_shape) > 1:
        return source
    center = _medians(source, inputs)
    counts = _count_exponents(source, inputs, center).split(_N_FEATURES)
    # Smaller differences may be rounding errors.
    floors = _exponents(1e-6 * center).cpu().split(_N_FEATURES)
    first = torch.cat(list(map(_smallest_outlying_exponent, counts, floors)))
    features = torch.nonzero(first < _N_EXPONENTS)[:, 0]
    if not len(features):
        return source
    first = first.to(center.device)

    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        for x in source.stream(chunks(range(len(inputs)), inputs.sample_shape)):
            yield x, _exponents(x - center) >= first

    n_samples = sum(int(is_far.any(dim=1).sum()) for _, is_far in stream())
    low, high = (torch.full_like(center, sign * torch.inf) for sign in (1, -1))
    for x, is_far in stream():
        if 2 * n_samples <= len(inputs):
            # All values of such a sample may be wrong, also those of features in which
            # an error cannot be recognized, since the other samples are all equal.
            is_far = is_far.any(dim=1, keepdim=True)
        low = low.minimum(x.where(~is_far, torch.inf).amin(dim=0))
        high = high.maximum(x.where(~is_far, -torch.inf).amax(dim=0))
    _warn(features.tolist(), n_samples, names)
    return ClippedSource(source, low, high)


def _medians(source: Source, inputs: Inputs) -> Tensor:
    """Return the median of each feature over some samples; 0 for sparse features."""
    n_samples = len(inputs)
    if isinstance(source, SparseSource):
        return torch.zeros(inputs.sample_shape, device=source.device)
    # Wide tables use fewer samples, to limit the memory.
    n_used = min(n_samples, 1000, max(50, 2**23 // inputs.sample_shape[0]))
    some = np.linspace(0, n_samples - 1, n_used).astype(np.int64)
    # torch's median is one of the values, so that most differences of a feature with
    # few values, such as a one-hot encoded category, are 0.
    return next(source.stream([some])).median(dim=0).values


def _exponents(x: Tensor) -> Tensor:
    """Return the exponents of float32 values, which are 0 for 0 and at most 255."""
    return (x.view(torch.int32) >> 23) & (_N_EXPONENTS - 1)


def _count_exponents(source: Source, inputs: Inputs, center: Tensor) -> Tensor:
    """Count the exponents of all differences from the center, feature by feature.

    Zeros that a sparse matrix does not contain are not counted.

    Returns
    -------
    counts : int32 Tensor of shape (n_features, 256) on the CPU
    """
    counts = torch.zeros(len(center) * _N_EXPONENTS, dtype=torch.int32)
    counts = counts.to(center.device)
    one = torch.ones(1, dtype=torch.int32, device=center.device)
    for features, x in _differences(source, inputs, center):
        places = (_N_EXPONENTS * features + _exponents(x)).flatten()
        counts.scatter_add_(0, places, one.expand(len(places)))
    return counts.reshape(-1, _N_EXPONENTS).cpu()


def _differences(
    source: Source, inputs: Inputs, center: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features and differences from the center, chunk by chunk."""
    if issparse(inputs.data):
        matrix = inputs.data
        for i in range(0, matrix.nnz, _N_VALUES):
            part = slice(i, i + _N_VALUES)
            features = torch.from_numpy(matrix.indices[part].astype(np.int64))
            values = torch.from_numpy(matrix.data[part].astype(np.float32))
            yield features.to(center.device), values.to(center.device)
    else:
        features = torch.arange(len(center), device=center.device)
        for x in source.stream(chunks(range(len(inputs)), inputs.sample_shape)):
            yield features, x - center


def _smallest_outlying_exponent(counts: Tensor, floor: Tensor) -> Tensor:
    """Return the smallest exponent of values that are far beyond the others.

    Exponents measure distances from the median on a logarithmic scale. Values are far
    beyond the others if there is a gap between their exponents and all others. It must
    be wider, by 6, than the upper half of the other exponents, since the largest values
    of features with heavy tails are far from each other, too. For a normal distribution
    this means some hundreds of standard deviations.

    Parameters
    ----------
    counts : int Tensor of shape (n_features, 256)
        Number of values with each exponent.
    floor : int Tensor of shape (n_features,)
        Values with this exponent, or a smaller one, are taken for the median.

    Returns
    -------
    first : int Tensor of shape (n_features,)
        256 if no value is far beyond the others.
    """
    exponents = torch.arange(_N_EXPONENTS)
    counts = counts.where(exponents > floor[:, None], 0)
    n_up_to = counts.cumsum(dim=1)
    n_values = n_up_to[:, -1:]
    n_from = n_values - n_up_to + counts
    # The largest exponent of the values that have a smaller one; 0 if there are none.
    before = exponents.where(counts > 0, 0).cummax(dim=1).values.roll(1, dims=1)
    before[:, 0] = 0
    middle = (2 * n_up_to < n_values).sum(dim=1, keepdim=True)
    is_gap = exponents - before > 6 + (before - middle).clamp(min=0)
    # More than one percent of the values are no errors. From fewer than 20 values, the
    # range of a feature cannot be estimated.
    are_few = (100 * (n_from - 1) < n_values) & (n_values >= 20)
    is_far = (counts > 0) & (before > 0) & is_gap & are_few
    return exponents.where(is_far, _N_EXPONENTS).amin(dim=1)


def _warn(features: list[int], n_samples: int, names: np.ndarray | None) -> None:
    shown = [repr(str(names[i])) if names is not None else str(i) for i in features[:5]]
    if len(features) > len(shown):
        shown.append("...")
    kind = "feature" if len(features) == 1 else "features"
    samples = "1 sample has" if n_samples == 1 else f"{n_samples:,} samples have"
    warnings.warn(
        f"{samples} values of {kind} {', '.join(shown)} that are far beyond those of "
        "all other samples. In this fit, the samples are clipped to the range of the "
        "others. Correct or remove them. If the values are right, "
        "transform the features, for example by their logarithm or by "
        "sklearn.preprocessing.QuantileTransformer.",
        stacklevel=5,
    )
