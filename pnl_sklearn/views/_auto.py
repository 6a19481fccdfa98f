"""The views that suit a sample of the inputs."""

import math

import torch
from torch import Tensor

from ._base import View
from ._image import ImageView
from ._table import NeighborView, TableView, has_common_unit

# Values of the rows that the automatic view of tables keeps, in two forms: 128 MiB.
_REFERENCE_VALUES = 2**24


def auto_views(sample: Tensor) -> tuple[View, View]:
    """Return the weak and the strong view that suit a sample of the inputs.

    Parameters
    ----------
    sample : float32 Tensor of shape (n, n_features) or (n, channels, height, width)
        Source of a table are kept, as the neighbors that others move toward.

    Returns
    -------
    weak_view, strong_view : callable
    """
    if sample.ndim == 2:
        # Of very wide tables fewer rows, for memory's sake.
        stride = math.ceil(sample.numel() / _REFERENCE_VALUES) or 1
        reference = sample[::stride].clone()
        units = torch.ones(sample.shape[1]) if has_common_unit(reference) else None
        # The nearest hundredth, or three of a few hundred; of fewer, none is near.
        n_near = max(3, len(reference) // 100) if len(reference) >= 100 else 0
        near = NeighborView(reference, n_near, units=units)
        return near, TableView(noise=0.1, corruption=0.1)
    one_channel = sample.shape[1] == 1
    fill = _border(sample) if one_channel else None
    flip = not one_channel  # a mirrored digit or letter is another one, or none
    weak = ImageView(rotation=5, shift=0.06, flip=flip, fill=fill)
    # An erased part of a digit or letter may be what tells it from others.
    erase = 0.0 if one_channel else 0.3
    strong = ImageView(
        rotation=20, scale=0.15, shear=15, shift=0.12, erase=erase, flip=flip, fill=fill
    )
    return weak, strong


def _border(images: Tensor) -> tuple[float, ...]:
    """Median of the outermost pixels of each channel: the background, most often."""
    rows = images[:, :, [0, -1], :].flatten(2)
    columns = images[:, :, :, [0, -1]].flatten(2)
    edges = torch.cat([rows, columns], dim=2).transpose(0, 1).flatten(1)
    return tuple(edges.median(dim=1).values.tolist())
