"""Views of tables: noise, corruption, and neighbors."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class TableView:
    """Random view of a table: Gaussian noise and corruption of features.

    Parameters
    ----------
    noise : float, default=0.0
        Standard deviation of Gaussian noise, in standard deviations of each feature in
        the batch.
    corruption : float, default=0.0
        Probability that an entry is replaced by the same feature of a random sample of
        the batch.

    References
    ----------
    D. Bahri et al., "SCARF: Self-Supervised Contrastive Learning using Random Feature
    Corruption", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.views import TableView
    >>> view = TableView(noise=0.1, corruption=0.2)
    >>> view(torch.rand(5, 3)).shape
    torch.Size([5, 3])
    """

    noise: float = 0.0
    corruption: float = 0.0

    capturable: ClassVar[bool] = True

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a random view of each sample of the batch.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, n_features)
            A batch of a table.
        generator : torch.Generator or None, default=None
            Random number generator on the device of `x`; torch's default if None.

        Returns
        -------
        augmented : float32 Tensor of shape (n_samples, n_features)
            The augmented samples, in the same order.
        """
        if not len(x):
            return x
        out = x
        if self.corruption:
            # One random number decides whether an entry is replaced. Given that it is,
            # the number is still uniform, and it chooses the sample that is copied.
            random = torch.rand(x.shape, generator=generator, device=x.device)
            donors = (random * (len(x) / self.corruption)).long().clamp_(max=len(x) - 1)
            out = torch.where(random < self.corruption, x.gather(0, donors), out)
        if self.noise:
            noise = torch.randn(x.shape, generator=generator, device=x.device)
            out = torch.addcmul(out, noise, self.noise * standard_deviation(x))
        return out


@dataclass(eq=False)
class NeighborView:
    """Random view of a table: interpolation between a sample and a near neighbor.

    The neighbor is the nearest sample in a random subset of the reference samples. Each
    batch has its own subset. As the weak view, it propagates labels along dense
    regions, since the teacher predicts on points between neighbors.

    Parameters
    ----------
    reference : Tensor of shape (n_reference, n_features)
        Samples among which neighbors are searched. A sample is not its own neighbor.
    n_neighbors : int, default=10
        On average, the neighbor is as near as a random one of the `n_neighbors` nearest
        samples. To this end, the subset contains a fraction 2 / (n_neighbors + 1) of
        the reference samples. 1 takes the nearest sample. 0 turns the view off.
    reach : float, default=1.0
        Largest distance moved, as a fraction of the distance to the neighbor. The
        fraction is uniformly distributed from 0 to `reach`.
    units : Tensor of shape (n_features,) or None, default=None
        Each feature is divided by its unit to compute distances. None takes the
        standard deviations of `reference`.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.views import NeighborView
    >>> X = torch.rand(100, 3)
    >>> view = NeighborView(X, n_neighbors=5)
    >>> view(X[:8]).shape
    torch.Size([8, 3])
    """

    reference: Tensor = field(repr=False)
    n_neighbors: int = 10
    reach: float = 1.0
    units: Tensor | None = field(default=None, repr=False)
    capturable: ClassVar[bool] = True
    _mean: Tensor = field(init=False, repr=False)
    _units: Tensor = field(init=False, repr=False)
    _scaled_reference: Tensor = field(init=False, repr=False)
    _squared_norms: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.reference = self.reference.float()
        units = self.units
        if units is None:
            units = self.reference.std(dim=0, correction=0)
        self._units = torch.where(units > 0, units, 1.0).to(self.reference.device)
        # Centered samples reduce rounding errors of matrix products.
        self._mean = self.reference.mean(dim=0)
        self._scaled_reference = (self.reference - self._mean) / self._units
        self._squared_norms = self._scaled_reference.square().sum(dim=1)

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a random view of each sample of the batch.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, n_features)
            A batch of a table.
        generator : torch.Generator or None, default=None
            Random number generator on the device of `x`; torch's default if None.

        Returns
        -------
        augmented : float32 Tensor of shape (n_samples, n_features)
            The augmented samples, in the same order.
        """
        n_reference = len(self.reference)
        n_neighbors = min(self.n_neighbors, n_reference - 1)
        if not len(x) or n_neighbors < 1:
            return x
        if x.device != self.reference.device:
            self._move_to(x.device)
        # At least two samples, since the nearest one may be the sample itself.
        n_subset = max(2, round(2 * n_reference / (n_neighbors + 1)))
        shuffled = torch.randperm(n_reference, generator=generator, device=x.device)
        subset = shuffled[:n_subset]
        candidates = self.reference[subset]
        # |a - b|^2 without |a|^2, which is the same for all candidates.
        distances = torch.addmm(
            self._squared_norms[subset],
            (x - self._mean) / self._units,
            self._scaled_reference[subset].T,
            alpha=-2,
        )
        nearest = distances.topk(2, largest=False).indices
        # The sum is much faster than (... == x).all(dim=1).
        difference = (candidates[nearest[:, 0]] - x).abs_().sum(dim=1, keepdim=True)
        is_itself = (difference == 0).long()
        neighbor = candidates[nearest.gather(1, is_itself)[:, 0]]
        fraction = torch.rand(len(x), 1, generator=generator, device=x.device)
        return x + self.reach * fraction * (neighbor - x)

    def __getstate__(self):
        # A view that was used on a GPU can then be loaded on a machine without one.
        state = vars(self).items()
        return {k: v.cpu() if isinstance(v, Tensor) else v for k, v in state}

    def _move_to(self, device: torch.device) -> None:
        self.reference = self.reference.to(device)
        self._mean = self._mean.to(device)
        self._units = self._units.to(device)
        self._scaled_reference = self._scaled_reference.to(device)
        self._squared_norms = self._squared_norms.to(device)


def standard_deviation(x: Tensor) -> Tensor:
    """Return the standard deviation of each feature, or of all pixels of images."""
    if x.ndim > 2:
        return x.std(correction=0)
    # torch's own reduction over the first axis is several times slower.
    return (x - x.mean(dim=0)).square().mean(dim=0).sqrt()


def has_common_unit(X: Tensor) -> bool:
    """Tell whether most features have the same range and need no standardization.

    Examples are pixels, proportions, ratings, and features scaled to one range.

    Parameters
    ----------
    X : Tensor of shape (n_samples, n_features)

    Returns
    -------
    common : bool
        True if more than half of the features have both the smallest minimum and the
        largest maximum of all features.
    """
    low, high = X.min(dim=0).values, X.max(dim=0).values
    spans_all = (low == low.min()) & (high == high.max())
    return bool(2 * spans_all.sum() > len(low))
