"""Poisson learning and volume-constrained MBO."""

import numpy as np
from scipy import sparse

from ._label_spreading import (
    class_mass_normalization,
    degrees,
    label_spreading,
)


def poisson_learning(
    graph: sparse.csr_matrix,
    one_hot: np.ndarray,
    alpha: float = 0.999,
    tol: float = 1e-2,
) -> np.ndarray:
    """Poisson learning on a graph [1]_.

    The potentials u solve the Poisson equation L u = sum_j (y_j - mean of y) delta_j,
    with the graph Laplacian L and the labeled samples j. Each class is divided by its
    share of the labels, so that the result does not depend on the number of labels per
    class.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_samples, n_samples)
        Weights of the edges. Each sample has one edge at least.
    one_hot : float array of shape (n_samples, n_classes)
        One-hot labels, and zeros for unlabeled samples. Each class has at least one
        label.
    alpha : float, default=0.999
        The Laplacian is regularized to L + (1 / alpha - 1) D, with the degrees D.
        Potentials then exist on graphs with several components, too. For alpha near 1
        they are those of [1]_, up to a constant.
    tol : float, default=1e-2
        Tolerance of `label_spreading`.

    Returns
    -------
    potentials : float array of shape (n_samples, n_classes)
        Scores: the class with the largest potential is predicted.

    References
    ----------
    .. [1] J. Calder, B. Cook, M. Thorpe and D. Slepčev, "Poisson Learning: Graph Based
       Semi-Supervised Learning at Very Low Label Rates", ICML 2020.
    """
    root = np.sqrt(degrees(graph))[:, None].astype(one_hot.dtype)
    labeled = one_hot.any(axis=1, keepdims=True)
    share = one_hot.sum(axis=0) / labeled.sum()
    sources = (one_hot - labeled * share) / share
    scale = alpha / (1 - alpha) / root
    return scale * label_spreading(graph, sources / root, alpha, tol)


def volume_constrained_mbo(
    graph: sparse.csr_matrix,
    one_hot: np.ndarray,
    start: np.ndarray,
    volumes: np.ndarray,
    n_steps: int = 1,
    max_iter: int = 20,
    tol: float = 2e-3,
) -> np.ndarray:
    """Minimize the graph cut between classes of given sizes by an MBO scheme [1]_.

    Each iteration diffuses the classes along the edges, with fixed labels, and then
    assigns each sample to its most probable class. Boundaries between classes thus move
    to where few edges cross them. Class sizes are constrained by class mass
    normalization, which is approximate, unlike the auctions of [2]_.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_samples, n_samples)
        Weights of the edges. Each sample has one edge at least.
    one_hot : float array of shape (n_samples, n_classes)
        One-hot labels, and zeros for unlabeled samples.
    start : float array of shape (n_samples, n_classes)
        Initial scores. A sample with zeros has no class at first.
    volumes : float array of shape (n_classes,)
        Class sizes as fractions of the samples.
    n_steps : int, default=1
        Steps of the random walk in each iteration (diffusion time).
    max_iter : int, default=20
        Largest number of iterations.
    tol : float, default=2e-3
        The iterations end if at most this fraction of the samples changes its class.

    Returns
    -------
    probabilities : float array of shape (n_samples, n_classes)
        Class probabilities after the last diffusion.

    References
    ----------
    .. [1] E. Merkurjev, T. Kostić and A. L. Bertozzi, "An MBO Scheme on Graphs for
       Classification and Image Processing", SIAM Journal on Imaging Sciences 6, 2013.
    .. [2] M. Jacobs, E. Merkurjev and S. Esedoḡlu, "Auction Dynamics: A Volume
       Constrained MBO Scheme", Journal of Computational Physics 354, 2018.
    """
    step = (sparse.diags(1 / degrees(graph)) @ graph).tocsr().astype(one_hot.dtype)
    # The last row, of index -1, is for samples without a class.
    vertices = np.eye(one_hot.shape[1] + 1, one_hot.shape[1], dtype=one_hot.dtype)
    labeled = np.flatnonzero(one_hot.any(axis=1))
    # No class has this code, so that the first iteration does not converge.
    classes = np.full(len(start), -2)
    mass = probabilities = start
    for _ in range(max_iter):
        before = classes
        classes = np.where(mass.any(axis=1), probabilities.argmax(axis=1), -1)
        if (classes != before).mean() <= tol:
            break
        mass = vertices[classes]
        for _ in range(n_steps):
            mass[labeled] = one_hot[labeled]
            mass = step @ mass
        probabilities = class_mass_normalization(mass, volumes)
    return probabilities
