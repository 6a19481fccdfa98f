"""Views of tables: noise, corruption, and neighbors."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor


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

    capturable: ClassVar[bool] = True

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
        Source among which neighbors are sought. A row is no neighbor of itself.
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
    capturable: ClassVar[bool] = True
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


def _spread(x: Tensor) -> Tensor:
    """Return the standard deviations of columns, or the one of all pixels."""
    if x.ndim > 2:
        return x.std(correction=0)
    # Three to ten times as fast as torch's own, which is slow along columns.
    return (x - x.mean(dim=0)).square().mean(dim=0).sqrt()


def has_common_unit(rows: Tensor) -> bool:
    """Tell whether most columns span the same range, so that one unit suits all.

    Such are pixels, shares, ratings, or what was scaled to one range.
    """
    low, high = rows.min(dim=0).values, rows.max(dim=0).values
    spans_all = (low == low.min()) & (high == high.max())
    return bool(2 * spans_all.sum() > len(low))
