"""Sources of batches: arrays, sparse matrices, Datasets.

An array stays what it is and where it is, or goes to another device once; a batch is an
index_select there. A sparse matrix is densified batch by batch. A DataLoader serves
Datasets only. Memory does not grow with the number of samples, so that an array that
does not fit can be a memory-mapped file.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, issparse
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ._inputs import Inputs

# Samples, as an array of positions or as a range of them.
Index = np.ndarray | range
# Samples that are permuted, or searched for unlabeled ones, at a time.
N_SAMPLES = 2**20


class ArraySource:
    """Samples of a dense array, kept on the device.

    Parameters
    ----------
    array : array of shape (n_samples, n_features)
    shape : tuple of int
        Of a sample in a batch, (n_features,) or (channels, height, width).
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
            tensor = torch.from_numpy(array.reshape(len(array), *shape))
        halved = tensor.dtype == torch.float64 and torch.device(device).type != "cpu"
        self.array = tensor.to(device, torch.float32 if halved else tensor.dtype)
        self.channels_last = channels_last

    def stream(self, indices: Iterable[Index]) -> Iterator[Tensor]:
        """Yield the samples of each index as a float32 batch."""
        for index in indices:
            if isinstance(index, range):
                batch = self.array[index.start : index.stop]
            else:
                where = torch.from_numpy(index).to(self.array.device, non_blocking=True)
                batch = self.array.index_select(0, where)
            if self.channels_last:
                batch = batch.permute(0, 3, 1, 2).contiguous()
            yield batch.float()


class SparseSource:
    """Samples of a CSR matrix, dense and on the device in batches only."""

    def __init__(self, matrix: csr_matrix, shape: tuple[int, ...], device: str) -> None:
        self.matrix = matrix
        self.shape = shape
        self.device = device

    def stream(self, indices: Iterable[Index]) -> Iterator[Tensor]:
        """Yield the samples of each index as a float32 batch."""
        for index in indices:
            dense = self.matrix[index].toarray().reshape(len(index), *self.shape)
            yield torch.from_numpy(dense).to(self.device).float()


class DatasetSource:
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


Source = ArraySource | SparseSource | DatasetSource


def make_source(
    inputs: Inputs, device: str, net_params: dict[str, Any] | None, seed: int = 0
) -> Source:
    """Return a source of batches of the inputs.

    Parameters
    ----------
    inputs : Inputs
    device : str
        Where the batches have to be.
    net_params : dict or None
        Its entries ``iterator_train__...`` are arguments of the DataLoader.
    seed : int, default=0
        Seed of the DataLoader's generator.
    """
    if inputs.is_dataset:
        prefix = "iterator_train__"
        params = {
            name.removeprefix(prefix): value
            for name, value in (net_params or {}).items()
            if name.startswith(prefix)
        }
        return DatasetSource(inputs.data, device, params, seed)
    if issparse(inputs.data):
        return SparseSource(inputs.data, inputs.sample_shape, device)
    return ArraySource(inputs.data, inputs.sample_shape, device, inputs.channels_last)


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
    """Yield the positions of unlabeled samples in chunks."""
    for i in range(0, len(codes), N_SAMPLES):
        index = i + np.flatnonzero(codes[i : i + N_SAMPLES] < 0)
        yield from chunks(index, shape, device)


def moments(
    source: Source, n_samples: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature or channel, float64, in two passes.

    Of a Dataset, which may be slow to read, at most 10,000 items are used, evenly
    spaced.
    """
    used: Index = range(n_samples)
    if isinstance(source, DatasetSource) and n_samples > 10_000:
        used = np.linspace(0, n_samples - 1, 10_000).round().astype(np.int64)
    dims = [0, *range(2, len(shape) + 1)]
    n_values = len(used) * math.prod(shape[1:])

    def mean(function: Callable[[Tensor], Tensor]) -> Tensor:
        total: Any = 0
        # In place: a list of many small results would fragment the memory.
        for x in source.stream(chunks(used, shape)):
            total += function(x.double()).sum(dim=dims, keepdim=True)[0]
        return total / n_values

    center = mean(lambda x: x)
    return center, mean(lambda x: (x - center).square()).sqrt()
