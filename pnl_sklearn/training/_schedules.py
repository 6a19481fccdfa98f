"""Schedules: functions from a step to a float."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class ScheduleValues(NamedTuple):
    """Values of the schedules at one step, as floats or as tensors of shape ().

    Parameters
    ----------
    unlabeled : float
        Factor of the weights of the unlabeled terms.
    consistency : float
        Factor of the weight of the consistency loss.
    balance : float
        Factor of the weight of the balance loss.
    lr : float
        Factor of the learning rates.
    ema_decays : sequence of float
        Decay of each submodel's EMA.
    """

    unlabeled: float | Tensor
    consistency: float | Tensor
    balance: float | Tensor
    lr: float | Tensor
    ema_decays: Sequence[float | Tensor]

    @classmethod
    def from_list(cls, values: Sequence[float | Tensor]) -> "ScheduleValues":
        """Create the values from a flat list."""
        unlabeled, consistency, balance, lr, *ema_decays = values
        return cls(unlabeled, consistency, balance, lr, ema_decays)

    def to_list(self) -> list[float | Tensor]:
        """Return the values as a flat list."""
        return [
            self.unlabeled,
            self.consistency,
            self.balance,
            self.lr,
            *self.ema_decays,
        ]


def sigmoid_rampup(step: int, length: int) -> float:
    """Increase from exp(-5) at step 0 to 1 at step `length`, as exp(-5 (1 - t)^2).

    References
    ----------
    S. Laine and T. Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017.
    """
    if step >= length:
        return 1.0
    return math.exp(-5 * (1 - step / length) ** 2)


def cosine_decay(step: int, length: int) -> float:
    """Decrease from 1 at step 0 to 0 at step `length` along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(step / length, 1.0)))


def late_decay(step: int, length: int) -> float:
    """Decrease linearly from 1 at 0.3 `length` to 0.25 at 0.6 `length`."""
    return 1 - 0.75 * min(max((step / length - 0.3) / 0.3, 0.0), 1.0)


def ema_decay_at(step: int, decay: float) -> float:
    """Decay of an EMA at a step: (1 + step) / (10 + step), at most `decay`.

    The initial weights thus have little influence on the EMA. This schedule is that of
    TensorFlow's ``ExponentialMovingAverage``.
    """
    return min(decay, (1 + step) / (10 + step))
