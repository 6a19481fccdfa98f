"""Weak and strong views of a batch, with parameters drawn for each sample.

A view is any callable that maps a float32 batch, on its device and in the units of X,
to a batch of the same shape.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

# Values of the rows that the automatic view of tables keeps, in two forms: 128 MiB.
_REFERENCE_VALUES = 2**24


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


@dataclass(frozen=True)
class TableView:
    """Random view of the rows of a table (n, n_features).

    Parameters
    ----------
    noise : float, default=0.0
        Standard deviation of Gaussian noise, in standard deviations of each column of
        the batch.
    corruption : float, default=0.0
        Share of the entries that are replaced by the same column's value in another
        row of the batch.

    References
    ----------
    D. Bahri et al., "SCARF: Self-Supervised Contrastive Learning using Random Feature
    Corruption", ICLR 2022.
    """

    noise: float = 0.0
    corruption: float = 0.0

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a view of each row of the batch."""
        if not len(x):
            return x
        out = x
        if self.corruption:
            # One draw tells whether an entry is replaced and, if so, by which row's.
            draws = torch.rand(x.shape, generator=generator, device=x.device)
            donors = (draws * (len(x) / self.corruption)).long().clamp_(max=len(x) - 1)
            out = torch.where(draws < self.corruption, x.gather(0, donors), out)
        if self.noise:
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            out = torch.addcmul(out, noise, self.noise * _spread(x))
        return out


@dataclass(eq=False)
class NeighborView:
    """Random view of the rows of a table: each moves toward one of its near neighbors.

    So labels pass along dense regions, as in graph methods: a partner that predicts on
    such a view is asked about the surroundings of a row. The neighbor is the nearest
    row in a random part of the reference, drawn anew for each batch.

    Parameters
    ----------
    reference : Tensor of shape (n_reference, n_features)
        Rows among which neighbors are sought. A row is no neighbor of itself.
    n_neighbors : int, default=10
        The part holds 2 in n_neighbors + 1 rows. So the neighbor is, on average, as far
        down the order of distances as one drawn from so many nearest rows, and found
        with much less work; 1 is the nearest row itself, 0 leaves the batch as it is.
    reach : float, default=1.0
        Largest share of the way to it; the share is drawn uniformly from 0.
    units : Tensor of shape (n_features,) or None, default=None
        What each column is divided by for the distance. None: the standard deviations
        of `reference`.
    """

    reference: Tensor = field(repr=False)
    n_neighbors: int = 10
    reach: float = 1.0
    units: Tensor | None = field(default=None, repr=False)
    # Near 0, where matrix products are the most exact, and in units of the distance.
    _origin: Tensor = field(init=False, repr=False)
    _units: Tensor = field(init=False, repr=False)
    _points: Tensor = field(init=False, repr=False)
    _squares: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.reference = self.reference.float()
        units = self.units
        if units is None:
            units = self.reference.std(dim=0, correction=0)
        self._units = torch.where(units > 0, units, 1.0).to(self.reference.device)
        self._origin = self.reference.mean(dim=0)
        self._points = (self.reference - self._origin) / self._units
        self._squares = self._points.square().sum(dim=1)

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a view of each row of the batch."""
        n_neighbors = min(self.n_neighbors, len(self.reference) - 1)
        if not len(x) or n_neighbors < 1:
            return x
        if x.device != self.reference.device:
            self._move(x.device)
        n_rows = len(self.reference)
        # At least two, since the nearest is the row itself where it is among them.
        n_drawn = max(2, round(2 * n_rows / (n_neighbors + 1)))
        part = torch.randperm(n_rows, generator=generator, device=x.device)[:n_drawn]
        reference = self.reference[part]
        # Squared distances, up to rounding and to a constant of each row.
        points = (x - self._origin) / self._units
        distances = torch.addmm(
            self._squares[part], points, self._points[part].T, alpha=-2
        )
        nearest = distances.topk(2, largest=False).indices
        # Of 100 columns in an eighth of the time of (... == x).all(dim=1).
        difference = (reference[nearest[:, 0]] - x).abs_().sum(dim=1, keepdim=True)
        neighbor = reference[nearest.gather(1, (difference == 0).long())[:, 0]]
        way = torch.rand(len(x), 1, generator=generator, device=x.device)
        return x + self.reach * way * (neighbor - x)

    def _move(self, device: torch.device) -> None:
        for name in ("reference", "_origin", "_units", "_points", "_squares"):
            setattr(self, name, getattr(self, name).to(device))


@dataclass(frozen=True)
class AdversarialView:
    """Strong view by the small change of a row that the student is least sure about.

    For data without a change that is known to keep the class: the network itself tells
    where to change a row, from the gradient of its predictions (virtual adversarial
    perturbation). A fit takes about 1.6 times as long with it.

    Parameters
    ----------
    size : float, default=0.3
        Root mean square of the perturbation of a row, in standard deviations: of each
        column of a table, of all values of a batch of images.
    noise : float, default=0.0
        Standard deviation of Gaussian noise added before, in the same units.

    References
    ----------
    T. Miyato, S. Maeda, M. Koyama and S. Ishii, "Virtual Adversarial Training: A
    Regularization Method for Supervised and Semi-Supervised Learning", TPAMI 2018, with
    one power iteration.
    """

    size: float = 0.3
    noise: float = 0.0

    # Length of the probe whose gradient shows the direction, of that of the view.
    probe: ClassVar[float] = 0.1

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the batch with noise: what can be done without a network."""
        if not (self.noise and len(x)):
            return x
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return x + noise * (self.noise * _spread(x))

    def perturb(self, x: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the batch, each row moved to where the predictions differ most.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...)
        logits : callable
            The student, from a batch to logits of shape (n_rows, n_classes).

        Returns
        -------
        perturbed : Tensor of shape (n_rows, ...)
        """
        if not len(x):
            return x
        units = _spread(x)
        length = self.size * math.sqrt(x[0].numel())
        step = self.probe * length * _normalized(torch.randn_like(x))
        with torch.enable_grad():
            step.requires_grad_()
            with _random_state_kept(x):  # so that dropout is the same in both passes
                target = logits(x).detach().float().log_softmax(dim=1)
            moved = logits(x + units * step).float().log_softmax(dim=1)
            divergence = F.kl_div(moved, target, reduction="sum", log_target=True)
            (gradient,) = torch.autograd.grad(divergence, step)
        return x + units * (length * _normalized(gradient))


@contextmanager
def _random_state_kept(x: Tensor) -> Iterator[None]:
    """Take back, at the end, the random state of the device of x.

    Not in a step that is recorded as a CUDA graph, which cannot do that: there the
    network draws nothing.
    """
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        yield
        return
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        yield


def _spread(x: Tensor) -> Tensor:
    """Return the standard deviations of columns, or the one of all pixels."""
    if x.ndim > 2:
        return x.std(correction=0)
    # Three to ten times as fast as torch's own, which is slow along columns.
    return (x - x.mean(dim=0)).square().mean(dim=0).sqrt()


def _normalized(x: Tensor) -> Tensor:
    """Rows of length 1; rows of zeros stay."""
    rows = x.flatten(1)
    # By the largest entry first: squares of small ones would round to 0.
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-37)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-37)
    return rows.view_as(x)


def identity(x: Tensor) -> Tensor:
    """Return the batch as it is: the view of ``None``."""
    return x


View = Callable[[Tensor], Tensor]


def auto_views(sample: Tensor) -> tuple[View, View]:
    """Return the weak and the strong view that suit a sample of the inputs.

    Parameters
    ----------
    sample : float32 Tensor of shape (n, n_features) or (n, channels, height, width)
        Rows of a table are kept, as the neighbors that others move toward.

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


def has_common_unit(rows: Tensor) -> bool:
    """Tell whether most columns span the same range, so that one unit suits all.

    Such are pixels, shares, ratings, or what was scaled to one range.
    """
    low, high = rows.min(dim=0).values, rows.max(dim=0).values
    spans_all = (low == low.min()) & (high == high.max())
    return bool(2 * spans_all.sum() > len(low))


def _border(images: Tensor) -> tuple[float, ...]:
    """Median of the outermost pixels of each channel: the background, most often."""
    rows = images[:, :, [0, -1], :].flatten(2)
    columns = images[:, :, :, [0, -1]].flatten(2)
    edges = torch.cat([rows, columns], dim=2).transpose(0, 1).flatten(1)
    return tuple(edges.median(dim=1).values.tolist())
