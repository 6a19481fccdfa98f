"""Schedules: pure functions from a step to a float, and what they give at one step."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class ScheduleValues(NamedTuple):
    """What the schedules give at one step, as floats or as tensors of shape ().

    `unlabeled`, `consistency` and `balance` are the shares of their weights that the
    unlabeled terms, the companion and the pull to the prior have; `rate` is that of the
    learning rates; `decays` are those of the submodels' weight averages.
    """

    unlabeled: float | Tensor
    companion: float | Tensor
    balance: float | Tensor
    rate: float | Tensor
    decays: Sequence[float | Tensor]

    @classmethod
    def of(cls, values: Sequence[float | Tensor]) -> "ScheduleValues":
        """Make it of its values in a row."""
        unlabeled, companion, balance, rate, *decays = values
        return cls(unlabeled, companion, balance, rate, decays)

    def values(self) -> list[float | Tensor]:
        """Return the values in a row."""
        return [self.unlabeled, self.consistency, self.balance, self.rate, *self.decays]


def rampup(step: int, length: int) -> float:
    """Rise from exp(-5) at step 0 to 1 at step `length` as exp(-5 (1 - t)^2).

    S. Laine and T. Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017.
    """
    if step >= length:
        return 1.0
    return math.exp(-5 * (1 - step / length) ** 2)


def cosine(step: int, length: int) -> float:
    """Fall from 1 at step 0 to 0 at step `length` along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(step / length, 1.0)))


def relaxation(step: int, length: int) -> float:
    """Fall along a line, from 1 at three tenths of `length` to a quarter at six."""
    return 1 - 0.75 * min(max((step / length - 0.3) / 0.3, 0.0), 1.0)


def ema_decay_at(step: int, decay: float) -> float:
    """Decay of a weight average that forgets the first weights quickly.

    The share of the old average is (1 + step) / (10 + step), at most `decay`, as in
    TensorFlow's ``ExponentialMovingAverage``.
    """
    return min(decay, (1 + step) / (10 + step))
