"""What neighbors tell of classes, against dense formulas of numpy."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import brentq
from sklearn.datasets import (
    load_digits,
    make_blobs,
    make_classification,
    make_moons,
)
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from examples.benchmarks.tables import waves
from pnl_sklearn.graph import _stack
from pnl_sklearn.graph._neighbors import neighbor_graph
from pnl_sklearn.graph._stack import _moved, label_posterior, spread_out
from pnl_sklearn.graph._visits import visit_densities
from pnl_sklearn.graph._walks import Walks
from pnl_sklearn.model_selection import hide_labels


def beliefs(X, codes, n_classes, prior=None, odds=1.0):
    graph = neighbor_graph(X, 10, weighted=True)
    return label_posterior(graph, codes, n_classes, prior, odds)


def dense_graph(X, k):
    """Weights exp(-d^2 / (s t)) between near neighbors, row by row."""
    rows = StandardScaler().fit_transform(X.astype(np.float32))
    distances, places = NearestNeighbors(n_neighbors=k).fit(rows).kneighbors()
    graph = np.zeros((len(X), len(X)))
    for i in range(len(X)):
        for d, j in zip(distances[i], places[i], strict=True):
            weight = np.exp(-(d**2) / (distances[i, -1] * distances[j, -1]))
            graph[i, j] += weight
            graph[j, i] += weight
    return graph


def balanced(ratios, power, prior):
    """Factors of two classes with which rows with these ratios have the prior, nearly.

    Class k lacks a tenth of its share for each unit of its log factor. What both lack
    sums to 0, so the log factors are -u / prior[0] and u / prior[1].
    """

    def lack(u):
        gap = u / prior[0] / prior[1]
        mean = np.mean(1 / (1 + ratios**-power * np.exp(-gap)))
        return mean - prior[1] + 0.1 * u

    u = brentq(lack, -5, 5)
    return np.exp([-u / prior[0], u / prior[1]])


def by_walks(step, codes, kept, prior, odds):
    """Average over walks and powers, weighted by all labels, by those that are kept."""
    labeled = np.flatnonzero(codes >= 0)
    total, weights = 0, 0
    for goes_on in (0.8, 0.9, 0.99):
        visits = np.linalg.inv(np.eye(len(codes)) - goes_on * step)
        meets = visits / visits.diagonal()

        def shares(by, meets=meets):
            of_class = [[j for j in by if codes[j] == k] for k in (0, 1)]
            return np.stack([meets[:, of].mean(axis=1) for of in of_class], axis=1)

        for power in (0, 0.5, 1, 2, 3, 5):

            def factors(by, with_prior, shares=shares, power=power):
                s = shares(by)
                return balanced(s[:, 1] / s[:, 0], power, prior) if with_prior else 1

            for with_prior in [False] + [True] * (prior is not None):
                likelihood = odds if with_prior else 1
                for i in labeled:
                    raised = shares([j for j in labeled if j != i])[i] ** power
                    raised *= factors(labeled, with_prior)
                    likelihood *= raised[codes[i]] / raised.sum()
                rows = shares(kept) ** power * factors(kept, with_prior)
                total = total + likelihood * rows / rows.sum(axis=1, keepdims=True)
                weights += likelihood
    return total / weights


@pytest.mark.parametrize("goes_on", [0.8, 0.999])
def test_visits_of_many_targets_are_those_of_a_dense_system(goes_on):
    """In two parts that no walk joins; more targets than are solved for at once."""
    X, part = make_blobs(200, centers=[[0, 0], [99, 0]], random_state=0)
    graph = dense_graph(X, 10)
    weights = graph.sum(axis=1)
    targets = np.random.default_rng(0).permutation(200)[:40]
    found = visit_densities(sparse.csr_matrix(graph), targets, goes_on)
    visits = np.linalg.inv(np.eye(200) - goes_on * graph / weights[:, None])
    expected = (visits / weights)[:, targets]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert not found[part[:, None] != part[targets]].any()
    assert visit_densities(sparse.csr_matrix(graph), targets[:0], 0.9).shape == (200, 0)


def nearest(step, codes, kept, goes_on):
    """Class, one-hot, whose labels send most walks to a row, of as many for each."""
    arrive = np.linalg.inv(np.eye(len(codes)) - goes_on * step)
    sent = [arrive[[j for j in kept if codes[j] == k]].mean(axis=0) for k in (0, 1)]
    return np.eye(2)[np.argmax(sent, axis=0)]


def moved(beliefs, step, codes, shares, n_steps):
    """Boundaries of two classes after twenty turns, and a last of three steps.

    More turns than are needed change nothing.
    """
    for n in [n_steps] * 20 + [3] * (n_steps > 3):
        of_class = np.where(codes >= 0, codes, beliefs.argmax(axis=1))
        arrived = np.eye(2)[beliefs.argmax(axis=1)]
        for _ in range(n):
            arrived = step @ np.where(codes[:, None] >= 0, np.eye(2)[of_class], arrived)
        arrived += 1e-12
        beliefs = arrived * balanced(arrived[:, 1] / arrived[:, 0], 1, shares)
        beliefs /= beliefs.sum(axis=1, keepdims=True)
    return 0.999 * beliefs + 0.001 * shares


@pytest.mark.parametrize("n_steps", [1, 3, 10])
def test_moved_boundaries_are_those_of_dense_formulas(n_steps):
    X, truth = make_moons((90, 30), noise=0.2, random_state=1)
    codes = hide_labels(truth, 10, random_state=0)
    graph = dense_graph(X, 10)
    step = graph / graph.sum(axis=1, keepdims=True)
    start = np.random.default_rng(0).dirichlet([1, 1], size=len(X))
    shares = np.array([0.7, 0.3])
    found = _moved(start, sparse.csr_matrix(step), codes, shares, n_steps)
    expected = moved(start, step, codes, shares, n_steps)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert not np.allclose(found.mean(axis=0), start.mean(axis=0), atol=0.1)


def walks_to(graph, codes):
    labeled = np.flatnonzero(codes >= 0)
    members = codes[labeled][:, None] == np.arange(codes.max() + 1)
    return Walks(sparse.csr_matrix(graph), labeled, members, None, 1.0)


def test_walks_without_an_end_are_poisson_learning():
    """Whose potentials are of the graph's Laplacian, with sources at the labels."""
    X, truth = make_moons((150, 30), noise=0.15, random_state=0)
    codes = hide_labels(truth, 6, random_state=0)
    graph = dense_graph(X, 10)
    sources = np.eye(2)[codes] * (codes >= 0)[:, None]
    sources -= (codes >= 0)[:, None] * sources.sum(axis=0) / sources.sum()
    laplacian = np.diag(graph.sum(axis=1)) - graph
    potentials = np.linalg.lstsq(laplacian, sources, rcond=None)[0]
    *_, found = walks_to(graph, codes).nearest(np.ones(6, dtype=bool))
    taken = found.argmax(axis=1)
    assert (taken == potentials.argmax(axis=1)).mean() > 0.98
    assert (taken == truth).mean() > 0.9


def test_most_walks_come_from_the_own_class_whatever_its_size():
    """Labels of the rare class are met more often, from rows of the other, too."""
    wrong = []
    for draw in range(4):
        X, truth = make_blobs([1500, 150], centers=[[0, 0], [7, 0]], random_state=draw)
        codes = hide_labels(truth, 4, random_state=draw)
        walks = walks_to(neighbor_graph(X, 10, weighted=True), codes)
        all_of_them = np.ones(4, dtype=bool)
        found = [walks.beliefs(all_of_them), *walks.nearest(all_of_them)]
        wrong.append([(b.argmax(axis=1) != truth).mean() for b in found])
    by_walks, by_100, by_1000 = np.mean(wrong, axis=0)
    assert max(by_100, by_1000) < 0.7 * by_walks


def test_rows_that_no_walk_comes_to_are_of_all_classes_alike():
    X, truth = make_blobs(60, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    codes = np.where(truth < 2, hide_labels(truth, 30, random_state=0), -1)
    for found in walks_to(dense_graph(X, 5), codes).nearest(codes[codes >= 0] >= 0):
        np.testing.assert_array_equal(found[truth == 2], 0.5)
        np.testing.assert_array_equal(found[truth < 2], np.eye(2)[truth[truth < 2]])


def test_all_labels_are_handed_on_but_a_single_one_is_not_told(monkeypatch):
    """Walks lead to some of the labels, which are told where their class has others."""
    X, truth = make_blobs(60, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    codes = hide_labels(truth, 30, random_state=0)
    codes[np.flatnonzero(codes == 2)[1:]] = -1
    monkeypatch.setattr(_stack, "_N_LABELED", 8)
    known = []

    def spy(beliefs, step, codes, shares, n_steps):
        known.append(codes)
        return _moved(beliefs, step, codes, shares, n_steps)

    monkeypatch.setattr(_stack, "_moved", spy)
    assert (beliefs(X, codes, 3).argmax(axis=1) == truth).all()
    labeled = np.flatnonzero(codes >= 0)
    used = spread_out(labeled, codes[labeled], 8)
    assert len(used) < len(labeled)
    left_out = [np.flatnonzero((codes >= 0) & (k < 0)) for k in known[::6]]
    assert len(left_out[-1]) == 0
    told = np.concatenate(left_out)
    np.testing.assert_array_equal(np.sort(told), np.sort(used[codes[used] < 2]))


@pytest.mark.parametrize(
    ("prior", "odds"), [(None, 1), ([0.5, 0.5], 1), ([0.8, 0.2], 0.1), ([0.5, 0.5], 0)]
)
def test_beliefs_are_averages_over_walks_and_boundaries(prior, odds):
    X, truth = make_moons((90, 30), noise=0.2, random_state=1)
    codes = hide_labels(truth, 10, random_state=0)
    graph = dense_graph(X, 10)
    step = graph / graph.sum(axis=1, keepdims=True)
    labeled = np.flatnonzero(codes >= 0)
    prior = np.array(prior) if prior is not None and odds else None

    def candidates(kept):
        walked = by_walks(step, codes, kept, prior, odds)
        known = np.full(len(codes), -1)
        known[kept] = codes[kept]
        found = [(1, 0.999 * walked + 0.001 * walked.mean(axis=0))]
        for goes_on in (0.99, 0.999):
            start = nearest(step, codes, kept, goes_on)
            for n in (1, 3, 10):
                found.append((1, moved(start, step, known, start.mean(axis=0), n)))
                if prior is not None:
                    found.append((odds, moved(start, step, known, prior, n)))
        return found

    by_class = [[i for i in labeled if codes[i] == k] for k in (0, 1)]
    likelihoods = 1
    for fold in range(5):
        told = [i for of in by_class for place, i in enumerate(of) if place % 5 == fold]
        if told:
            kept = np.array([i for i in labeled if i not in told])
            told_by = [
                (0.95 * b[told, codes[told]] + 0.05 / 2).prod()
                for _, b in candidates(kept)
            ]
            likelihoods = likelihoods * np.array(told_by)
    chances, rows = zip(*candidates(labeled), strict=True)
    chances, rows = np.array(chances, float), np.array(rows)
    # Walks have no boundaries that were moved; one row's steps are no matter.
    classes = rows[1:].argmax(axis=2)
    differ = classes[:, :, None] != classes[:, None, :]
    crossed = (step * differ).sum(axis=(1, 2)) + 1
    chances[1:] *= (crossed.min() / crossed) ** 3
    weights = likelihoods * chances
    expected = np.tensordot(weights / weights.sum(), rows, axes=1)
    found = beliefs(X, codes, 2, prior, odds)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(("frequency", "bounds"), [(1, (0.4, 0.8)), (10, (0.9, 1.1))])
def test_the_prior_helps_where_it_holds_and_does_no_harm_elsewhere(frequency, bounds):
    """On digits, all of them, or with a tenth of those from 5 on."""
    X, truth = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    rare = np.flatnonzero(truth > 4)
    kept = np.concatenate([np.flatnonzero(truth < 5), rare[::frequency]])
    X, truth = X[kept], truth[kept]
    errors = []
    for draw in range(6):
        rng = np.random.default_rng(draw)
        codes = np.full(len(truth), -1)
        for k in range(10):
            codes[rng.choice(np.flatnonzero(truth == k), 2, replace=False)] = k
        found = [beliefs(X, codes, 10, p) for p in (None, np.full(10, 0.1))]
        wrong = [(b.argmax(axis=1) != truth)[codes < 0].mean() for b in found]
        errors.append(wrong)
    without, with_prior = np.mean(errors, axis=0)
    assert bounds[0] < with_prior / without < bounds[1]


def test_shares_that_would_cut_clusters_are_hardly_believed():
    """A loss 1.4 times as high if only labels told, of which classes have as many."""
    losses = []
    for draw in range(4):
        rng = np.random.default_rng(draw)
        X, truth = make_blobs(
            [200, 200, 200, 20, 20],
            centers=rng.normal(scale=3, size=(5, 10)),
            cluster_std=1.7,
            random_state=draw,
        )
        codes = np.full(len(truth), -1)
        for k in range(5):
            codes[rng.choice(np.flatnonzero(truth == k), 2, replace=False)] = k
        found = [
            beliefs(X.astype(np.float32), codes, 5, prior)
            for prior in (None, np.full(5, 0.2))
        ]
        told = [b[codes < 0, truth[codes < 0]] for b in found]
        losses.append([-np.log(b).mean() for b in told])
    without, with_prior = np.mean(losses, axis=0)
    assert with_prior < 1.2 * without


def test_two_classes_of_unequal_frequency_are_left_to_the_labels():
    """As the automatic prior leaves them; one that is known helps."""
    errors = []
    for draw in range(8):
        X, truth = make_classification(
            1000, 6, weights=[0.9], flip_y=0, class_sep=1.5, random_state=draw
        )
        codes = np.full(1000, -1)
        rng = np.random.default_rng(draw)
        for k in (0, 1):
            codes[rng.choice(np.flatnonzero(truth == k), 5, replace=False)] = k
        found = [
            beliefs(X.astype(np.float32), codes, 2, prior, odds)
            for prior, odds in [
                (None, 1),
                (np.array([0.5, 0.5]), 1 / 81),
                (np.array([0.9, 0.1]), 1),
            ]
        ]
        errors.append([(b.argmax(axis=1) != truth)[codes < 0].mean() for b in found])
    without, automatic, known = np.mean(errors, axis=0)
    assert automatic < 1.05 * without
    assert known < 0.8 * without


def clusters(draw):
    return make_classification(
        1000,
        20,
        n_informative=10,
        n_redundant=5,
        n_classes=5,
        n_clusters_per_class=1,
        class_sep=1.5,
        flip_y=0,
        random_state=draw,
    )


@pytest.mark.parametrize(
    ("make", "bounds"),
    [
        (clusters, (0.3, 0.8)),
        (lambda draw: waves(1000, np.random.default_rng(draw)), (0.9, 1.1)),
    ],
)
def test_boundaries_move_unless_labels_speak_against_it(monkeypatch, make, bounds):
    """In waves classes are not regions with gaps: 1.2 if they moved all the same."""
    errors = []
    for draw in range(4):
        X, truth = make(draw)
        n_classes = truth.max() + 1
        codes = hide_labels(truth, 5 * n_classes, random_state=draw)
        prior = np.full(n_classes, 1 / n_classes)
        wrong = []
        for n_moved in (0, 5000):
            monkeypatch.setattr(_stack, "_N_MOVED", n_moved)
            found = beliefs(X.astype(np.float32), codes, n_classes, prior, 0.1)
            wrong.append((found.argmax(axis=1) != truth)[codes < 0].mean())
        errors.append(wrong)
    left, moved = np.mean(errors, axis=0)
    assert bounds[0] < moved / left < bounds[1]


def test_labels_of_many_rows_are_told_in_two_parts(monkeypatch):
    X, truth = make_blobs(150, centers=[[0, 0], [3, 0], [0, 3]], random_state=0)
    codes = hide_labels(truth, 15, random_state=0)
    found = []
    for n_folds, n_in_folds in [(5, 450), (2, 450), (5, 449)]:
        monkeypatch.setattr(_stack, "_N_FOLDS", n_folds)
        monkeypatch.setattr(_stack, "_N_IN_FOLDS", n_in_folds)
        found.append(beliefs(X, codes, 3))
    in_five, in_two, of_many = found
    assert not np.array_equal(in_five, in_two)
    np.testing.assert_array_equal(of_many, in_two)


def test_beliefs_are_as_sure_as_they_are_right():
    X, truth = make_blobs(400, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    codes = hide_labels(truth, 12, random_state=0)
    found = beliefs(X, codes, 3)
    assert (found.argmax(axis=1) == truth).all()
    assert found.max(axis=1).mean() > 0.95
    random = codes.copy()
    random[codes >= 0] = np.random.default_rng(0).permutation(codes[codes >= 0])
    assert beliefs(X, random, 3).max(axis=1).mean() < 0.5


def test_where_labels_cannot_be_compared_nothing_is_believed():
    X, truth = make_blobs(60, centers=[[0, 0], [9, 0]], random_state=0)
    assert beliefs(X, hide_labels(truth, 2, random_state=0), 2) is None
    assert beliefs(X, hide_labels(truth, 4, random_state=0), 2) is not None


def test_of_a_class_without_labels_nothing_is_known():
    X, truth = make_blobs(600, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    codes = hide_labels(np.where(truth < 2, truth, -1), 10, random_state=0)
    found = beliefs(X, codes, 3)
    assert found[truth == 2, 2].mean() > 0.2
    assert (found[truth < 2].argmax(axis=1) == truth[truth < 2]).all()
    # Whatever its share in the prior, which no label of its own can defend.
    prior = np.array([0.5, 0.5, 0.0])
    np.testing.assert_array_equal(beliefs(X, codes, 3, prior), found)


def test_many_labels_are_spread_out():
    labels = np.repeat([1, 0], [300, 100])
    used = labels[spread_out(np.arange(400), labels, 40)]
    # Three each, and 34 others of 97 and 297.
    assert used.tolist() == [0] * (3 + 8) + [1] * (3 + 25)
    assert sorted(spread_out(np.arange(400), labels, 500)) == list(range(400))


@pytest.mark.parametrize("n_rare", [1, 3, 10])
def test_rare_classes_keep_labels(n_rare):
    labels = np.repeat([0, 1, 2], [990, n_rare, 980])
    used = labels[spread_out(np.arange(len(labels)), labels, 100)]
    counts = np.bincount(used)
    assert counts[1] == min(n_rare, 3)
    assert 95 <= len(used) <= 100
    assert counts[0] - counts[2] in (0, 1)


def test_of_many_classes_each_keeps_labels_to_compare():
    centers = [[9 * (k % 7), 9 * (k // 7)] for k in range(42)]
    X, truth = make_blobs(420, centers=centers, random_state=0)
    found = beliefs(X, hide_labels(truth, 210, random_state=0), 42)
    assert (found.argmax(axis=1) == truth).mean() > 0.95
