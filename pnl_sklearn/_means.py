"""What the steps of an epoch measured, taken together."""

import math

import numpy as np
from torch import Tensor


class Mean:
    """Mean of vectors that stay on the device.

    Their memory is taken once: kept one by one, they would lie between what the steps
    free, in its way, and the memory of a long epoch would grow.
    """

    _n_kept = 2**12

    def __init__(self) -> None:
        self._kept: Tensor | None = None
        self._total: Tensor | float = 0.0
        self._n = 0

    def add(self, vectors: list[Tensor]) -> None:
        """Take in some vectors."""
        for vector in vectors:
            if self._kept is None:
                self._kept = vector.new_zeros(self._n_kept, len(vector))
            place = self._n % self._n_kept
            if self._n and not place:
                self._total = self._total + self._kept.sum(dim=0)
                self._kept.zero_()
            self._kept[place] = vector
            self._n += 1

    def value(self) -> Tensor:
        """Return the mean, on the device."""
        assert self._kept is not None
        return (self._total + self._kept.sum(dim=0)) / self._n


def summary(means: list[float], n_classes: int) -> dict:
    """Return the row of an epoch from the means of what its steps measured."""
    names = ["train_loss", "supervised_loss", "negative_loss", "balance_loss"]
    names += ["consistency_loss"]
    row: dict = dict(zip(names, means, strict=False))
    by_class = np.reshape(means[len(names) :], (4, n_classes))
    distribution, believed, covered, agreed = by_class
    n_rows = believed.sum() or math.nan
    row["agreement"] = float(agreed.sum() / n_rows)
    row["coverage"] = float(covered.sum() / n_rows)
    row["class_distribution"] = distribution.tolist()
    coverage = np.full(n_classes, math.nan)
    np.divide(covered, believed, out=coverage, where=believed > 0)
    row["class_coverage"] = coverage.tolist()
    return row
