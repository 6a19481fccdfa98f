"""RandAugment and Cutout for color photographs, with parameters for each image."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ._image import constant, random_rectangles


@dataclass(frozen=True)
class RandAugmentView:
    """Strong view of photographs: RandAugment, then Cutout.

    Each image gets `n_operations` random operations, sampled with replacement:
    identity, autocontrast, equalize, posterize, solarize, brightness, color, contrast,
    sharpness, rotation, and shear and translation along both axes. Their magnitudes are
    uniformly distributed over the ranges of FixMatch. Cutout then makes one rectangle
    gray.

    Parameters
    ----------
    n_operations : int, default=2
        Number of operations on an image, one after the other.
    cutout : float, default=0.5
        Largest side of the gray rectangle, as a fraction of the image size.
    flip : bool, default=True
        Whether to mirror an image horizontally, with probability 1/2.
    white : float, default=255.0
        Value of a white pixel in the units of X. The value of a black pixel is 0.
        Values beyond this range are clipped.

    References
    ----------
    E. Cubuk, B. Zoph, J. Shlens and Q. Le, "RandAugment", NeurIPS 2020; T. DeVries and
    G. Taylor, "Cutout", arXiv 1708.04552; ranges of K. Sohn et al., "FixMatch",
    NeurIPS 2020, Table 12.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.views import RandAugmentView
    >>> view = RandAugmentView(white=1.0)  # pixels from 0 to 1
    >>> view(torch.rand(4, 3, 32, 32)).shape
    torch.Size([4, 3, 32, 32])
    """

    n_operations: int = 2
    cutout: float = 0.5
    flip: bool = True
    white: float = 255.0

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
            return torch.rand(shape, generator=generator, device=x.device)

        n = len(x)
        if not n:
            return x
        out = (x / self.white).clamp(0, 1)
        if self.flip:
            out = torch.where(uniform(n, 1, 1, 1) < 0.5, out, out.flip(3))
        for _ in range(self.n_operations):
            magnitude = uniform(n)
            n_choices = len(_COLOR_OPERATIONS) + _N_GEOMETRIC_OPERATIONS + 1
            choice = (uniform(n) * n_choices).long()  # the last one is the identity
            out = _apply_color(out, choice, magnitude)
            out = _apply_geometric(out, choice - len(_COLOR_OPERATIONS), magnitude)
        if self.cutout:
            mask = random_rectangles(out, self.cutout, lambda *s: 2 * uniform(*s) - 1)
            out = torch.where(mask, 0.5, out)
        return out * self.white


def autocontrast(x: Tensor, magnitude: Tensor) -> Tensor:
    """Stretch each channel to the range from 0 to 1."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)


def equalize(x: Tensor, magnitude: Tensor) -> Tensor:
    """Equalize the histogram of each channel, of 256 bins, as PIL does."""
    values = (x * 255).round().long().flatten(2)
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.long, device=x.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    largest = values.amax(dim=2, keepdim=True)
    step = (values.shape[2] - counts.gather(2, largest)) // 255
    below = counts.cumsum(dim=2) - counts
    table = (below + step // 2) // step.clamp_min(1)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device))
    return (table.clamp(0, 255).gather(2, values).float() / 255).view_as(x)


def posterize(x: Tensor, magnitude: Tensor) -> Tensor:
    """Keep the highest 4 to 8 of the 8 bits of each value."""
    bits = 4 + (5 * magnitude).long().clamp(max=4)
    width = _per_image(2.0 ** (8 - bits).float())
    return (torch.floor((255 * x).round() / width) * width) / 255


def solarize(x: Tensor, magnitude: Tensor) -> Tensor:
    """Invert the values that are at least as large as the magnitude."""
    return torch.where(x >= _per_image(magnitude), 1 - x, x)


def brightness(x: Tensor, magnitude: Tensor) -> Tensor:
    """Multiply by a factor from 0.05 to 0.95."""
    return x * _blend_factor(magnitude)


def color(x: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the grayscale image."""
    return torch.lerp(_grayscale(x), x, _blend_factor(magnitude))


def contrast(x: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the mean of the grayscale image."""
    mean = _grayscale(x).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(x), x, _blend_factor(magnitude))


def sharpness(x: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the smoothed image; the outermost pixels are not smoothed."""
    channels = x.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=x.device, dtype=x.dtype)
    kernel[:, :, 1, 1] = 5
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel / 13, groups=channels)
    return torch.lerp(smooth, x, _blend_factor(magnitude))


# Each maps images with values from 0 to 1, and a magnitude from 0 to 1 for each image,
# to images of the same shape.
_COLOR_OPERATIONS = [
    autocontrast,
    equalize,
    posterize,
    solarize,
    brightness,
    color,
    contrast,
    sharpness,
]
# Rotation, shear along two axes, translation along two axes.
_N_GEOMETRIC_OPERATIONS = 5


def _per_image(values: Tensor) -> Tensor:
    """Reshape one value for each image, to broadcast it against the batch."""
    return values.view(-1, 1, 1, 1)


def _blend_factor(magnitude: Tensor) -> Tensor:
    return _per_image(0.05 + 0.9 * magnitude)


def _grayscale(x: Tensor) -> Tensor:
    """Return grayscale images with as many channels as `x`.

    Three channels are red, green and blue, weighted as in ITU-R BT.601. Other numbers
    of channels are averaged.
    """
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True).expand_as(x)
    weights = constant((0.2989, 0.587, 0.114), x.device).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True).expand_as(x)


def _apply_color(x: Tensor, choice: Tensor, magnitude: Tensor) -> Tensor:
    """Apply to each image the color operation of index `choice`, if there is one."""
    out = x
    for i, operation in enumerate(_COLOR_OPERATIONS):
        out = torch.where(_per_image(choice == i), operation(x, magnitude), out)
    return out


def _apply_geometric(x: Tensor, choice: Tensor, magnitude: Tensor) -> Tensor:
    """Apply to each image the geometric operation of index `choice`, if there is one.

    A magnitude of 0.5 is no change. 0 and 1 are the largest changes in both directions.
    Pixels outside of the image are gray.
    """
    # Angle of rotation, slopes of shear, and translations by 0.3 of the image. Its size
    # is 2 in the coordinates of affine_grid.
    largest = constant((math.radians(30), 0.3, 0.3, 0.6, 0.6), x.device)
    is_chosen = choice[:, None] == torch.arange(
        _N_GEOMETRIC_OPERATIONS, device=x.device
    )
    amounts = is_chosen * largest * (2 * magnitude - 1)[:, None]
    angle, shear_x, shear_y, shift_x, shift_y = amounts.unbind(1)
    first = torch.stack([angle.cos(), shear_x - angle.sin(), shift_x], 1)
    second = torch.stack([shear_y + angle.sin(), angle.cos(), shift_y], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), False)
    moved = F.grid_sample(x - 0.5, grid, "bilinear", "zeros", False) + 0.5
    # Images without a geometric operation are not resampled, to avoid rounding errors.
    return torch.where(_per_image(is_chosen.any(dim=1)), moved, x)
