"""Label spreading against scikit-learn and dense solutions."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.datasets import make_blobs, make_moons
from sklearn.semi_supervised import LabelSpreading

from pnl_sklearn.graph._label_spreading import (
    class_mass_normalization,
    hitting_probabilities,
    label_spreading,
    normalized,
)
from pnl_sklearn.model_selection import hide_labels


def half_blobs(knn_graph):
    """Two components of 100 samples."""
    X, part = make_blobs(200, centers=[[0, 0], [99, 0]], random_state=0)
    return knn_graph(X), part


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99])
def test_label_spreading_equals_that_of_scikit_learn(knn_graph, one_hot, alpha):
    X, truth = make_moons(150, noise=0.15, random_state=0)
    labels = hide_labels(truth, 8, random_state=0)
    graph = knn_graph(X)
    peer = LabelSpreading(
        kernel=lambda *_: graph.toarray(), alpha=alpha, max_iter=10_000, tol=1e-12
    ).fit(X, labels)
    found = normalized(label_spreading(graph, one_hot(labels, 2), alpha, 1e-10))
    np.testing.assert_allclose(found, peer.label_distributions_, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [0.8, 0.999])
def test_label_spreading_solves_the_dense_system(knn_graph, alpha, dtype):
    graph, part = half_blobs(knn_graph)
    degrees = graph.toarray().sum(axis=1)
    S = graph.toarray() / np.sqrt(np.outer(degrees, degrees))
    sources = np.random.default_rng(0).normal(size=(200, 3)).astype(dtype)
    expected = (1 - alpha) * np.linalg.solve(np.eye(200) - alpha * S, sources)
    found = label_spreading(graph, sources, alpha)
    assert found.dtype == dtype
    error = np.linalg.norm(found - expected, axis=0)
    assert (error < 5e-6 * np.linalg.norm(expected, axis=0)).all()
    # Exactly zero where no label is in the component.
    sources[part == 1] = 0
    assert not label_spreading(graph, sources, alpha)[part == 1].any()


def test_columns_do_not_depend_on_each_other(knn_graph):
    graph, _ = half_blobs(knn_graph)
    sources = np.eye(200)[:, :5]
    together = label_spreading(graph, sources, 0.9)
    alone = label_spreading(graph, sources[:, 2:3], 0.9)
    np.testing.assert_allclose(together[:, 2:3], alone, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.8, 0.99])
def test_hitting_probabilities_equal_those_of_absorbing_walks(knn_graph, alpha):
    """Of walks that are stopped at the target, a system of its own for each."""
    graph, part = half_blobs(knn_graph)
    step = graph.toarray() / graph.toarray().sum(axis=1, keepdims=True)
    targets = np.random.default_rng(0).permutation(200)[:40]
    found = hitting_probabilities(graph, targets, alpha)
    for column, target in zip(found.T, targets, strict=True):
        others = np.delete(np.arange(200), target)
        walk = np.eye(199) - alpha * step[np.ix_(others, others)]
        expected = np.linalg.solve(walk, alpha * step[others, target])
        np.testing.assert_allclose(column[others], expected, rtol=1e-6, atol=1e-9)
        assert column[target] == 1
    assert not found[part[:, None] != part[targets]].any()
    assert hitting_probabilities(graph, targets[:0], 0.9).shape == (200, 0)


@pytest.mark.parametrize("prior", [[0.5, 0.5], [0.8, 0.2]])
@pytest.mark.parametrize("leeway", [0.1, 1.0])
def test_class_mass_normalization_minimizes_its_loss(prior, leeway):
    """Of two classes, the log factors are a and one that follows from it."""
    scores = np.random.default_rng(0).dirichlet([2, 1], size=300)
    prior = np.array(prior)
    found = class_mass_normalization(scores, prior, leeway, n_iter=500)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    log_odds = np.log(found / scores)
    # Only the ratio of the factors can be seen; it is the same for all samples.
    ratio = log_odds[:, 0] - log_odds[:, 1]
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-9)

    def gap(a):
        mean = normalized(scores * np.exp([a, 0])).mean(axis=0)
        wanted = np.log(prior / mean) / leeway
        return (a - wanted[0] + wanted[1]) ** 2

    assert ratio[0] == pytest.approx(
        minimize_scalar(gap, bounds=(-5, 5), method="bounded").x, abs=1e-4
    )


def test_class_mass_normalization_comes_near_the_prior():
    scores = np.random.default_rng(0).dirichlet([2, 1, 1], size=500)
    prior = np.array([0.2, 0.3, 0.5])
    found = class_mass_normalization(scores, prior)
    np.testing.assert_allclose(found.mean(axis=0), prior, atol=0.03)
    exact = class_mass_normalization(scores, prior, leeway=0, n_iter=200)
    np.testing.assert_allclose(exact.mean(axis=0), prior, atol=1e-6)
    # Well separated classes keep their sizes, whatever the prior says.
    sure = np.repeat(np.eye(3), [300, 100, 100], axis=0)
    found = class_mass_normalization(sure, prior)
    np.testing.assert_array_equal(found.argmax(axis=1), sure.argmax(axis=1))
    # A sample that no label reaches gets the factors alone.
    found = class_mass_normalization(np.vstack([scores, np.zeros(3)]), prior)
    assert np.isfinite(found).all()
