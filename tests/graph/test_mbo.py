"""Poisson learning and MBO against dense formulas."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import make_blobs, make_moons

from pnl_sklearn.graph._mbo import poisson_learning, volume_constrained_mbo
from pnl_sklearn.model_selection import hide_labels


def unequal_moons(knn_graph, noise=0.15):
    X, truth = make_moons((150, 30), noise=noise, random_state=0)
    labels = hide_labels(truth, 8, random_state=0)
    # So that classes have unequal numbers of labels.
    labels[np.flatnonzero(labels == 1)[0]] = -1
    return knn_graph(X), truth, labels


def test_poisson_learning_solves_the_poisson_equation(knn_graph, one_hot):
    graph, truth, labels = unequal_moons(knn_graph)
    dense = graph.toarray()
    laplacian = np.diag(dense.sum(axis=1)) - dense
    labeled = labels >= 0
    share = one_hot(labels, 2)[labeled].mean(axis=0)
    assert share[0] != share[1]
    sources = labeled[:, None] * (one_hot(labels, 2) - share)
    expected = np.linalg.lstsq(laplacian, sources, rcond=None)[0] / share
    found = poisson_learning(graph, one_hot(labels, 2), alpha=1 - 1e-7, tol=1e-10)
    # Potentials are known up to a constant.
    found, expected = (u - u.mean(axis=0) for u in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert (found.argmax(axis=1) == truth).mean() > 0.8


def test_regularized_poisson_learning_solves_its_dense_system(knn_graph, one_hot):
    graph, _, labels = unequal_moons(knn_graph)
    dense = graph.toarray()
    degrees = np.diag(dense.sum(axis=1))
    share = one_hot(labels, 2)[labels >= 0].mean(axis=0)
    sources = (labels >= 0)[:, None] * (one_hot(labels, 2) - share) / share
    system = degrees - dense + (1 / 0.99 - 1) * degrees
    found = poisson_learning(graph, one_hot(labels, 2), alpha=0.99, tol=1e-9)
    np.testing.assert_allclose(found, np.linalg.solve(system, sources), atol=1e-5)


def test_poisson_learning_agrees_with_graphlearning(knn_graph, one_hot):
    graphlearning = pytest.importorskip("graphlearning")
    graph, _, labels = unequal_moons(knn_graph)
    peer = graphlearning.ssl.poisson(graph, solver="conjugate_gradient")
    known = np.flatnonzero(labels >= 0)
    peer.fit(known, labels[known])
    found = poisson_learning(graph, one_hot(labels, 2), alpha=0.9999)
    assert (found.argmax(axis=1) == peer.predict()).mean() > 0.97


def dense_mbo(start, step, labels, volumes, n_steps):
    """Two classes; the factors of exact balance are found by bisection."""
    classes = start.argmax(axis=1)
    for _ in range(30):
        mass = np.eye(2)[classes]
        for _ in range(n_steps):
            mass = step @ np.where(labels[:, None] >= 0, np.eye(2)[labels], mass)
        mass += 1e-12
        low, high = -30.0, 30.0
        for _ in range(100):
            gap = (low + high) / 2
            p = mass * np.exp([0, gap])
            p /= p.sum(axis=1, keepdims=True)
            lack = np.log(volumes / p.mean(axis=0)) / 0.1
            too_little = lack[1] - lack[0] > gap
            low, high = (gap, high) if too_little else (low, gap)
        classes = p.argmax(axis=1)
    return p


@pytest.mark.parametrize("n_steps", [1, 3])
def test_mbo_equals_dense_formulas(knn_graph, one_hot, n_steps):
    graph, _, labels = unequal_moons(knn_graph, noise=0.2)
    step = graph.toarray() / graph.toarray().sum(axis=1, keepdims=True)
    start = np.random.default_rng(0).dirichlet([1, 1], size=len(labels))
    volumes = np.array([0.7, 0.3])
    expected = dense_mbo(start, step, labels, volumes, n_steps)
    found = volume_constrained_mbo(
        graph, one_hot(labels, 2), start, volumes, n_steps, max_iter=30, tol=0
    )
    agree = found.argmax(axis=1) == expected.argmax(axis=1)
    assert agree.mean() > 0.97
    assert abs(found - expected).mean() < 0.02


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_classes_have_about_the_given_volumes(knn_graph, one_hot, share):
    """A continuum of samples, that can be cut anywhere."""
    X = np.random.default_rng(0).random((600, 2)) * [6, 1]
    labels = np.full(600, -1)
    labels[X[:, 0].argmin()], labels[X[:, 0].argmax()] = 0, 1
    known, graph = one_hot(labels, 2), knn_graph(X)
    start = poisson_learning(graph, known)
    volumes = np.array([share, 1 - share])
    found = volume_constrained_mbo(graph, known, start, volumes, 3, max_iter=100)
    sizes = np.bincount(found.argmax(axis=1)) / 600
    np.testing.assert_allclose(sizes, volumes, atol=0.06)


def test_samples_that_no_label_reaches_are_of_no_class(knn_graph, one_hot):
    X, part = make_blobs(90, centers=[[0, 0], [9, 0], [0, 99]], random_state=0)
    labels = np.where(part < 2, hide_labels(part, 30, random_state=0), -1)
    graph, known = knn_graph(X, 5), one_hot(labels, 2)
    start = poisson_learning(graph, known)
    assert not start[part == 2].any()
    found = volume_constrained_mbo(graph, known, start, np.array([0.5, 0.5]))
    np.testing.assert_allclose(found[part == 2], 0.5, atol=0.02)
    assert (found.argmax(axis=1) == part)[part < 2].all()


def test_few_reached_samples_are_no_convergence(one_hot):
    """The only labels are in a component of four samples of 10,000."""
    ring = sparse.diags([1.0, 1.0], [1, -1], shape=(9996, 9996)).tocsr()
    pairs = np.kron(np.eye(2), [[0, 1], [1, 0]])
    graph = sparse.block_diag([ring, pairs]).tocsr()
    labels = np.full(10_000, -1)
    labels[[-4, -1]] = 0, 1
    known = one_hot(labels, 2)
    start = poisson_learning(graph, known)
    found = volume_constrained_mbo(graph, known, start, np.array([0.5, 0.5]))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[-4:].argmax(axis=1).tolist() == [0, 0, 1, 1]
