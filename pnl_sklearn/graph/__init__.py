"""Label propagation on a graph of nearest neighbors.

:class:`GraphPosterior` computes class probabilities of all samples, once per fit:

1. It takes the features of X, or computes other features of all samples: :class:`HOG`
   or any :class:`FeatureFunction`. More than 128 computed features are reduced by PCA.
2. It finds the nearest neighbors of each sample by the Euclidean distance of the
   features. A :class:`NeighborSearch` replaces the first two steps.
3. It builds a symmetric graph with self-tuning weights.
4. It propagates the labels on the graph by several methods, and averages the results.
   The weights of the methods are proportional to the cross-validated likelihood of the
   labels.

Pass it as ``PNLClassifier(graph=...)``. The teacher's predictions are multiplied by
these probabilities.
"""

from ._hog import HOG
from ._neighbors import FeatureFunction, NeighborSearch
from ._posterior import GraphPosterior

__all__ = ["HOG", "FeatureFunction", "GraphPosterior", "NeighborSearch"]
