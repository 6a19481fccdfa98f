"""What the labels say about the linear classifier and the graph posterior."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from ..graph._stack import HeldOut
from ._pool import log_linear_pool


@dataclass(frozen=True)
class Evidence:
    """Cross-validated predictions of the labels, and the weights that follow.

    Parameters
    ----------
    n_labels : int
    log_likelihood : dict of float
    linear_weight, graph_weight : float
    uses_neighbors : bool
    """

    n_labels: int
    log_likelihood: dict[str, float]
    linear_weight: float = 0.0
    graph_weight: float = 0.0
    uses_neighbors: bool = True


def weigh_evidence(
    labels: np.ndarray,
    n_classes: int,
    linear: np.ndarray | None,
    graph: HeldOut | None,
) -> Evidence:
    """Compare the predictions of held-out labels, and fit the weights of their pool."""
    experts = {}
    if linear is not None:
        experts["linear"] = linear
    if graph is not None:
        experts["graph"] = graph.probabilities
    n = len(labels)
    at_label = np.arange(n), labels
    logs = {name: np.log(p.clip(1e-9)) for name, p in experts.items()}
    likelihood = {name: float(p[at_label].mean()) for name, p in logs.items()}
    weights = dict.fromkeys(experts, 1.0)
    if len(experts) == 2 and n:
        stacked = np.stack(list(logs.values()))
        found = log_linear_pool(stacked, labels)
        weights = dict(zip(experts, map(float, found), strict=True))
        product = log_softmax(np.tensordot(found, stacked, 1), axis=1)
        likelihood["product"] = float(product[at_label].mean())
    a, b = weights.get("linear", 0.0), weights.get("graph", 0.0)
    uses_neighbors = len(experts) < 2 or b >= a
    return Evidence(n, likelihood, a, b, uses_neighbors)
