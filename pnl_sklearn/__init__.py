"""Semi-supervised classification with pseudo-negative labels, in scikit-learn's API."""

from .estimator import PNLClassifier, paper_style, supervised_baseline
from .exceptions import UnlabeledDataWarning
from .graph import GraphPosterior
from .objectives import (
    AdaptiveNegatives,
    DistributionAlignment,
    DualStudent,
    LowestNegatives,
    MeanTeacher,
    RandomNegatives,
)

__all__ = [
    "AdaptiveNegatives",
    "DistributionAlignment",
    "DualStudent",
    "GraphPosterior",
    "LowestNegatives",
    "MeanTeacher",
    "PNLClassifier",
    "RandomNegatives",
    "UnlabeledDataWarning",
    "paper_style",
    "supervised_baseline",
]
__version__ = "0.1.0"
