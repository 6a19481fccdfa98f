"""Predictions of the fitted submodels together, chunk by chunk."""

import math
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data._sources import Index, Source
from ._submodel import Submodel

# Values that wait on another device than the CPU until they are copied.
_N_HELD = 2**22


def log_probabilities(
    submodels: list[Submodel], source: Source, indices: Iterable[Index]
) -> Iterator[Tensor]:
    """Yield log of the submodels' mean probabilities, float64, for each index."""
    for x in source.stream(indices):
        each = [submodel.log_probabilities(x) for submodel in submodels]
        yield reduce(torch.logaddexp, each) - math.log(len(each))


def concatenate_predictions(
    parts: Iterable[Tensor], n_samples: int, names: np.ndarray | None = None
) -> np.ndarray:
    """Concatenate tensors to an array; if they are class codes, to their names.

    What is on another device than the CPU stays there until it is much: each copy waits
    for all that the device has been told to do, and leaves it with nothing to do.
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
