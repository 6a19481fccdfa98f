"""Batches of labeled and unlabeled samples in random order."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..utils._distributed import SINGLE_PROCESS, Processes
from ._sources import N_SAMPLES, Source
from ._training_data import TrainingData

# Largest number of steps whose samples are chosen in advance.
_N_STEPS = 2**12


class Batch(NamedTuple):
    """Samples of one step.

    Parameters
    ----------
    labeled : float32 Tensor of shape (n_labeled, ...)
    labels : int64 Tensor of shape (n_labeled,)
        Class codes.
    weights : float32 Tensor of shape (n_labeled,)
        Sample weights.
    unlabeled : float32 Tensor of shape (n_unlabeled, ...)
    excluded : bool Tensor of shape (n_unlabeled, n_classes) or None
        Given negative labels.
    log_posterior : float32 Tensor of shape (n_unlabeled, n_classes) or None
        Logarithm of the graph posterior.
    """

    labeled: Tensor
    labels: Tensor
    weights: Tensor
    unlabeled: Tensor
    excluded: Tensor | None
    log_posterior: Tensor | None


class BatchSampler:
    """Sampler of batches of labeled and unlabeled samples.

    Labeled and unlabeled samples are sampled without replacement until all of them have
    been sampled, in random order. Then they are permuted again. With sampling weights,
    unlabeled samples are sampled with replacement. More than 2^20 samples are permuted
    in parts. Each part is spread evenly over all samples.

    Parameters
    ----------
    source : Source
    data : TrainingData
        Class codes, weights, negative labels and sampling weights of all samples.
    sizes : tuple of two ints
        Numbers of labeled and unlabeled samples in a batch of one process.
    device : str
    seed : int
    log_posterior : float32 array of shape (n_samples, n_classes), default=None
        Logarithm of the graph posterior.
    processes : Processes, default=SINGLE_PROCESS
        Processes that train together. If their seeds are equal, their batches are the
        parts of a common batch that is `count` times as large.
    """

    def __init__(
        self,
        source: Source,
        data: TrainingData,
        sizes: tuple[int, int],
        device: str,
        seed: int,
        log_posterior: np.ndarray | None = None,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.source = source
        self.n_labeled = sizes[0]
        codes = data.codes
        n_labeled, n_unlabeled = (processes.count * size for size in sizes)
        per_step = n_labeled + n_unlabeled
        self._n_ahead = max(1, min(_N_STEPS, N_SAMPLES // per_step))
        self._labeled_index = np.flatnonzero(codes >= 0)
        rng = np.random.default_rng(seed)
        labeled = _permuted([np.arange(len(self._labeled_index))], n_labeled, rng)
        if len(self._labeled_index) == len(codes):
            unlabeled = _permuted([self._labeled_index[:0]], 0, rng)
        elif data.sampling_weights is None:
            unlabeled = _permuted(_UnlabeledParts(codes), n_unlabeled, rng)
        else:
            index = np.flatnonzero(codes < 0)
            weights = data.sampling_weights[index]
            unlabeled = _weighted(index, weights, n_unlabeled, rng)
        self._labeled = processes.shard(labeled)
        self._unlabeled = processes.shard(unlabeled)
        self._codes = torch.from_numpy(codes[self._labeled_index]).to(device)
        self._weights = torch.from_numpy(data.weights.astype(np.float32)).to(device)
        self._excluded, self.log_posterior = (
            None if values is None else torch.from_numpy(values).to(device)
            for values in (data.excluded, log_posterior)
        )

    def skip(self, n_epochs: int, n_steps: int) -> None:
        """Skip the batches of `n_epochs` epochs."""
        for _ in range(n_epochs):
            for _ in self._indices(n_steps):
                pass

    def epoch(self, n_steps: int) -> Iterator[Batch]:
        """Yield the batches of the next `n_steps` steps."""
        for places, indices in self._indices(n_steps):
            yield from self._batches(places, indices)

    def _indices(self, n_steps: int) -> Iterator[tuple[list, list]]:
        """Yield indices of labeled samples, and of all samples, for several steps."""
        for first in range(0, n_steps, self._n_ahead):
            n = min(self._n_ahead, n_steps - first)
            places = [next(self._labeled) for _ in range(n)]
            pairs = [(self._labeled_index[p], next(self._unlabeled)) for p in places]
            yield places, [np.concatenate(pair) for pair in pairs]

    def _batches(self, places: list, indices: list) -> Iterator[Batch]:
        device, n = self._codes.device, self.n_labeled
        on_device = torch.from_numpy(np.stack(places)).to(device, non_blocking=True)
        excluded = self._for_unlabeled(indices, self._excluded)
        log_posteriors = self._for_unlabeled(indices, self.log_posterior)
        for inputs, place, known, log_posterior in zip(
            self.source.stream(indices),
            on_device,
            excluded,
            log_posteriors,
            strict=True,
        ):
            labels, weights = self._codes[place], self._weights[place]
            yield Batch(inputs[:n], labels, weights, inputs[n:], known, log_posterior)

    def _for_unlabeled(
        self, indices: list, values: Tensor | None
    ) -> Iterable[Tensor | None]:
        """Return the values of each step's unlabeled samples, or None for each step."""
        if values is None:
            return [None] * len(indices)
        unlabeled = torch.from_numpy(np.stack(indices)[:, self.n_labeled :])
        unlabeled = unlabeled.to(values.device, non_blocking=True)
        return (values[index] for index in unlabeled)


class _UnlabeledParts(Sequence):
    """Indices of the unlabeled samples, in parts that are computed on access.

    Of every n consecutive samples, each of the n parts contains a random one. Each part
    is thus representative of the data, also if these are sorted by class or time.
    """

    def __init__(self, codes: np.ndarray) -> None:
        self._codes = codes

    def __len__(self) -> int:
        return math.ceil(len(self._codes) / N_SAMPLES)

    def __getitem__(self, k):
        n_parts = len(self)
        if not 0 <= k < n_parts:
            raise IndexError(k)
        first = np.arange(0, len(self._codes), n_parts)
        # The random shifts are the same for all parts, so that parts do not overlap.
        shift = np.random.default_rng(0).integers(n_parts, size=len(first))
        index = first + (k + shift) % n_parts
        index = index[index < len(self._codes)]
        return index[self._codes[index] < 0]


def _permuted(
    parts: Sequence[np.ndarray], size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the next `size` samples of permuted parts in random order, endlessly."""
    left = np.empty(0, dtype=np.int64)
    while True:
        for k in rng.permutation(len(parts)):
            left = np.concatenate([left, rng.permutation(parts[k])])
            while len(left) >= size:
                yield left[:size]
                left = left[size:]


def _weighted(
    index: np.ndarray, weights: np.ndarray, size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield `size` samples with replacement, in proportion to weights, endlessly."""
    bounds = weights.cumsum()
    while True:
        yield index[np.searchsorted(bounds, bounds[-1] * rng.random(size), "right")]
