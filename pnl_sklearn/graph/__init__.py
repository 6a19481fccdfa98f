"""Label propagation on a graph of nearest neighbors.

1. Features of all samples, batch by batch: those of X, :class:`HOG`, or any
   :class:`FeatureFunction`. More than 128 are reduced by PCA.
2. Distances to the nearest neighbors of each sample, of these features, or by any
   :class:`NeighborSearch`.
3. A symmetric graph with self-tuning weights.
4. Label propagation on the graph: several methods, weighted by cross-validated label
   likelihood.
5. The posterior's logarithm times its weight, which the estimator adds to the teacher's
   log-probabilities.

:class:`GraphPosterior` runs these steps; ``PNLClassifier(graph=...)`` takes it.
"""

from ._hog import HOG
from ._neighbors import FeatureFunction, NeighborSearch
from ._posterior import GraphPosterior

__all__ = ["HOG", "FeatureFunction", "GraphPosterior", "NeighborSearch"]
