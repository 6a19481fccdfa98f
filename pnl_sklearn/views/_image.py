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
    """Random geometric view of images (n, channels, height, width).

    Every parameter is drawn uniformly for each image. Strengths are the largest values
    that can be drawn; 0 turns a part off.

    Parameters
    ----------
    rotation : float, default=0.0
        Largest angle, in degrees, either way.
    scale : float, default=0.0
        Largest relative change of size; 0.1 means factors from 1 / 1.1 to 1.1.
    shear : float, default=0.0
        Largest horizontal shear, in degrees, either way.
    shift : float, default=0.0
        Largest shift along each axis, as a share of the image size, either way.
    erase : float, default=0.0
        Largest side of the one erased rectangle, as a share of the image size.
    flip : bool, default=False
        Mirror every other image, at random.
    noise : float, default=0.0
        Standard deviation of Gaussian noise, in standard deviations of the batch.
    fill : tuple of float or None, default=None
        Value, for each channel, of what is moved in from outside and of what is
        erased. None reflects the image at its edges and erases to the batch mean.
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
        """Return a view of each image of the batch."""

        def uniform(*shape: int) -> Tensor:
            draws = torch.rand(shape, generator=generator, device=x.device)
            return 2 * draws - 1

        if not len(x):
            return x
        grid = F.affine_grid(self._matrices(len(x), uniform), list(x.shape), False)
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

    def _matrices(self, n: int, uniform) -> Tensor:
        """Inverse affine maps (n, 2, 3), in the units of torch's affine_grid."""
        angle, shear, size, dx, dy, mirror = uniform(6, n)
        angle = angle * math.radians(self.rotation)
        slope = torch.tan(shear * math.radians(self.shear))
        size = (1 + self.scale) ** size
        flip = torch.where(mirror < 0, -1.0, 1.0) if self.flip else torch.ones_like(dx)
        cos, sin = angle.cos() * size, angle.sin() * size
        # A shift by the share s of the image is 2 s in coordinates from -1 to 1.
        first = torch.stack([cos * flip, cos * slope - sin, 2 * self.shift * dx], 1)
        second = torch.stack([sin * flip, sin * slope + cos, 2 * self.shift * dy], 1)
        return torch.stack([first, second], dim=1)


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a float32 tensor that must not be written to, copied to the device once.

    A copy at each step would have the GPU wait, and cannot be part of a CUDA graph.
    """
    return torch.tensor(values, dtype=torch.float32, device=device)


def random_rectangles(x: Tensor, size: float, uniform: Callable[..., Tensor]) -> Tensor:
    """Mask of one random rectangle in each image.

    Parameters
    ----------
    x : Tensor of shape (n, channels, height, width)
    size : float
        Largest side, as a share of the image size.
    uniform : callable
        From a shape to draws from -1 to 1.

    Returns
    -------
    mask : bool Tensor of shape (n, 1, height, width)
    """

    def inside(length: int) -> Tensor:
        middle, half = uniform(2, len(x), 1)
        half = (half + 1) * size / 2
        position = torch.linspace(-1, 1, length, device=x.device)
        return (position - middle).abs() < half

    height, width = x.shape[2:]
    return (inside(height)[:, :, None] & inside(width)[:, None, :])[:, None]
