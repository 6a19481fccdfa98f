"""RandAugment and Cutout for color photographs, drawn for each image, on the device."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ._image import constant, random_rectangles

# Shares of red, green and blue in the brightness of a pixel (ITU-R BT.601).
_LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class RandAugmentView:
    """Strong view of photographs: random changes of color and shape, then Cutout.

    Each image gets `n_operations`, drawn with replacement from identity, autocontrast,
    equalize, posterize, solarize, changes of brightness, color, contrast and sharpness,
    rotation, shear and shift along either axis, each with a strength drawn uniformly
    from the ranges of FixMatch; then one rectangle is made gray. All is computed for
    the whole batch at once.

    Parameters
    ----------
    n_operations : int, default=2
        Operations on an image, one after the other.
    cutout : float, default=0.5
        Largest side of the gray rectangle, as a share of the image size.
    flip : bool, default=True
        Mirror every other image, at random.
    white : float, default=255.0
        Value of the brightest pixel in the units of X; the darkest has 0.

    References
    ----------
    E. Cubuk, B. Zoph, J. Shlens and Q. Le, "RandAugment", NeurIPS 2020; T. DeVries and
    G. Taylor, "Cutout", arXiv 1708.04552; ranges of K. Sohn et al., "FixMatch",
    NeurIPS 2020, Table 12.
    """

    n_operations: int = 2
    cutout: float = 0.5
    flip: bool = True
    white: float = 255.0

    capturable: ClassVar[bool] = True

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a view of each image of the batch (n, channels, height, width)."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=x.device)

        n = len(x)
        if not n:
            return x
        out = (x / self.white).clamp(0, 1)
        if self.flip:
            out = torch.where(uniform(n, 1, 1, 1) < 0.5, out, out.flip(3))
        for _ in range(self.n_operations):
            strength = uniform(n)
            chosen = (uniform(n) * (len(_COLOR) + _N_OTHERS)).long()
            out = _in_color(out, chosen, strength)
            out = _in_shape(out, chosen - len(_COLOR), strength)
        if self.cutout:
            gone = random_rectangles(out, self.cutout, lambda *s: 2 * uniform(*s) - 1)
            out = torch.where(gone, 0.5, out)
        return out * self.white


def autocontrast(x: Tensor, strength: Tensor) -> Tensor:
    """Stretch each channel to all of 0 to 1."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)


def equalize(x: Tensor, strength: Tensor) -> Tensor:
    """Give each channel a flat histogram of 256 values, by PIL's rule."""
    values = (x * 255).round().long().flatten(2)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.long, device=x.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    largest = values.amax(dim=2, keepdim=True)
    step = (values.shape[2] - counts.gather(2, largest)) // 255
    below = counts.cumsum(dim=2) - counts
    table = (below + step // 2) // step.clamp_min(1)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device))
    return (table.clamp(0, 255).gather(2, values).float() / 255).view_as(x)


def posterize(x: Tensor, strength: Tensor) -> Tensor:
    """Keep the highest 4 to 8 of 8 bits."""
    bits = 4 + (5 * strength).long().clamp(max=4)
    width = _each(2.0 ** (8 - bits).float())
    return (torch.floor((255 * x).round() / width) * width) / 255


def solarize(x: Tensor, strength: Tensor) -> Tensor:
    """Invert what is at least as bright as a threshold of 0 to 1."""
    return torch.where(x >= _each(strength), 1 - x, x)


def brightness(x: Tensor, strength: Tensor) -> Tensor:
    """Darken to 0.05 to 0.95 of the brightness."""
    return x * _factor(strength)


def color(x: Tensor, strength: Tensor) -> Tensor:
    """Blend with the gray image."""
    return torch.lerp(_gray(x), x, _factor(strength))


def contrast(x: Tensor, strength: Tensor) -> Tensor:
    """Blend with the mean of the gray image."""
    mean = _gray(x).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(x), x, _factor(strength))


def sharpness(x: Tensor, strength: Tensor) -> Tensor:
    """Blend with the smoothed image; the outermost pixels stay."""
    channels = x.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=x.device, dtype=x.dtype)
    kernel[:, :, 1, 1] = 5
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel / 13, groups=channels)
    return torch.lerp(smooth, x, _factor(strength))


# Each takes images from 0 to 1 and a strength, from 0 to 1, for each of them.
_COLOR = [
    autocontrast,
    equalize,
    posterize,
    solarize,
    brightness,
    color,
    contrast,
    sharpness,
]
# Rotation, shear and shift along the two axes; and no change.
_N_OTHERS = 5 + 1


def _each(values: Tensor) -> Tensor:
    """One value for each image, to be broadcast against the batch."""
    return values.view(-1, 1, 1, 1)


def _factor(strength: Tensor) -> Tensor:
    return _each(0.05 + 0.9 * strength)


def _gray(x: Tensor) -> Tensor:
    """Gray images of as many channels; those of one or two channels are gray."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True).expand_as(x)
    luma = constant(_LUMA, x.device).view(1, 3, 1, 1)
    return (x * luma).sum(dim=1, keepdim=True).expand_as(x)


def _in_color(x: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    """Apply to each image the operation of `_COLOR` that is chosen for it, if any."""
    out = x
    for i, operation in enumerate(_COLOR):
        out = torch.where(_each(chosen == i), operation(x, strength), out)
    return out


def _in_shape(x: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    """Rotate by up to 30 degrees, shear or shift by up to 0.3; gray moves in."""
    # A shift by 0.3 of the image is 0.6 in coordinates from -1 to 1.
    largest = constant((math.radians(30), 0.3, 0.3, 0.6, 0.6), x.device)
    is_chosen = chosen[:, None] == torch.arange(5, device=x.device)
    amounts = is_chosen * largest * (2 * strength - 1)[:, None]
    angle, shear_x, shear_y, shift_x, shift_y = amounts.unbind(1)
    first = torch.stack([angle.cos(), shear_x - angle.sin(), shift_x], 1)
    second = torch.stack([shear_y + angle.sin(), angle.cos(), shift_y], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), False)
    moved = F.grid_sample(x - 0.5, grid, "bilinear", "zeros", False) + 0.5
    # What does not move is not to be rounded either.
    return torch.where(_each(is_chosen.any(dim=1)), moved, x)
