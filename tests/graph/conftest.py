"""A graph of near neighbors for the tests of label propagation."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import kneighbors_graph


def _knn_graph(X, n_neighbors=10):
    """Gaussian weights, scaled by the distances to the last neighbor of both ends."""
    graph = kneighbors_graph(X, n_neighbors, mode="distance")
    last = graph.max(axis=1).toarray().ravel()
    scale = np.repeat(last, n_neighbors) * last[graph.indices]
    graph.data = np.exp(-(graph.data**2) / scale)
    return sparse.csr_matrix(graph + graph.T)


@pytest.fixture
def knn_graph():
    return _knn_graph


@pytest.fixture
def one_hot():
    return lambda labels, n_classes: (labels[:, None] == np.arange(n_classes)) * 1.0
