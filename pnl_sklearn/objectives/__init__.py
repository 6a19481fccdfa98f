"""Losses, selections of pseudo-negative labels, companions, the class prior."""

from ._consistency import (
    Consistency,
    ConsistencyTargets,
    DualStudent,
    MeanTeacher,
    Predictor,
)
from ._losses import (
    balance_loss,
    candidate_loss,
    consistency_loss,
    negative_learning_loss,
    supervised_loss,
)
from ._selection import AdaptiveNegatives, LowestNegatives, RandomNegatives

__all__ = [
    "AdaptiveNegatives",
    "Consistency",
    "ConsistencyTargets",
    "DualStudent",
    "LowestNegatives",
    "MeanTeacher",
    "Predictor",
    "RandomNegatives",
    "balance_loss",
    "candidate_loss",
    "consistency_loss",
    "negative_learning_loss",
    "supervised_loss",
]
