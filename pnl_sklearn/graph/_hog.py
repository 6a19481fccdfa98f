"""Histograms of oriented gradients of a batch of images."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class HOG:
    """Histograms of oriented gradients (HOG): features of images.

    They describe the directions of edges in each part of an image, and depend little on
    contrast, brightness and small shifts.

    An image is divided into cells, and each cell has a histogram of orientations. A
    pixel adds the magnitude of its gradient to the two bins that are nearest to its
    direction, from dark to bright, in the full circle. If there are several channels,
    the largest gradient of the pixel is used. The mean of 2 x 2 cells is a block. Each
    block is divided by its Euclidean norm plus twice the mean norm of all blocks, so
    that blocks without edges have small values. The features are the square roots of
    the result. Their Euclidean distance is a Hellinger distance, in which single strong
    edges have less weight.

    Parameters
    ----------
    n_orientations : int, default=12
        Number of bins of a histogram.
    n_cells : int, default=10
        Number of cells along each side of an image, at least 2.
    deskew : bool, default=False
        Whether to remove the slant of each image by a shear, and center it, before the
        features are computed. Use it for handwriting, whose slant does not depend on
        the class. Slant and center are those of the absolute difference between the
        pixels and the mean of the border (image moments).

    References
    ----------
    N. Dalal and B. Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR
    2005. There, a block is the concatenation of its four cells instead of the mean.

    R. Arandjelovic and A. Zisserman, "Three Things Everyone Should Know to Improve
    Object Retrieval", CVPR 2012. Square roots of features.

    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to
    Document Recognition", Proceedings of the IEEE 1998. Removal of the slant.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.graph import HOG
    >>> HOG()(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 972])
    """

    n_orientations: int = 12
    n_cells: int = 10
    deskew: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the features of a batch of images.

        Parameters
        ----------
        x : float Tensor of shape (n_samples, n_channels, height, width)
            A batch of images.

        Returns
        -------
        features : Tensor of shape (n_samples, n_orientations * (n_cells - 1) ** 2)
            Values from 0 to 1, of the dtype of `x`.

        Raises
        ------
        ValueError
            If `x` is not a batch of images, or if a parameter is too small.
        """
        if self.n_cells < 2 or self.n_orientations < 1:
            raise ValueError(
                f"{self!r} is invalid: n_cells must be at least 2, and n_orientations "
                "at least 1."
            )
        if x.ndim != 4:
            raise ValueError(
                f"HOG takes images of shape (n, channels, height, width), got a batch "
                f"of shape {tuple(x.shape)}. If X contains flattened images, set "
                "image_shape=(channels, height, width)."
            )
        if self.deskew and len(x):
            x = deskewed(x)
        cells = F.adaptive_avg_pool2d(self._votes(x), self.n_cells)
        tiny = torch.finfo(x.dtype).tiny
        # Otherwise squares of small gradients would underflow.
        cells = cells / cells.amax(dim=(1, 2, 3), keepdim=True).clamp_min(tiny)
        blocks = F.avg_pool2d(cells, kernel_size=2, stride=1)
        norms = blocks.norm(dim=1, keepdim=True)
        scale = norms + 2 * norms.mean(dim=(2, 3), keepdim=True)
        return (blocks / scale.clamp_min(tiny)).sqrt().flatten(1)

    def _votes(self, x: Tensor) -> Tensor:
        """Return gradient magnitudes by bin, (n, n_orientations, height, width)."""
        horizontal, vertical = image_gradients(x).split(1, dim=1)
        magnitude = torch.hypot(horizontal, vertical)
        angle = torch.atan2(vertical, horizontal).remainder(2 * math.pi)
        position = angle / (2 * math.pi) * self.n_orientations
        lower = position.floor()
        fraction = position - lower
        lower = lower.long() % self.n_orientations
        upper = (lower + 1) % self.n_orientations
        n, _, height, width = x.shape
        votes = x.new_zeros(n, self.n_orientations, height, width)
        votes.scatter_add_(1, lower, magnitude * (1 - fraction))
        return votes.scatter_add_(1, upper, magnitude * fraction)


def image_gradients(x: Tensor) -> Tensor:
    """Return the gradient of each pixel, of the channel where it is largest.

    Parameters
    ----------
    x : float Tensor of shape (n, channels, height, width)

    Returns
    -------
    gradients : Tensor of shape (n, 2, height, width)
        Horizontal and vertical differences of the two adjacent pixels, which is twice
        the gradient. The border is replicated.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    horizontal = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    vertical = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    channel = torch.hypot(horizontal, vertical).argmax(dim=1, keepdim=True)
    return torch.cat([v.gather(1, channel) for v in (horizontal, vertical)], dim=1)


def deskewed(x: Tensor) -> Tensor:
    """Shear images horizontally, so that they have no slant, and center them.

    Parameters
    ----------
    x : float Tensor of shape (n, channels, height, width)

    Returns
    -------
    deskewed : Tensor of that shape
    """
    n, _, height, width = x.shape
    border = torch.cat([x[..., [0, -1], :].flatten(2), x[..., [0, -1]].flatten(2)], 2)
    background = border.mean(dim=2)[..., None, None]
    mass = (x - background).abs().sum(dim=1)
    tiny = torch.finfo(x.dtype).tiny
    mass = mass / mass.sum(dim=(1, 2), keepdim=True).clamp_min(tiny)
    # Coordinates of the centers of pixels, as in affine_grid: the border is -1 and 1.
    y_axis, x_axis = (
        (torch.arange(size, device=x.device) * 2 + 1) / size - 1
        for size in (height, width)
    )
    mean_y = (mass.sum(dim=2) * y_axis).sum(dim=1)
    mean_x = (mass.sum(dim=1) * x_axis).sum(dim=1)
    centered = y_axis - mean_y[:, None]
    variance = (mass.sum(dim=2) * centered.square()).sum(dim=1)
    covariance = (mass * centered[:, :, None] * x_axis).sum(dim=(1, 2))
    # The variance within a pixel is added, so that a horizontal line has no slant.
    slant = covariance / (variance + 1 / (3 * height**2))
    affine = x.new_zeros(n, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = 1
    affine[:, 0, 1], affine[:, 0, 2], affine[:, 1, 2] = slant, mean_x, mean_y
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x - background, grid, align_corners=False) + background
