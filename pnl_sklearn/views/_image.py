"""Geometric views of images."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class ImageView:
    """Random geometric view of images.

    Each image gets its own random parameters, which are uniformly distributed. The
    parameters below are their largest values. 0 turns an operation off.

    Parameters
    ----------
    rotation : float, default=0.0
        Largest angle in either direction, in degrees.
    scale : float, default=0.0
        Largest relative change of size. 0.1 means factors from 1 / 1.1 to 1.1.
    shear : float, default=0.0
        Largest horizontal shear in either direction, in degrees.
    shift : float, default=0.0
        Largest shift along each axis in either direction, as a fraction of the image
        size.
    erase : float, default=0.0
        Largest side of a rectangle that is erased, as a fraction of the image size.
    flip : bool, default=False
        Whether to mirror an image horizontally, with probability 1/2.
    noise : float, default=0.0
        Standard deviation of Gaussian noise, in standard deviations of the batch.
    fill : tuple of float or None, default=None
        Value of each channel outside of the image and in the erased rectangle, in the
        units of X. None reflects the image at its borders, and erases to the mean of
        the batch.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.views import ImageView
    >>> view = ImageView(rotation=15, shift=0.1, flip=True)
    >>> view(torch.rand(4, 3, 32, 32)).shape
    torch.Size([4, 3, 32, 32])
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    erase: float = 0.0
    flip: bool = False
    noise: float = 0.0
    fill: tuple[float, ...] | None = None

    capturable: ClassVar[bool] = True

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a random view of each image of the batch.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, n_channels, height, width)
            A batch of images.
        generator : torch.Generator or None, default=None
            Random number generator on the device of `x`; torch's default if None.

        Returns
        -------
        augmented : float32 Tensor of shape (n_samples, n_channels, height, width)
            The augmented images, in the same order.
        """

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(shape, generator=generator, device=x.device) - 1

        if not len(x):
            return x
        grid = F.affine_grid(self._inverse_maps(len(x), uniform), list(x.shape), False)
        if self.fill is None:
            fill = x.mean(dim=(0, 2, 3)).view(1, -1, 1, 1)
            out = F.grid_sample(x, grid, "bilinear", "reflection", False)
        else:
            values = (self.fill,) if isinstance(self.fill, Real) else tuple(self.fill)
            fill = constant(values, x.device).view(1, -1, 1, 1)
            out = F.grid_sample(x - fill, grid, "bilinear", "zeros", False) + fill
        if self.erase:
            out = torch.where(random_rectangles(x, self.erase, uniform), fill, out)
        if self.noise:
            noise = torch.randn(out.shape, generator=generator, device=x.device)
            out = out + noise * (self.noise * x.std())
        return out

    def _inverse_maps(self, n: int, uniform: Callable[..., Tensor]) -> Tensor:
        """Return random affine maps, of shape (n, 2, 3), from output to input.

        Coordinates are from -1 to 1, as in torch's affine_grid.
        """
        angle, shear, log_scale, dx, dy, mirror = uniform(6, n)
        angle = angle * math.radians(self.rotation)
        slope = torch.tan(shear * math.radians(self.shear))
        scale = (1 + self.scale) ** log_scale
        flip = torch.where(mirror < 0, -1.0, 1.0) if self.flip else torch.ones_like(dx)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        # The image has size 2 in these coordinates.
        first = torch.stack([cos * flip, cos * slope - sin, 2 * self.shift * dx], 1)
        second = torch.stack([sin * flip, sin * slope + cos, 2 * self.shift * dy], 1)
        return torch.stack([first, second], dim=1)


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a cached float32 tensor of shape (n_values,). Do not change it in place.

    Copying the values to the device at each step would stall the GPU, and could not be
    captured in a CUDA graph.
    """
    return torch.tensor(values, dtype=torch.float32, device=device)


def random_rectangles(x: Tensor, size: float, uniform: Callable[..., Tensor]) -> Tensor:
    """Return a mask of one random rectangle in each image.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_channels, height, width)
        A batch of images.
    size : float
        Largest side, as a fraction of the image size.
    uniform : callable
        Maps a shape to uniform random numbers from -1 to 1.

    Returns
    -------
    mask : bool Tensor of shape (n_samples, 1, height, width)
        True inside of the rectangle.
    """

    def interval(n_pixels: int) -> Tensor:
        center, half_length = uniform(2, len(x), 1)
        half_length = (half_length + 1) * size / 2
        position = torch.linspace(-1, 1, n_pixels, device=x.device)
        return (position - center).abs() < half_length

    height, width = x.shape[2:]
    return (interval(height)[:, :, None] & interval(width)[:, None, :])[:, None]
