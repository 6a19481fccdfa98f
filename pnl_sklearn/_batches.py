"""Two streams of batches, labeled and unlabeled, from arrays, sparse rows or a Dataset.

An array stays what it is and where it is, or goes to another device once; a batch is an
index_select there. Sparse rows are densified batch by batch. A DataLoader serves
Datasets only. Nothing here takes memory that grows with the rows, so that what does not
fit can be a memory-mapped file.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ._ranks import ALONE, Ranks

# Rows, as an array of positions or as a range of them.
Index = np.ndarray | range
# Rows that are put in order at a time, and steps at most.
_N_ROWS = 2**20
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


class ArrayRows:
    """Rows of a dense array, kept on the device.

    Parameters
    ----------
    array : array of shape (n_rows, n_values)
    shape : tuple of int
        Of a row in a batch, (n_values,) or (channels, height, width).
    device : str
    channels_last : bool, default=False
        Whether the values of an image are in the order height, width, channels.
    """

    def __init__(
        self,
        array: np.ndarray,
        shape: tuple[int, ...],
        device: str,
        channels_last: bool = False,
    ) -> None:
        if channels_last:
            shape = *shape[1:], shape[0]
        with warnings.catch_warnings():
            # Nothing here writes to the tensor, so a read-only array does no harm.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            rows = torch.from_numpy(array.reshape(len(array), *shape))
        halved = rows.dtype == torch.float64 and torch.device(device).type != "cpu"
        self.rows = rows.to(device, torch.float32 if halved else rows.dtype)
        self.channels_last = channels_last

    def stream(self, indices: Iterable[Index]) -> Iterator[Tensor]:
        """Yield the rows of each index as a float32 batch."""
        for index in indices:
            if isinstance(index, range):
                batch = self.rows[index.start : index.stop]
            else:
                where = torch.from_numpy(index).to(self.rows.device, non_blocking=True)
                batch = self.rows.index_select(0, where)
            if self.channels_last:
                batch = batch.permute(0, 3, 1, 2).contiguous()
            yield batch.float()


class SparseRows:
    """Rows of a CSR matrix, dense and on the device in batches only."""

    def __init__(self, matrix: csr_matrix, shape: tuple[int, ...], device: str) -> None:
        self.matrix = matrix
        self.shape = shape
        self.device = device

    def stream(self, indices: Iterable[Index]) -> Iterator[Tensor]:
        """Yield the rows of each index as a float32 batch."""
        for index in indices:
            dense = self.matrix[index].toarray().reshape(len(index), *self.shape)
            yield torch.from_numpy(dense).to(self.device).float()


class DatasetRows:
    """Items of a Dataset of tensors of one shape, read when they are needed."""

    def __init__(
        self,
        dataset: Dataset,
        device: str,
        loader_params: dict[str, Any],
        seed: int = 0,
    ) -> None:
        # A DataLoader without a generator draws from torch's global one.
        generator = torch.Generator().manual_seed(seed)
        loader_params = {"generator": generator} | loader_params
        self.dataset = dataset
        self.device = device
        self.loader_params = loader_params

    def stream(self, indices: Iterable[Index]) -> Iterator[Tensor]:
        """Yield the items of each index as a float32 batch."""
        batches = (list(map(int, index)) for index in indices)
        loader = DataLoader(self.dataset, batch_sampler=batches, **self.loader_params)
        for batch in loader:
            yield batch.to(self.device, non_blocking=True).float()


Rows = ArrayRows | SparseRows | DatasetRows


class Batches:
    """Endless streams of labeled and unlabeled rows, cut into epochs.

    Both streams run through whole random permutations, so that in the long run every
    row is seen equally often, unless chances are given. More than 2^20 rows are
    permuted in parts, each of which is spread evenly over all rows.

    Parameters
    ----------
    rows : ArrayRows, SparseRows or DatasetRows
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
    ranks : Ranks, default=ALONE
        With equal generators, their batches are the parts of one, `count` times as
        large.
    log_beliefs : float32 array of shape (n_rows, n_classes), default=None
        What is added to the logarithms of predictions.
    """

    def __init__(
        self,
        rows: Rows,
        codes: np.ndarray,
        weights: np.ndarray,
        sizes: tuple[int, int],
        device: str,
        rng: np.random.Generator,
        excluded: np.ndarray | None = None,
        chances: np.ndarray | None = None,
        ranks: Ranks = ALONE,
        log_beliefs: np.ndarray | None = None,
    ) -> None:
        self.rows = rows
        self.n_labeled = sizes[0]
        n_labeled, n_unlabeled = (ranks.count * size for size in sizes)
        self._n_ahead = max(1, min(_N_STEPS, _N_ROWS // (n_labeled + n_unlabeled)))
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
        return math.ceil(len(self._codes) / _N_ROWS)

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


def chunks(index: Index, shape: tuple[int, ...], device: str = "cpu") -> list[Any]:
    """Cut an index into parts that keep the memory of a forward pass within bounds.

    A CPU is fastest where the values of a layer stay in its caches, other devices where
    they have much to do at a time.
    """
    is_cpu = torch.device(device).type == "cpu"
    most, n_values = (2048, 2**19) if is_cpu else (8192, 2**21)
    size = max(16, min(most, n_values // math.prod(shape)))
    return [index[i : i + size] for i in range(0, len(index), size)]


def unlabeled_chunks(
    codes: np.ndarray, shape: tuple[int, ...], device: str = "cpu"
) -> Iterator[np.ndarray]:
    """Yield the positions of unlabeled rows in chunks."""
    for i in range(0, len(codes), _N_ROWS):
        rows = i + np.flatnonzero(codes[i : i + _N_ROWS] < 0)
        yield from chunks(rows, shape, device)


def moments(rows: Rows, n_rows: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column or channel, float64, in two passes.

    Of a Dataset, which may be slow to read, at most 10,000 items are used, at even
    distances.
    """
    used: Index = range(n_rows)
    if isinstance(rows, DatasetRows) and n_rows > 10_000:
        used = np.linspace(0, n_rows - 1, 10_000).round().astype(np.int64)
    dims = [0, *range(2, len(shape) + 1)]
    n_values = len(used) * math.prod(shape[1:])

    def mean(function: Callable[[Tensor], Tensor]) -> Tensor:
        total: Any = 0
        # In place: a list of results would lie between what is freed, in its way.
        for x in rows.stream(chunks(used, shape)):
            total += function(x.double()).sum(dim=dims, keepdim=True)[0]
        return total / n_values

    center = mean(lambda x: x)
    return center, mean(lambda x: (x - center).square()).sqrt()
