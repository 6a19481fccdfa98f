"""Poisson learning, and the volume-constrained MBO scheme that starts from it."""

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
    """Classify by the potentials of sources at the labeled samples.

    The potentials u solve the Poisson equation L u = sum_j (y_j - mean of y) delta_j
    with the graph Laplacian L and sources at labeled samples j, and are divided by the
    share of each class among the labels, so that a class has the same total source
    whatever its number of labels.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_samples, n_samples)
        Weights of the edges. Each sample has one edge at least.
    one_hot : float array of shape (n_samples, n_classes)
        Labels, and zeros for unlabeled samples. Each class has a label at least.
    alpha : float, default=0.999
        The Laplacian is regularized to L + (1 / alpha - 1) D, with the degrees D, so
        that potentials exist on graphs of several components, and far sources count
        less. With alpha near 1 they are those of [1]_, up to a constant.
    tol : float, default=1e-2
        As for `label_spreading`.

    Returns
    -------
    potentials : float array of shape (n_samples, n_classes)
        The class of the largest potential is predicted.

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
    """Shorten the boundaries between classes of given sizes.

    Each iteration diffuses the classes by some steps of the random walk, with the known
    labels kept, and then gives each sample its most probable class, under the
    constraint that classes have about the given sizes. So boundaries move to where few
    edges cross them [1]_. Sizes are those of class mass normalization, not exact as
    with the auctions of [2]_.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_samples, n_samples)
        Weights of the edges. Each sample has one edge at least.
    one_hot : float array of shape (n_samples, n_classes)
        Labels, and zeros for unlabeled samples.
    start : float array of shape (n_samples, n_classes)
        Scores, of which the largest is the class at the start. Samples with zeros have
        no class until some neighbor has one.
    volumes : float array of shape (n_classes,)
        Share of the samples that each class has.
    n_steps : int, default=1
        Steps of an iteration, that is the diffusion time.
    max_iter : int, default=20
    tol : float, default=2e-3
        Share of the samples. If no more change their class, the iterations end.

    Returns
    -------
    probabilities : float array of shape (n_samples, n_classes)
        Those of the last diffusion.

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
    # Other than at the start, so that this is not taken for convergence.
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
