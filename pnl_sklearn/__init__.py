"""Semi-supervised classification with pseudo-negative labels, as in scikit-learn."""

from .estimator import PNLClassifier, paper_style, supervised_twin
from .exceptions import PoolWarning
from .objectives import (
    AdaptiveNegatives,
    DualStudent,
    LowestNegatives,
    MeanTeacher,
    RandomNegatives,
)

__all__ = [
    "AdaptiveNegatives",
    "DualStudent",
    "LowestNegatives",
    "MeanTeacher",
    "PNLClassifier",
    "PoolWarning",
    "RandomNegatives",
    "paper_style",
    "supervised_twin",
]
__version__ = "0.1.0"
