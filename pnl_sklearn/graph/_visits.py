"""How often walks along a graph come by rows, and products with its matrix."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from torch.nn.functional import embedding_bag

from ..utils._parallel import parallel_map

# Targets that are solved for at once: of each row they share a line of cache.
_N_SOLVED = 16
# What may be left of a system of equations, and how often it is solved for what is, in
# how many steps each time, at most (two or three times, in up to 140 steps, on MNIST).
_LEFT, _N_SOLUTIONS, _N_STEPS = 1e-10, 10, 2000


def meeting_probabilities(
    graph: sparse.csr_matrix, targets: np.ndarray, goes_on: float
) -> np.ndarray:
    """Probabilities that a walk along the graph meets each target before it ends.

    Each walk that meets a target visits it as often as one that starts there.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n, n)
        Weights of the edges; each row has one at least.
    targets : int array of shape (n_targets,)
    goes_on : float
        Probability, a step, that the walk goes on, less than 1.

    Returns
    -------
    probabilities : float array of shape (n, n_targets)
        From each row; 1 from the target itself.
    """
    visits = visit_densities(graph, targets, goes_on)
    visits /= visits[targets].diagonal()
    return visits.clip(0, 1, out=visits)


def visit_densities(
    graph: sparse.csr_matrix, targets: np.ndarray, goes_on: float
) -> np.ndarray:
    """Expected visits of walks from each row to each target, for the target's weight.

    They are divided by the sum of the weights of its edges, and so are the same from
    the target to the row. The parameters are those of `meeting_probabilities`.
    """
    n = graph.shape[0]
    root = np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    scale = sparse.diags(1 / root)
    # Expected visits are D^-1/2 (1 - W)^-1 D^1/2 with this W.
    walk = (goes_on * (scale @ graph @ scale)).tocsr()

    def densities(some: np.ndarray) -> np.ndarray:
        units = np.zeros((n, len(some)))
        units[some, np.arange(len(some))] = 1.0
        return _solved(walk, units) / np.outer(root, root[some])

    parts = np.array_split(targets, max(1, math.ceil(len(targets) / _N_SOLVED)))
    return np.concatenate(parallel_map(densities, parts), axis=1)


def _solved(walk: sparse.csr_matrix, columns: np.ndarray) -> np.ndarray:
    """Solve (1 - walk) x = columns, a positive definite system.

    In float32, and again for what that leaves, until this is hardly anything.
    """
    shape = columns.shape
    multiply = product(walk)

    def staying(x: np.ndarray) -> np.ndarray:
        x = x.reshape(shape)
        return (x - multiply(x)).ravel()

    system = LinearOperator((columns.size,) * 2, matvec=staying, dtype=np.float32)
    solution, left = np.zeros(shape), columns
    enough = _LEFT * np.linalg.norm(columns)
    for _ in range(_N_SOLUTIONS):
        norm = np.linalg.norm(left)
        if norm <= enough:
            break
        scaled = (left / norm).astype(np.float32).ravel()
        more, _ = cg(system, scaled, maxiter=_N_STEPS, atol=0.0)
        solution += norm * more.reshape(shape)
        left = columns - solution + walk @ solution
    return solution


def product(matrix: sparse.csr_matrix) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from float32 columns to their product with a matrix.

    Ten columns took 0.4 times as long as in scipy, with whose product two threads were
    no faster than one.
    """
    ends, places = torch.from_numpy(matrix.indptr), torch.from_numpy(matrix.indices)
    weights = torch.from_numpy(matrix.data.astype(np.float32, copy=False))

    def multiply(columns: np.ndarray) -> np.ndarray:
        # Source of the matrix are bags: each sums some rows of the columns, weighted.
        return embedding_bag(
            places,
            torch.from_numpy(columns),
            ends,
            mode="sum",
            per_sample_weights=weights,
            include_last_offset=True,
        ).numpy()

    return multiply
