"""Features in which near neighbors are sought where those of X itself tell little.

A feature function is any callable that maps a float32 batch, on its device and in the
units of X, to a Tensor of shape (n_rows, n_features): histograms of gradients, or the
embedding of a pretrained network. ``PNLClassifier(graph_features=...)`` takes it; for
images with one channel of some size, :class:`HOG` is what it takes by default.

It may also have a distance of its own, one that takes too long to compare all rows with
all others (:class:`Comparer`). Then the 40 rows that are nearest by features are
candidates, and the ten of these that are nearest by its distance are the neighbors.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

# Larger images are reduced to this, where pixels are compared.
_LARGEST_SIDE = 32


class Comparer(Protocol):
    """A feature function with a distance of its own, as any object with these methods.

    Parts of all rows are made once, and kept on the device where they were made.
    `distances` is asked about some rows at a time, on a CPU in several threads at once,
    and not about gradients. What wraps such an object has to have its methods, too.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return features of shape (n, n_features) of a batch of n rows."""

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return what distances are computed of, as a list of shapes (n, ...)."""

    def distances(self, ones: list[Tensor], others: list[Tensor]) -> Tensor:
        """Return the distance from each row to k others, of shape (n, k).

        Parts are of shape (n, ...) and (n, k, ...). Distances are finite and not
        negative, in any unit. That of two rows may differ from that the other way.
        """


@dataclass(frozen=True)
class HOG:
    """Histograms of oriented gradients: which way edges run, in each part of an image.

    They change little with contrast, brightness and small shifts. Of several channels,
    each pixel counts the one whose gradient is the largest there. Its direction, from
    dark to bright, of 360 degrees, is shared by the two nearest bins in proportion.
    Each histogram is the mean of two by two neighboring cells, and divided by its
    length plus twice the mean length in its image, so that parts without edges count
    little. The features are the square roots, whose distances are as Hellinger's of
    histograms: a strong edge does not outweigh all others.

    Parameters
    ----------
    n_orientations : int, default=12
        Bins of a histogram.
    n_cells : int, default=10
        Cells along each side of an image, 2 at least.
    deskew : bool, default=False
        Whether to shear each image upright, and center it, first: for handwriting,
        whose slant tells nothing of the class (a slash becomes a bar). Its second
        moments tell the slant, where pixels weigh by how far they are from the mean of
        the image's border.

    References
    ----------
    N. Dalal and B. Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR
    2005. There each of the four cells of a block has a histogram of its own; their mean
    bears shifts better.

    R. Arandjelovic and A. Zisserman, "Three Things Everyone Should Know to Improve
    Object Retrieval", CVPR 2012, for the distance of square roots.

    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to
    Document Recognition", Proceedings of the IEEE 1998, for images set upright by their
    second moments.

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
        """Return the histograms of each image.

        Parameters
        ----------
        x : float Tensor of shape (n, channels, height, width)

        Returns
        -------
        features : Tensor of shape (n, n_orientations * (n_cells - 1) ** 2)
        """
        return self._histograms(self._seen(x)).flatten(1)

    def _seen(self, x: Tensor) -> Tensor:
        """Return the images, upright where wanted; refuse what are none."""
        if self.n_cells < 2 or self.n_orientations < 1:
            raise ValueError(f"{self!r} needs two cells at least, and one orientation.")
        if x.ndim != 4:
            raise ValueError(
                f"HOG takes images of shape (n, channels, height, width), got a batch "
                f"of shape {tuple(x.shape)}. If rows are images, give their "
                "image_shape=(channels, height, width)."
            )
        return _upright(x) if self.deskew and len(x) else x

    def _histograms(self, x: Tensor) -> Tensor:
        """Square roots of histograms, (n, n_orientations, n_cells - 1, n_cells - 1)."""
        bins = self._bins(x)
        cells = F.adaptive_avg_pool2d(bins, self.n_cells)
        tiny = torch.finfo(x.dtype).tiny
        # So that squares of the least contrast are not 0.
        cells = cells / cells.amax(dim=(1, 2, 3), keepdim=True).clamp_min(tiny)
        blocks = F.avg_pool2d(cells, kernel_size=2, stride=1)
        lengths = blocks.norm(dim=1, keepdim=True)
        typical = lengths.mean(dim=(2, 3), keepdim=True)
        return (blocks / (lengths + 2 * typical).clamp_min(tiny)).sqrt()

    def _bins(self, x: Tensor) -> Tensor:
        """Gradients of each pixel, (n, n_orientations, height, width)."""
        across, down = _gradients(x).split(1, dim=1)
        size = torch.hypot(across, down)
        angle = torch.atan2(down, across).remainder(2 * math.pi)
        place = angle / (2 * math.pi) * self.n_orientations
        lower = place.floor()
        share = place - lower
        lower = lower.long() % self.n_orientations
        upper = (lower + 1) % self.n_orientations
        n, _, height, width = x.shape
        bins = x.new_zeros(n, self.n_orientations, height, width)
        bins.scatter_add_(1, lower, size * (1 - share))
        return bins.scatter_add_(1, upper, size * share)


@dataclass(frozen=True)
class DeformableHOG(HOG):
    """Histograms of oriented gradients, and a distance for which strokes may bend.

    For handwriting and other shapes that are drawn anew each time. In the distance from
    one image to another, each pixel of the one is matched with the best one near its
    place in the other, up to about a fourteenth of the image's side away (a pixel at
    least), by the gradients of 3 by 3 pixels; and each histogram with the best of the
    nine around its place. Beyond the border, gradients and histograms are 0. The
    distance is the geometric mean of both, each the root of a sum of squares. Gradients
    are in units of the largest of their image, and of images that are reduced to 32
    pixels on their longer side, if it has more.

    Parts take 5 KB a row of 28 by 28 pixels.

    Parameters
    ----------
    n_orientations, n_cells, deskew
        As of :class:`HOG`.

    References
    ----------
    D. Keysers, T. Deselaers, C. Gollan and H. Ney, "Deformation Models for Image
    Recognition", TPAMI 2007: their image distortion model of gradients in their local
    context, of 3 by 3 pixels.
    """

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return what `distances` compares, in half precision.

        Parameters
        ----------
        x : float Tensor of shape (n, channels, height, width)

        Returns
        -------
        gradients : Tensor of shape (n, 2, reduced height, reduced width)
        histograms : Tensor of shape (n, n_orientations, n_cells - 1, n_cells - 1)
        """
        x = self._seen(x)
        factor = min(1, _LARGEST_SIDE / max(x.shape[2:]))
        height, width = (max(1, round(factor * side)) for side in x.shape[2:])
        gradients = _gradients(F.adaptive_avg_pool2d(x, (height, width)))
        largest = gradients.abs().amax(dim=(1, 2, 3), keepdim=True)
        gradients = gradients / largest.clamp_min(torch.finfo(x.dtype).tiny)
        return [gradients.half(), self._histograms(x).half()]

    def distances(self, ones: list[Tensor], others: list[Tensor]) -> Tensor:
        """Return the distance of each image to k others.

        Parameters
        ----------
        ones : list of Tensor
            Parts of n images.
        others : list of Tensor
            Parts of k others for each, of shape (n, k, ...).

        Returns
        -------
        distances : float32 Tensor of shape (n, k)
        """
        reach = [max(1, round(side / 14)) for side in ones[0].shape[-2:]]
        gradients = _distortion(ones[0], others[0], reach, in_context=True)
        histograms = _distortion(ones[1], others[1], [1, 1])
        return (gradients * histograms).sqrt()


def _distortion(
    ones: Tensor, others: Tensor, reach: list[int], in_context: bool = False
) -> Tensor:
    """Root of the sum, over places, of the least square of a difference in reach.

    In context the squares are those of 3 by 3 places around, which move as one. Beyond
    the border is 0.
    """
    down, across = reach
    height, width = ones.shape[-2:]
    ones = ones.float()[:, None]
    others = F.pad(others.float(), (across, across, down, down))
    least = None
    for i in range(2 * down + 1):
        for j in range(2 * across + 1):
            moved = others[..., i : i + height, j : j + width]
            squares = (ones - moved).square_().sum(dim=2)
            if in_context:
                squares = _sum_of_three(_sum_of_three(squares, -2), -1)
            least = squares if least is None else torch.minimum(least, squares)
    assert least is not None
    return least.sum(dim=(-2, -1)).sqrt()


def _sum_of_three(x: Tensor, dim: int) -> Tensor:
    """Sum each value and its neighbors along a dimension."""
    n = x.shape[dim]
    total = x.clone()
    total.narrow(dim, 1, n - 1).add_(x.narrow(dim, 0, n - 1))
    total.narrow(dim, 0, n - 1).add_(x.narrow(dim, 1, n - 1))
    return total


def _gradients(x: Tensor) -> Tensor:
    """Differences across and down, (n, 2, height, width), of the channel where largest.

    They are twice the gradient: of the pixels on both sides.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    largest = torch.hypot(across, down).argmax(dim=1, keepdim=True)
    return torch.cat([v.gather(1, largest) for v in (across, down)], dim=1)


def _upright(x: Tensor) -> Tensor:
    """Shear images along their rows so that what they show stands upright, centered."""
    n, _, height, width = x.shape
    edges = torch.cat([x[..., [0, -1], :].flatten(2), x[..., [0, -1]].flatten(2)], 2)
    ground = edges.mean(dim=2)[..., None, None]
    mass = (x - ground).abs().sum(dim=1)
    tiny = torch.finfo(x.dtype).tiny
    mass = mass / mass.sum(dim=(1, 2), keepdim=True).clamp_min(tiny)
    # From -1 to 1 along each side.
    down, across = (
        (torch.arange(size, device=x.device) * 2 + 1) / size - 1
        for size in (height, width)
    )
    y = (mass.sum(dim=2) * down).sum(dim=1)
    center = (mass.sum(dim=1) * across).sum(dim=1)
    down_from = down - y[:, None]
    spread = (mass.sum(dim=2) * down_from.square()).sum(dim=1)
    both = (mass * down_from[:, :, None] * across).sum(dim=(1, 2))
    # With the variance within a pixel: a stroke along one row has no slant.
    slant = both / (spread + 1 / (3 * height**2))
    maps = x.new_zeros(n, 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = 1
    maps[:, 0, 1], maps[:, 0, 2], maps[:, 1, 2] = slant, center, y
    places = F.affine_grid(maps, list(x.shape), align_corners=False)
    moved = F.grid_sample(x - ground, places, align_corners=False)
    return moved + ground
