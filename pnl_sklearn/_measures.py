"""What is measured of the submodels at the end of an epoch."""

import math
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from ._batches import Rows, chunks, unlabeled_chunks
from ._predictions import joined, log_probabilities
from ._rounds import Measure
from ._submodel import Submodel

# Columns of `history_` that held-out rows add.
VALIDATED = ("valid_loss", "valid_accuracy", "valid_negatives_right")
# And the one that is recorded where a callback monitors it.
LABEL_CHANGE = "label_change"


def of_held_out_rows(
    rows: Rows,
    shape: tuple[int, ...],
    codes: np.ndarray,
    select: Callable[[Tensor], Tensor],
    device: str,
) -> Measure:
    """Return what measures loss, accuracy and negatives on rows that have a label."""
    # Of its own, since a selection may keep what it has seen.
    select = deepcopy(select)
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    labeled = np.flatnonzero(codes >= 0)
    at_target = np.arange(len(labeled)), codes[labeled]

    def measure(submodels: list[Submodel]) -> dict[str, float]:
        indices = chunks(labeled, shape, device)
        logs = [
            torch.cat(list(log_probabilities([submodel], rows, indices)))
            for submodel in submodels
        ]
        with torch.random.fork_rng(devices=cuda):  # a selection may draw
            masks = [select(part.exp().float()) for part in logs]
        negatives = torch.stack(masks).cpu().numpy()
        each = torch.stack(logs).cpu().numpy()
        predicted = np.logaddexp.reduce(each) - math.log(len(each))
        n_negatives = int(negatives.sum())
        n_wrong = sum(int(mask[at_target].sum()) for mask in negatives)
        values = (
            float(-predicted[at_target].mean()),
            float((predicted.argmax(axis=1) == at_target[1]).mean()),
            1 - n_wrong / n_negatives if n_negatives else math.nan,
        )
        return dict(zip(VALIDATED, values, strict=True))

    return measure


def of_changes(
    rows: Rows, shape: tuple[int, ...], codes: np.ndarray, device: str
) -> Measure:
    """Return what tells how many pseudo-labels changed since it was last asked."""
    n_unlabeled = int((codes < 0).sum())
    if not n_unlabeled:
        return lambda _: {LABEL_CHANGE: math.nan}
    last: list[np.ndarray] = []

    def measure(submodels: list[Submodel]) -> dict[str, float]:
        indices = unlabeled_chunks(codes, shape, device)
        parts = log_probabilities(submodels, rows, indices)
        last.append(joined((part.argmax(dim=1) for part in parts), n_unlabeled))
        if len(last) == 1:
            return {LABEL_CHANGE: math.nan}
        return {LABEL_CHANGE: float((last.pop(0) != last[0]).mean())}

    return measure
