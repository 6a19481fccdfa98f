"""Semi-supervised classification with pseudo-negative labels, as in scikit-learn."""

from .classifier import PNLClassifier, supervised_twin
from .negatives import AdaptiveNegatives, LowestNegatives, RandomNegatives

__all__ = [
    "AdaptiveNegatives",
    "LowestNegatives",
    "PNLClassifier",
    "RandomNegatives",
    "supervised_twin",
]
__version__ = "0.1.0"
