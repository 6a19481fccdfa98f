"""Clipping of outliers: values that are far beyond those of all other samples."""

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from ..utils._warnings import warn_user
from ._inputs import Inputs, enumerated
from ._sources import ClippedSource, Source, chunks


def clip_outliers(
    source: Source,
    inputs: Inputs,
    names: np.ndarray | None = None,
    n_spreads: float = 1000,
) -> Source:
    """Clip samples of a table with values far beyond those of all others, and warn.

    One such value, for example 1e9 among values up to 16, would increase the standard
    deviation so much that the standardized feature of all other samples is constant.

    Parameters
    ----------
    source : Source
    inputs : Inputs
        The samples of the source. Images, sparse matrices and Datasets are not clipped.
    names : array of shape (n_features,) or None, default=None
        Names of the features.
    n_spreads : float, default=1000
        Distance from the median, in spreads, of a far value.

    Returns
    -------
    source : Source
        Clips samples with far values to the range of all others. It is the given source
        if there are none, or more than one percent: these are no errors.
    """
    is_table = not inputs.is_dataset and len(inputs.sample_shape) == 1
    # Fewer than 20 samples do not tell the range of a feature.
    if not is_table or issparse(inputs.data) or len(inputs) < 20:
        return source
    center, spread = _center_and_spread(source, inputs)
    reach = n_spreads * spread
    # Constant features have spread 0, or that of rounding errors.
    reach[spread <= 1e-7 * center.abs()] = torch.inf
    low, high = (center - reach).float(), (center + reach).float()
    flags, features = [], torch.zeros_like(low).bool()
    for x in source.stream(chunks(range(len(inputs)), inputs.sample_shape)):
        is_far = (x < low) | (x > high)
        flags.append(is_far.any(dim=1))
        features |= is_far.any(dim=0)
    flagged = torch.cat(flags).cpu().numpy()
    if not 0 < flagged.sum() <= max(1, len(inputs) // 100):
        return source
    low, high = torch.full_like(low, torch.inf), torch.full_like(high, -torch.inf)
    for x in source.stream(chunks(np.flatnonzero(~flagged), inputs.sample_shape)):
        low, high = low.minimum(x.amin(dim=0)), high.maximum(x.amax(dim=0))
    _warn(features.nonzero()[:, 0].tolist(), flagged.sum(), names)
    return ClippedSource(source, low, high)


def _center_and_spread(source: Source, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return median and spread of each feature, in float64.

    The spread is the root mean square of the differences from the median, without the
    largest percent of them. Differences of 0 are not counted, since most values of a
    count or of a one-hot feature may be 0. At most 10,000 samples are used, evenly
    spaced; fewer of a wide table. The spread is 0 if fewer than ten values differ.
    """
    n_used = min(len(inputs), 10_000, max(200, 2**20 // inputs.sample_shape[0]))
    used = np.linspace(0, len(inputs) - 1, n_used).round().astype(np.int64)
    x = next(source.stream([used])).double()
    center = x.median(dim=0).values
    squares = (x - center).square_().sort(dim=0).values
    n_other = (squares > 0).sum(dim=0)
    n_kept = n_other - 1 - n_other // 100
    last = (n_used - 1 - (n_other - n_kept)).clamp(min=0)
    total = squares.cumsum(dim=0).gather(0, last[None])[0]
    return center, torch.where(n_kept < 10, 0.0, total / n_kept).sqrt()


def _warn(features: list[int], n_samples: int, names: np.ndarray | None) -> None:
    shown = enumerated(features if names is None else names[features])
    kind = "feature" if len(features) == 1 else "features"
    samples = "1 sample has" if n_samples == 1 else f"{n_samples:,} samples have"
    warn_user(
        f"{samples} values of {kind} {shown} that are far beyond those of "
        "all other samples. In this fit, these samples are clipped to the range of the "
        "others. Correct or remove them. If the values are right, transform the "
        "features, for example by their logarithm.",
    )
