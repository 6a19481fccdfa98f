"""The estimator: parameters, networks, trainer."""

from ._classifier import PNLClassifier, supervised_baseline
from ._paper import paper_style

__all__ = ["PNLClassifier", "paper_style", "supervised_baseline"]
