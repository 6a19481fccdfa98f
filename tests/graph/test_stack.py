"""The graph posterior: what a user can rely on, and how candidates are weighted."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import (
    load_digits,
    make_blobs,
    make_classification,
    make_moons,
)
from sklearn.preprocessing import StandardScaler

from pnl_sklearn.graph import _stack
from pnl_sklearn.graph._stack import candidates
from pnl_sklearn.model_selection import hide_labels


def label_posterior(*args):
    """Probabilities without the predictions of held-out labels, or None."""
    found = _stack.label_posterior(*args)
    return None if found is None else found[0]


def few_labels(truth, n_each, seed):
    """As many labels of each class, whatever its frequency."""
    rng = np.random.default_rng(seed)
    labels = np.full(len(truth), -1)
    for k in np.unique(truth):
        labels[rng.choice(np.flatnonzero(truth == k), n_each, replace=False)] = k
    return labels


def error_of(probabilities, truth, labels):
    return (probabilities.argmax(axis=1) != truth)[labels < 0].mean()


@pytest.mark.parametrize(
    ("prior", "odds"), [(None, 1), ([0.5, 0.5], 1), ([0.8, 0.2], 0.1), ([0.5, 0.5], 0)]
)
def test_the_posterior_averages_by_held_out_likelihood(knn_graph, prior, odds):
    X, truth = make_moons((90, 30), noise=0.2, random_state=1)
    labels, graph = hide_labels(truth, 10, random_state=0), knn_graph(X)
    used = np.array(prior) if prior is not None and odds else None
    log_weights = np.array(
        [
            np.log(odds) if uses else 0.0
            for uses, _ in candidates(graph, labels, 2, used)
        ]
    )
    by_class = [np.flatnonzero(labels == k) for k in (0, 1)]
    for fold in range(5):
        held_out = np.concatenate([of[fold::5] for of in by_class])
        known = labels.copy()
        known[held_out] = -1
        for i, (_, p) in enumerate(candidates(graph, known, 2, used)):
            log_weights[i] += np.log(0.95 * p[held_out, labels[held_out]] + 0.025).sum()
    found = [p for _, p in candidates(graph, labels, 2, used)]
    expected = 0.999 * np.tensordot(softmax(log_weights), found, axes=1) + 0.0005
    prior = None if prior is None else np.array(prior)
    posterior = label_posterior(graph, labels, 2, prior, odds)
    assert posterior.dtype == np.float32
    np.testing.assert_allclose(posterior, expected, atol=1e-5)


def test_a_single_label_of_a_class_is_never_held_out(monkeypatch, knn_graph):
    X, truth = make_blobs(60, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    labels = hide_labels(truth, 30, random_state=0)
    labels[np.flatnonzero(labels == 2)[1:]] = -1
    seen = []

    def spy(graph, labels, *rest):
        seen.append(labels.copy())
        return candidates(graph, labels, *rest)

    monkeypatch.setattr("pnl_sklearn.graph._stack.candidates", spy)
    found = label_posterior(knn_graph(X, 5), labels, 3)
    assert (found.argmax(axis=1) == truth).all()
    held_out = [np.flatnonzero((labels >= 0) & (known < 0)) for known in seen]
    # Each other label once, and none in the final fit.
    expected = np.flatnonzero((labels == 0) | (labels == 1))
    np.testing.assert_array_equal(np.sort(np.concatenate(held_out)), expected)
    assert not len(held_out[-1])


def test_without_two_labels_of_a_class_there_is_no_posterior(knn_graph):
    X, truth = make_blobs(60, centers=[[0, 0], [9, 0]], random_state=0)
    graph = knn_graph(X)
    assert label_posterior(graph, hide_labels(truth, 2, random_state=0), 2) is None
    assert label_posterior(graph, np.full(60, -1), 2) is None
    labels = hide_labels(truth, 4, random_state=0)
    before = labels.copy()
    assert label_posterior(graph, labels, 2).shape == (60, 2)
    np.testing.assert_array_equal(labels, before)


def test_the_posterior_is_as_confident_as_it_is_right(knn_graph):
    X, truth = make_blobs(400, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    labels, graph = hide_labels(truth, 12, random_state=0), knn_graph(X)
    found = label_posterior(graph, labels, 3)
    assert (found.argmax(axis=1) == truth).all()
    assert found.max(axis=1).mean() > 0.95
    shuffled = labels.copy()
    known = labels >= 0
    shuffled[known] = np.random.default_rng(0).permutation(labels[known])
    assert label_posterior(graph, shuffled, 3).max(axis=1).mean() < 0.65


@pytest.mark.parametrize(("frequency", "bounds"), [(1, (0.4, 0.9)), (10, (0.9, 1.15))])
def test_a_prior_helps_if_it_holds_and_does_no_harm_elsewhere(
    knn_graph, frequency, bounds
):
    """On digits, all of them, or with a tenth of those from 5 on."""
    X, truth = load_digits(return_X_y=True)
    rare = np.flatnonzero(truth > 4)
    kept = np.concatenate([np.flatnonzero(truth < 5), rare[::frequency]])
    X, truth = X[kept], truth[kept]
    graph, errors = knn_graph(X), []
    for seed in range(6):
        labels = few_labels(truth, 2, seed)
        found = [
            label_posterior(graph, labels, 10, prior)
            for prior in (None, np.full(10, 0.1))
        ]
        errors.append([error_of(p, truth, labels) for p in found])
    without, with_prior = np.mean(errors, axis=0)
    assert bounds[0] < with_prior / without < bounds[1]


def test_a_prior_that_would_cut_clusters_has_little_weight(knn_graph):
    losses = []
    for seed in range(4):
        X, truth = make_blobs(
            [200, 200, 200, 20, 20],
            centers=np.random.default_rng(seed).normal(scale=3, size=(5, 10)),
            cluster_std=1.7,
            random_state=seed,
        )
        labels, graph = few_labels(truth, 2, seed), knn_graph(X)
        found = [
            label_posterior(graph, labels, 5, prior)
            for prior in (None, np.full(5, 0.2))
        ]
        unlabeled = labels < 0
        chosen = [p[unlabeled, truth[unlabeled]] for p in found]
        losses.append([-np.log(p).mean() for p in chosen])
    without, with_prior = np.mean(losses, axis=0)
    assert with_prior < 1.5 * without


def test_two_classes_of_unequal_frequency(knn_graph):
    """A guessed prior of low odds does no harm; one that is known helps."""
    errors = []
    for seed in range(6):
        X, truth = make_classification(
            1000, 6, weights=[0.9], flip_y=0, class_sep=1.5, random_state=seed
        )
        labels = few_labels(truth, 5, seed)
        graph = knn_graph(StandardScaler().fit_transform(X))
        found = [
            label_posterior(graph, labels, 2, prior, odds)
            for prior, odds in [
                (None, 1),
                (np.array([0.5, 0.5]), 1 / 81),
                (np.array([0.9, 0.1]), 1),
            ]
        ]
        errors.append([error_of(p, truth, labels) for p in found])
    without, automatic, known = np.mean(errors, axis=0)
    assert automatic < 1.05 * without
    assert known < 0.8 * without


def test_a_very_unequal_prior_is_finite(knn_graph):
    X, truth = make_moons(300, noise=0.15, random_state=0)
    labels = hide_labels(truth, 10, random_state=0)
    graph = knn_graph(X)
    for prior in ([0.999, 0.001], [1.0, 0.0]):
        found = label_posterior(graph, labels, 2, np.array(prior))
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
        assert (found > 0).all()


def test_a_class_without_labels_has_the_mean_score_of_the_others(knn_graph):
    X, truth = make_blobs(600, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    labels = hide_labels(np.where(truth < 2, truth, -1), 10, random_state=0)
    graph = knn_graph(X)
    found = label_posterior(graph, labels, 3)
    assert found[truth == 2, 2].mean() > 0.2
    assert (found[truth < 2].argmax(axis=1) == truth[truth < 2]).all()
    # Whatever its share in the prior, which no label of its own can contradict.
    prior = np.array([0.5, 0.5, 0.0])
    np.testing.assert_array_equal(label_posterior(graph, labels, 3, prior), found)


@pytest.mark.parametrize("prior", [None, [0.5, 0.5], [0.7, 0.3]])
def test_a_component_without_labels_is_about_uniform_or_the_prior(knn_graph, prior):
    X, part = make_blobs(150, centers=[[0, 0], [9, 0], [0, 99]], random_state=0)
    labels = np.where(part < 2, hide_labels(part, 30, random_state=0), -1)
    prior = None if prior is None else np.array(prior)
    found = label_posterior(knn_graph(X, 5), labels, 2, prior)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert (found[part == 2] > 0.2).all()


@pytest.mark.parametrize(("n_classes", "n_each"), [(26, 2), (42, 5)])
def test_many_classes(knn_graph, n_classes, n_each):
    centers = [[9 * (k % 7), 9 * (k // 7)] for k in range(n_classes)]
    X, truth = make_blobs(20 * n_classes, centers=centers, random_state=0)
    labels = few_labels(truth, n_each, seed=0)
    prior = np.full(n_classes, 1 / n_classes)
    found = label_posterior(knn_graph(X), labels, n_classes, prior)
    assert (found.argmax(axis=1) == truth).mean() > 0.95
