"""Losses, pseudo-negative labels, consistency regularization, distribution alignment.

These are the parts of a student's training objective. A loss is a function of tensors
that returns a scalar. To add a selection of pseudo-negative labels or a consistency
loss, write a class with the interface of :class:`Selection` or :class:`Consistency`.
"""

from ._class_prior import DistributionAlignment, shrunk_frequencies
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
from ._selection import (
    AdaptiveNegatives,
    LowestNegatives,
    RandomNegatives,
    Selection,
)

__all__ = [
    "AdaptiveNegatives",
    "Consistency",
    "ConsistencyTargets",
    "DistributionAlignment",
    "DualStudent",
    "LowestNegatives",
    "MeanTeacher",
    "Predictor",
    "RandomNegatives",
    "Selection",
    "balance_loss",
    "candidate_loss",
    "consistency_loss",
    "negative_learning_loss",
    "shrunk_frequencies",
    "supervised_loss",
]
