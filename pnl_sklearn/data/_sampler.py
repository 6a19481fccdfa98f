"""Two streams of batches, labeled and unlabeled."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..utils._distributed import SINGLE_PROCESS, Processes
from ._sources import N_ROWS, Source

_N_STEPS = 2**12


class Batch(NamedTuple):
    """What one step sees: inputs float32, labels int64, weights float32.

    `excluded` is a bool mask of the classes that the unlabeled rows are known not to be
    of, and `log_beliefs` are added to the logarithms of what partners predict for them;
    either may be None.
    """

    labeled: Tensor
    labels: Tensor
    weights: Tensor
    unlabeled: Tensor
    excluded: Tensor | None
    log_beliefs: Tensor | None


class BatchSampler:
    """Endless streams of labeled and unlabeled rows, cut into epochs.

    Both streams run through whole random permutations, so that in the long run every
    row is seen equally often, unless chances are given. More than 2^20 rows are
    permuted in parts, each of which is spread evenly over all rows.

    Parameters
    ----------
    rows : ArraySource, SparseSource or DatasetSource
    codes : int64 array of shape (n_rows,)
        Class codes, -1 for unlabeled rows.
    weights : float array of shape (n_labeled,)
        Weights of the labeled rows, in their order, in the supervised loss.
    sizes : tuple of two ints
        Labeled and unlabeled rows in a batch of one rank.
    device : str
    rng : numpy.random.Generator
    excluded : bool array of shape (n_rows, n_classes), default=None
        Classes that rows are known not to be of.
    chances : float array of shape (n_rows,), default=None
        How often unlabeled rows are drawn, relative to one another. None: equally
        often, and in the long run exactly so.
    ranks : Processes, default=SINGLE_PROCESS
        With equal generators, their batches are the parts of one, `count` times as
        large.
    log_beliefs : float32 array of shape (n_rows, n_classes), default=None
        What is added to the logarithms of predictions.
    """

    def __init__(
        self,
        rows: Source,
        codes: np.ndarray,
        weights: np.ndarray,
        sizes: tuple[int, int],
        device: str,
        rng: np.random.Generator,
        excluded: np.ndarray | None = None,
        chances: np.ndarray | None = None,
        ranks: Processes = SINGLE_PROCESS,
        log_beliefs: np.ndarray | None = None,
    ) -> None:
        self.rows = rows
        self.n_labeled = sizes[0]
        n_labeled, n_unlabeled = (ranks.count * size for size in sizes)
        self._n_ahead = max(1, min(_N_STEPS, N_ROWS // (n_labeled + n_unlabeled)))
        self._where = np.flatnonzero(codes >= 0)
        labeled = _endless([np.arange(len(self._where))], n_labeled, rng)
        if len(self._where) == len(codes):
            unlabeled = _endless([self._where[:0]], 0, rng)
        elif chances is None:
            unlabeled = _endless(_UnlabeledParts(codes), n_unlabeled, rng)
        else:
            rest = np.flatnonzero(codes < 0)
            unlabeled = _drawn(rest, chances[rest], n_unlabeled, rng)
        self._labeled, self._unlabeled = ranks.parts(labeled), ranks.parts(unlabeled)
        self._codes = torch.from_numpy(codes[self._where]).to(device)
        self._weights = torch.from_numpy(weights.astype(np.float32)).to(device)
        self._excluded, self.log_beliefs = (
            None if values is None else torch.from_numpy(values).to(device)
            for values in (excluded, log_beliefs)
        )

    def skip(self, n_epochs: int, n_steps: int) -> None:
        """Pass over the batches of so many epochs."""
        for _ in range(n_epochs):
            for _ in self._draws(n_steps):
                pass

    def epoch(self, n_steps: int) -> Iterator[Batch]:
        """Yield the batches of the next `n_steps` steps."""
        for places, rows in self._draws(n_steps):
            yield from self._batches(places, rows)

    def _draws(self, n_steps: int) -> Iterator[tuple[list, list]]:
        """Yield, for some steps at a time, which of the labeled rows, and all rows."""
        for first in range(0, n_steps, self._n_ahead):
            n = min(self._n_ahead, n_steps - first)
            places = [next(self._labeled) for _ in range(n)]
            parts = [(self._where[place], next(self._unlabeled)) for place in places]
            yield places, [np.concatenate(pair) for pair in parts]

    def _batches(self, places: list, rows: list) -> Iterator[Batch]:
        device, n = self._codes.device, self.n_labeled
        on_device = torch.from_numpy(np.stack(places)).to(device, non_blocking=True)
        excluded = self._of_unlabeled(rows, self._excluded)
        log_beliefs = self._of_unlabeled(rows, self.log_beliefs)
        for inputs, place, known, believed in zip(
            self.rows.stream(rows), on_device, excluded, log_beliefs, strict=True
        ):
            labels, weights = self._codes[place], self._weights[place]
            yield Batch(inputs[:n], labels, weights, inputs[n:], known, believed)

    def _of_unlabeled(
        self, rows: list, values: Tensor | None
    ) -> Iterable[Tensor | None]:
        """Return what there is for the unlabeled rows of each step, or Nones."""
        if values is None:
            return [None] * len(rows)
        unlabeled = torch.from_numpy(np.stack(rows)[:, self.n_labeled :])
        unlabeled = unlabeled.to(values.device, non_blocking=True)
        return (values[index] for index in unlabeled)


class _UnlabeledParts(Sequence):
    """Positions of the unlabeled rows, in parts that are made when asked for.

    Of every n rows in a row, each of n parts has one, which one at random, so that rows
    that come in an order, by class, by time or in turns, are mixed even within a part.
    """

    def __init__(self, codes: np.ndarray) -> None:
        self._codes = codes

    def __len__(self) -> int:
        return math.ceil(len(self._codes) / N_ROWS)

    def __getitem__(self, k):
        n_parts = len(self)
        if not 0 <= k < n_parts:
            raise IndexError(k)
        first = np.arange(0, len(self._codes), n_parts)
        # The same draws for every part, so that no two have the same row.
        shift = np.random.default_rng(0).integers(n_parts, size=len(first))
        rows = first + (k + shift) % n_parts
        rows = rows[rows < len(self._codes)]
        return rows[self._codes[rows] < 0]


def _endless(
    parts: Sequence[np.ndarray], size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield `size` rows at a time, of permuted parts in random order, over and over."""
    left = np.empty(0, dtype=np.int64)
    while True:
        for k in rng.permutation(len(parts)):
            left = np.concatenate([left, rng.permutation(parts[k])])
            while len(left) >= size:
                yield left[:size]
                left = left[size:]


def _drawn(
    rows: np.ndarray, chances: np.ndarray, size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield `size` of the rows at a time, drawn in proportion to their chances."""
    bounds = chances.cumsum()
    while True:
        yield rows[np.searchsorted(bounds, bounds[-1] * rng.random(size), "right")]
