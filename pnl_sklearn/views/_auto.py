"""Automatic choice of the weak and the strong view."""

import math

import torch
from torch import Tensor

from ._base import View
from ._image import ImageView
from ._table import NeighborView, TableView, has_common_unit


def auto_views(X: Tensor, use_neighbors: bool = True) -> tuple[View, View]:
    """Return the default weak and strong view, ``"auto"``, for some samples.

    - Tables have a :class:`NeighborView` as the weak view and a :class:`TableView` as
      the strong view. With fewer than 100 samples, the weak view changes nothing. If
      neighbors do not predict the labels, it changes nothing, too, and the strong view
      adds noise only (see :class:`~pnl_sklearn.evidence.Evidence`).
    - Images have two :class:`ImageView` of different strength. Images of one channel
      are neither mirrored nor partly erased, since this may change the class of a digit
      or letter.

    Parameters
    ----------
    X : float32 Tensor of shape (n_samples, n_features) or \
            (n_samples, n_channels, height, width)
        Some samples of the training data. The weak view of a table keeps a copy of
        them, among which neighbors are searched.
    use_neighbors : bool, default=True
        Whether near samples of a table tend to be of one class.

    Returns
    -------
    weak_view, strong_view : View
        Callables that map a batch to an augmented batch.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.views import auto_views
    >>> weak_view, strong_view = auto_views(torch.rand(200, 3))
    >>> strong_view
    TableView(noise=0.1, corruption=0.1)
    """
    if X.ndim == 2:
        # Wide tables keep fewer samples: at most 64 MiB, and as much again when scaled.
        stride = math.ceil(X.numel() / 2**24) or 1
        reference = X[::stride].clone()
        units = torch.ones(X.shape[1]) if has_common_unit(reference) else None
        # The nearest neighbor among fewer than 100 samples is often of another class.
        is_on = use_neighbors and len(reference) >= 100
        n_neighbors = max(3, len(reference) // 100) if is_on else 0
        weak = NeighborView(reference, n_neighbors, units=units)
        # Where single features decide, a corrupted one changes the class.
        return weak, TableView(noise=0.1, corruption=0.1 if use_neighbors else 0.0)
    one_channel = X.shape[1] == 1
    fill = _background(X) if one_channel else None
    flip = not one_channel  # a mirrored digit or letter may be of another class
    # The erased part of a digit or letter may be what distinguishes it from others.
    erase = 0.0 if one_channel else 0.3
    return (
        ImageView(rotation=5, shift=0.06, flip=flip, fill=fill),
        ImageView(
            rotation=20,
            scale=0.15,
            shear=15,
            shift=0.12,
            erase=erase,
            flip=flip,
            fill=fill,
        ),
    )


def _background(images: Tensor) -> tuple[float, ...]:
    """Return the median of the outermost pixels of each channel."""
    top_and_bottom = images[:, :, [0, -1], :].flatten(2)
    left_and_right = images[:, :, :, [0, -1]].flatten(2)
    border = torch.cat([top_and_bottom, left_and_right], dim=2)
    return tuple(border.transpose(0, 1).flatten(1).median(dim=1).values.tolist())
