"""The estimator: parameters, networks, trainer."""

from ._classifier import PNLClassifier, supervised_twin
from ._paper import paper_style

__all__ = ["PNLClassifier", "paper_style", "supervised_twin"]
