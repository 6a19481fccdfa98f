"""Two streams of batches, labeled and unlabeled, from arrays, sparse rows or a Dataset.

In-memory arrays go to the device once, in their own dtype; a batch is an index_select
there. Sparse rows are densified batch by batch. A DataLoader serves Datasets only.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Batch(NamedTuple):
    """What one step sees: inputs float32, labels int64, weights float32.

    `excluded` is a bool mask of the classes that the unlabeled rows are known not to be
    of, or None.
    """

    labeled: Tensor
    labels: Tensor
    weights: Tensor
    unlabeled: Tensor
    excluded: Tensor | None


class ArrayRows:
    """Rows of a dense array, kept on the device."""

    def __init__(self, array: np.ndarray, shape: tuple[int, ...], device: str) -> None:
        array = array.reshape(len(array), *shape)
        with warnings.catch_warnings():
            # Nothing here writes to the tensor, so a read-only array does no harm.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            self.rows = torch.from_numpy(array).to(device)

    def stream(self, indices: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Yield the rows of each index array as a float32 batch."""
        for index in indices:
            where = torch.from_numpy(index).to(self.rows.device, non_blocking=True)
            yield self.rows.index_select(0, where).float()


class SparseRows:
    """Rows of a CSR matrix, dense and on the device in batches only."""

    def __init__(self, matrix: csr_matrix, shape: tuple[int, ...], device: str) -> None:
        self.matrix = matrix
        self.shape = shape
        self.device = device

    def stream(self, indices: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Yield the rows of each index array as a float32 batch."""
        for index in indices:
            dense = self.matrix[index].toarray().reshape(len(index), *self.shape)
            yield torch.from_numpy(dense).to(self.device).float()


class DatasetRows:
    """Items of a Dataset of inputs, or of pairs of which the first is the input."""

    def __init__(
        self,
        dataset: Dataset,
        shape: tuple[int, ...],
        device: str,
        loader_params: dict[str, Any],
        seed: int = 0,
    ) -> None:
        # A DataLoader without a generator draws from torch's global one.
        generator = torch.Generator().manual_seed(seed)
        loader_params = {"generator": generator} | loader_params
        self.dataset = _Inputs(dataset, shape)
        self.device = device
        self.loader_params = loader_params

    def stream(self, indices: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Yield the items of each index array as a float32 batch."""
        batches = [index.tolist() for index in indices]
        loader = DataLoader(self.dataset, batch_sampler=batches, **self.loader_params)
        for batch in loader:
            yield batch.to(self.device, non_blocking=True).float()


Rows = ArrayRows | SparseRows | DatasetRows


class _Inputs(Dataset):
    def __init__(self, dataset: Dataset, shape: tuple[int, ...]) -> None:
        self.dataset = dataset
        self.shape = shape

    def __getitem__(self, index: int) -> Tensor:
        x = torch.as_tensor(dataset_input(self.dataset, index))
        if not x.isfinite().all():
            raise ValueError(f"Item {index} of the Dataset contains NaN or infinity.")
        return x.reshape(self.shape)


def dataset_input(dataset: Dataset, index: int) -> Any:
    """The input of an item that is an input or a pair (input, anything)."""
    item = dataset[index]
    return item[0] if isinstance(item, tuple | list) else item


class Batches:
    """Endless streams of labeled and unlabeled rows, cut into epochs.

    Both streams run through whole random permutations, so that in the long run every
    row is seen equally often, unless chances are given.

    Parameters
    ----------
    rows : ArrayRows, SparseRows or DatasetRows
    codes : int64 array of shape (n_rows,)
        Class codes, -1 for unlabeled rows.
    weights : float array of shape (n_rows,)
        Weights of the labeled rows in the supervised loss.
    sizes : tuple of two ints
        Labeled and unlabeled rows in a batch.
    device : str
    rng : numpy.random.Generator
    excluded : bool array of shape (n_rows, n_classes), default=None
        Classes that rows are known not to be of.
    chances : float array of shape (n_rows,), default=None
        How often unlabeled rows are drawn, relative to one another. None: equally
        often, and in the long run exactly so.
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
    ) -> None:
        self.rows = rows
        self.n_labeled = sizes[0]
        self._labeled = _endless(np.flatnonzero(codes >= 0), sizes[0], rng)
        unlabeled = np.flatnonzero(codes < 0)
        if chances is None or not len(unlabeled):
            self._unlabeled = _endless(unlabeled, sizes[1], rng)
        else:
            self._unlabeled = _drawn(unlabeled, chances[unlabeled], sizes[1], rng)
        self._codes = torch.from_numpy(codes).to(device)
        self._weights = torch.from_numpy(weights.astype(np.float32)).to(device)
        self._excluded = None
        if excluded is not None:
            self._excluded = torch.from_numpy(excluded).to(device)

    def skip(self, n_epochs: int, n_steps: int) -> None:
        """Pass over the batches of so many epochs."""
        for _ in range(n_epochs):
            self._draw(n_steps)

    def _draw(self, n_steps: int) -> list[np.ndarray]:
        labeled = [next(self._labeled) for _ in range(n_steps)]
        return [np.concatenate([i, next(self._unlabeled)]) for i in labeled]

    def epoch(self, n_steps: int) -> Iterator[Batch]:
        """Yield the batches of the next `n_steps` steps."""
        indices = self._draw(n_steps)
        where = torch.from_numpy(np.stack(indices)).to(self._codes.device)
        n = self.n_labeled
        for inputs, rows in zip(self.rows.stream(indices), where, strict=True):
            labels = self._codes[rows[:n]]
            weights = self._weights[rows[:n]]
            excluded = None
            if self._excluded is not None:
                excluded = self._excluded[rows[n:]]
            yield Batch(inputs[:n], labels, weights, inputs[n:], excluded)


def _endless(
    rows: np.ndarray, size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield `size` of the rows at a time, permutation after permutation."""
    if not len(rows):
        size = 0
    left = rows[:0]
    while True:
        while len(left) < size:
            left = np.concatenate([left, rng.permutation(rows)])
        yield left[:size]
        left = left[size:]


def _drawn(
    rows: np.ndarray, chances: np.ndarray, size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield `size` of the rows at a time, drawn in proportion to their chances."""
    bounds = chances.cumsum()
    while True:
        yield rows[np.searchsorted(bounds, bounds[-1] * rng.random(size), "right")]


def chunks(index: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Cut an index into parts that keep the memory of a forward pass within bounds."""
    size = max(16, min(8192, 2**19 // math.prod(shape)))
    return [index[i : i + size] for i in range(0, len(index), size)]


def moments(rows: Rows, n_rows: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column or channel, float64, in two passes.

    Of a Dataset, which may be slow to read, at most 10,000 items are used, at even
    distances.
    """
    n_used = min(n_rows, 10_000) if isinstance(rows, DatasetRows) else n_rows
    used = np.linspace(0, n_rows - 1, n_used).round().astype(np.int64)
    dims = [0, *range(2, len(shape) + 1)]
    n_values = n_used * math.prod(shape[1:])

    def mean(function: Callable[[Tensor], Tensor]) -> Tensor:
        parts = rows.stream(chunks(used, shape))
        sums = [function(x.double()).sum(dim=dims, keepdim=True)[0] for x in parts]
        return torch.stack(sums).sum(dim=0) / n_values

    center = mean(lambda x: x)
    return center, mean(lambda x: (x - center).square()).sqrt()
