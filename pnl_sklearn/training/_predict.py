"""Predictions of the fitted submodels, chunk by chunk."""

import math
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data._sources import Index, Source
from ._submodel import Submodel

# Number of values that are kept on a device other than the CPU before they are copied.
_N_HELD = 2**22


def log_probabilities(
    submodels: list[Submodel], source: Source, indices: Iterable[Index]
) -> Iterator[Tensor]:
    """Yield the logarithm of the submodels' mean probabilities (float64) by index."""
    for x in source.stream(indices):
        each = [submodel.log_probabilities(x) for submodel in submodels]
        yield reduce(torch.logaddexp, each) - math.log(len(each))


def refuse_nan(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield log-probabilities; raise if some of them are NaN."""
    n_before = 0
    for part in parts:
        found = part.isnan().any(dim=1)
        if found.any():
            index = n_before + int(found.nonzero()[0])
            raise ValueError(
                f"The prediction of sample {index} of X is NaN. It may contain values "
                "that are too large, such as a mark of missing values. Correct or "
                "remove such samples."
            )
        n_before += len(part)
        yield part


def concatenate_predictions(
    parts: Iterable[Tensor], n_samples: int, names: np.ndarray | None = None
) -> np.ndarray:
    """Concatenate tensors to an array. Class codes are replaced by their `names`.

    Results on devices other than the CPU are copied in large parts, since each copy
    waits for the device to finish.
    """
    whole: Any = None
    held: list[Tensor] = []
    n_held = end = 0
    for part in parts:
        held.append(part)
        n_held += part.numel()
        end += len(part)
        if part.is_cpu or n_held >= _N_HELD or end == n_samples:
            values = torch.cat(held).cpu().numpy()
            values = values if names is None else names[values]
            if whole is None:
                whole = np.empty((n_samples, *values.shape[1:]), values.dtype)
            whole[end - len(values) : end] = values
            held, n_held = [], 0
    return whole
