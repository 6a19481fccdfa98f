"""Semi-supervised classification with pseudo-negative labels, as in scikit-learn."""

from ._paper import paper_style
from .classifier import PNLClassifier, supervised_twin
from .companions import DualStudent, MeanTeacher
from .negatives import AdaptiveNegatives, LowestNegatives, RandomNegatives

__all__ = [
    "AdaptiveNegatives",
    "DualStudent",
    "LowestNegatives",
    "MeanTeacher",
    "PNLClassifier",
    "RandomNegatives",
    "paper_style",
    "supervised_twin",
]
__version__ = "0.1.0"
