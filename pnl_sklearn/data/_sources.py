"""Sources of batches: arrays, sparse matrices, Datasets.

An array is not copied, or copied once to another device. Sparse matrices are converted
to dense batches. A DataLoader reads a Dataset. Further memory does not depend on the
number of samples, so that an array may be a memory-mapped file.
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

# Indices of samples, as an array or as a range.
Index = np.ndarray | range
# Number of samples that are permuted, or searched for unlabeled ones, at a time.
N_SAMPLES = 2**20


class ArraySource:
    """Samples of a dense array, kept on the device.

    Parameters
    ----------
    array : array of shape (n_samples, n_features)
    shape : tuple of int
        Shape of a sample in a batch, (n_features,) or (channels, height, width).
    device : str
    channels_last : bool, default=False
        Whether the axes of a flattened image are height, width, channels.
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
            # The tensor is not changed, so that the array may be read-only.
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
    """Samples of a CSR matrix. Only batches are dense and on the device."""

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
    """Samples of a Dataset, which are read batch by batch."""

    def __init__(
        self,
        dataset: Dataset,
        device: str,
        loader_params: dict[str, Any],
        seed: int = 0,
    ) -> None:
        # A DataLoader without a generator uses torch's global one.
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


class ClippedSource:
    """Samples of another source, clipped to a range of each feature.

    Parameters
    ----------
    source : Source
    low, high : float32 Tensor of shape (n_features,)
        Smallest and largest value of each feature, on the device of the source.
    """

    def __init__(self, source: "Source", low: Tensor, high: Tensor) -> None:
        self.source = source
        self.low = low
        self.high = high

    def stream(self, indices: Iterable[Index]) -> Iterator[Tensor]:
        """Yield the samples of each index as a float32 batch."""
        for batch in self.source.stream(indices):
            yield batch.clamp(self.low, self.high)


Source = ArraySource | SparseSource | DatasetSource | ClippedSource


def make_source(
    inputs: Inputs, device: str, net_params: dict[str, Any] | None, seed: int = 0
) -> Source:
    """Return a source of batches of the inputs.

    Parameters
    ----------
    inputs : Inputs
    device : str
        Device of the batches.
    net_params : dict or None
        Parameters whose entries ``iterator_train__...`` are arguments of the
        DataLoader.
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
    """Split indices into chunks, to limit the memory of a forward pass.

    Chunks are smaller on a CPU, which is fastest if activations fit in its caches.
    """
    is_cpu = torch.device(device).type == "cpu"
    most, n_values = (2048, 2**19) if is_cpu else (8192, 2**21)
    size = max(16, min(most, n_values // math.prod(shape)))
    return [index[i : i + size] for i in range(0, len(index), size)]


def unlabeled_chunks(
    codes: np.ndarray, shape: tuple[int, ...], device: str = "cpu"
) -> Iterator[np.ndarray]:
    """Yield the indices of unlabeled samples in chunks."""
    for i in range(0, len(codes), N_SAMPLES):
        index = i + np.flatnonzero(codes[i : i + N_SAMPLES] < 0)
        yield from chunks(index, shape, device)


def moments(
    source: Source, n_samples: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of each feature or channel, in float64.

    A Dataset may be slow to read. At most 10,000 of its items are used, evenly spaced.
    """
    used: Index = range(n_samples)
    if isinstance(source, DatasetSource) and n_samples > 10_000:
        used = np.linspace(0, n_samples - 1, 10_000).round().astype(np.int64)
    dims = [0, *range(2, len(shape) + 1)]
    n_values = len(used) * math.prod(shape[1:])

    def mean(function: Callable[[Tensor], Tensor]) -> Tensor:
        total: Any = 0
        # A list of many small results would fragment the memory.
        for x in source.stream(chunks(used, shape)):
            total += function(x.double()).sum(dim=dims, keepdim=True)[0]
        return total / n_values

    center = mean(lambda x: x)
    return center, mean(lambda x: (x - center).square()).sqrt()
