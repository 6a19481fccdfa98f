"""Label spreading, class mass normalization and hitting probabilities."""

import math

import numpy as np
from scipy import sparse


def label_spreading(
    graph: sparse.csr_matrix,
    sources: np.ndarray,
    alpha: float = 0.9,
    tol: float = 1e-6,
) -> np.ndarray:
    """Label spreading on a graph [1]_.

    The scores are F = (1 - alpha) (I - alpha S)^-1 Y, with the sources Y and the
    normalized weights S = D^-1/2 W D^-1/2 of the graph W, with degrees D. Up to this
    normalization they are the probabilities of a random walk with restart from the
    sources, where 1 - alpha is the probability of a restart at each step.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_samples, n_samples)
        Weights of the edges. Each sample has one edge at least.
    sources : float array of shape (n_samples, n_columns)
        One-hot labels, and zeros for unlabeled samples.
    alpha : float, default=0.9
        Share of a score that comes from the neighbors, in (0, 1).
    tol : float, default=1e-6
        Largest error of the scores of a column, relative to their norm.

    Returns
    -------
    scores : float array of shape (n_samples, n_columns)
        Scores, of the dtype of the sources.

    Notes
    -----
    The linear system is solved by Chebyshev's semi-iterative method [2]_. The
    eigenvalues of alpha S are in [-alpha, alpha], so that the number of iterations
    depends on alpha and tol only, and columns do not depend on each other.

    References
    ----------
    .. [1] D. Zhou, O. Bousquet, T. N. Lal, J. Weston and B. Schölkopf, "Learning with
       Local and Global Consistency", NIPS 2003.
    .. [2] G. H. Golub and R. S. Varga, "Chebyshev Semi-Iterative Methods, Successive
       Overrelaxation Iterative Methods, and Second Order Richardson Iterative Methods",
       Numerische Mathematik 3, 1961.
    """
    scale = sparse.diags(1 / np.sqrt(degrees(graph)))
    step = (alpha * (scale @ graph @ scale)).tocsr().astype(sources.dtype)
    restart = (1 - alpha) * sources
    rate = alpha / (1 + math.sqrt(1 - alpha**2))
    before, scores, omega = np.zeros_like(restart), restart, 2.0
    for _ in range(math.ceil(math.log(tol / 2) / math.log(rate))):
        omega = 1 / (1 - alpha**2 * omega / 4)
        # In place: before + omega * (step @ scores + restart - before).
        after = step @ scores
        after += restart
        after -= before
        after *= omega
        after += before
        before, scores = scores, after
    return scores


def class_mass_normalization(
    scores: np.ndarray,
    class_prior: np.ndarray,
    leeway: float = 0.1,
    n_iter: int = 10,
) -> np.ndarray:
    """Normalize scores to probabilities whose mean is close to a class prior.

    Scores of class k are multiplied by a factor v_k. The scores of each sample are then
    scaled to sum to 1. The factors minimize the Kullback-Leibler divergence of the mean
    probability from the class prior, with `leeway` as regularization towards factors of
    1. One iteration with ``leeway=0`` is that of [1]_. The iterations are those of
    Sinkhorn's algorithm with one relaxed marginal [2]_.

    Parameters
    ----------
    scores : float array of shape (n_samples, n_classes)
        Scores. Negative values count as zero.
    class_prior : float array of shape (n_classes,)
        Target of the mean probability.
    leeway : float, default=0.1
        Strength of the regularization: at the solution,
        log(v_k) = log(prior_k / mean_k) / leeway. Without it, the factors would be
        extreme if classes are well separated and the prior is not exact.
    n_iter : int, default=10
        Number of iterations.

    Returns
    -------
    probabilities : float array of shape (n_samples, n_classes)
        Probabilities; those of each sample sum to 1.

    References
    ----------
    .. [1] X. Zhu, Z. Ghahramani and J. Lafferty, "Semi-Supervised Learning Using
       Gaussian Fields and Harmonic Functions", ICML 2003.
    .. [2] L. Chizat, G. Peyré, B. Schmitzer and F.-X. Vialard, "Scaling Algorithms for
       Unbalanced Optimal Transport Problems", Mathematics of Computation 87, 2018.
    """
    scores = normalized(scores)
    factors = np.ones(scores.shape[1], dtype=scores.dtype)
    for _ in range(n_iter):
        mean = (1 / (scores @ factors)) @ scores / len(scores)
        factors = (class_prior / mean).astype(scores.dtype) ** (1 / (1 + leeway))
    return normalized(scores * factors)


def hitting_probabilities(
    graph: sparse.csr_matrix, targets: np.ndarray, alpha: float, tol: float = 1e-10
) -> np.ndarray:
    """Probabilities that a random walk hits each target before it restarts.

    They are the expected number of visits of a target, divided by that of a walk that
    starts at the target.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_samples, n_samples)
        Weights of the edges. Each sample has one edge at least.
    targets : int array of shape (n_targets,)
        Indices of samples.
    alpha : float
        Probability at each step that the walk does not restart, in (0, 1).
    tol : float, default=1e-10
        Tolerance of `label_spreading`.

    Returns
    -------
    probabilities : float array of shape (n_samples, n_targets)
        Probabilities by the sample from which a walk starts. They are 1 for the target
        itself.
    """
    sources = np.zeros((graph.shape[0], len(targets)))
    sources[targets, np.arange(len(targets))] = 1.0
    visits = label_spreading(graph, sources, alpha, tol)
    visits /= np.sqrt(degrees(graph))[:, None]
    visits /= visits[targets].diagonal()
    return visits.clip(0, 1, out=visits)


def degrees(graph: sparse.csr_matrix) -> np.ndarray:
    """Return the sum of the weights of each sample's edges."""
    return np.asarray(graph.sum(axis=1)).ravel()


def normalized(scores: np.ndarray) -> np.ndarray:
    """Scale scores to sum to 1 for each sample.

    A sample without positive scores has the same probability for each class.
    """
    # Scores may be slightly negative, within the tolerance of the solver.
    scores = scores.clip(0) + 1e-12
    return scores / scores.sum(axis=1, keepdims=True)
