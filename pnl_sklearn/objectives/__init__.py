"""What a student learns: losses, pseudo-negative labels, consistency, class prior.

A loss is a function of tensors that returns a scalar. To add a selection of
pseudo-negative labels or a consistency loss, write a class like :class:`Selection` or
:class:`Consistency`, and name it in ``SELECTIONS`` or ``CONSISTENCIES`` of its module.
"""

from ._class_prior import DistributionAlignment
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
    "supervised_loss",
]
