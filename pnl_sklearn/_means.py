"""What the steps of an epoch measured, taken together."""

import math

import numpy as np
from torch import Tensor


class Mean:
    """Mean of vectors that stay on the device."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._n = 0

    def add(self, vectors: list[Tensor]) -> None:
        """Take in some vectors."""
        for vector in vectors:
            # A copy, since a replayed step writes to the same tensors again.
            total = self._total
            self._total = vector.clone() if total is None else total.add_(vector)
            self._n += 1

    def value(self) -> Tensor:
        """Return the mean, on the device."""
        assert self._total is not None
        return self._total / self._n


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
