"""Alarms about unlabeled rows that may mislead, and the weights that follow."""

import re
import warnings

import numpy as np
import pytest
import sklearn
import torch
from scipy import sparse
from scipy.stats import binomtest
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.model_selection import cross_validate
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import StandardScaler

from pnl_sklearn import PNLClassifier
from pnl_sklearn._batches import ArrayRows, Batches
from pnl_sklearn._pool import meeting_probabilities, warn_of_starved_classes
from pnl_sklearn.inspection import PoolWarning, check_pool
from pnl_sklearn.model_selection import hide_labels

CENTERS = [[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]


def blobs(seed=0, n_known=4):
    """Rows of four classes, of which the first few have labels."""
    X, truth = make_blobs(400, centers=CENTERS, random_state=seed)
    y = np.where(truth < n_known, truth, -1)
    return X, hide_labels(y, 6 * n_known, random_state=seed), truth


def cut_moons(seed):
    """Moons of which each is cut lengthwise into both classes."""
    X, moon = make_moons(600, noise=0.1, random_state=seed)
    centers = np.array([[0, 0], [1, 0.5]])[moon]
    outer = np.linalg.norm(X - centers, axis=1) > 1
    return X, hide_labels(outer.astype(int), 20, random_state=seed)


def test_walks_meet_targets_as_often_as_a_dense_system_says():
    X = np.random.default_rng(0).normal(size=(60, 2))
    graph = kneighbors_graph(X, 5)
    graph = graph.maximum(graph.T)
    graph = graph.toarray()
    step = 0.99 * graph / graph.sum(axis=1, keepdims=True)
    targets = [3, 17]
    found = meeting_probabilities(sparse.csr_matrix(graph), np.array(targets))
    for column, target in enumerate(targets):
        # h = 1 at the target; elsewhere what the next step leads to.
        others = np.delete(np.arange(60), target)
        system = np.eye(59) - step[np.ix_(others, others)]
        expected = np.linalg.solve(system, step[others, target])
        np.testing.assert_allclose(found[others, column], expected, atol=1e-8)
        assert found[target, column] == pytest.approx(1)


def test_the_report_on_rows_against_numpy_and_scipy():
    X, y, _ = blobs(n_known=2)
    with pytest.warns(PoolWarning):
        report = check_pool(X, y, n_neighbors=6)
    rows = StandardScaler().fit_transform(X)
    graph = kneighbors_graph(rows, 6)
    graph = graph.maximum(graph.T).toarray()
    step = 0.99 * graph / graph.sum(axis=1, keepdims=True)
    visits = np.linalg.inv(np.eye(len(X)) - step)
    meets = visits / visits.diagonal()
    np.fill_diagonal(meets, 0)
    labeled = np.flatnonzero(y >= 0)
    novelty = -np.log(meets[:, labeled].max(axis=1).clip(1e-9))
    np.testing.assert_allclose(report.novelty, novelty, atol=1e-5)
    known, unknown = novelty[labeled], novelty[y < 0]
    pvalues = [(1 + np.sum(known >= s - 1e-9)) / (len(known) + 1) for s in novelty]
    np.testing.assert_allclose(report.pvalues, pvalues)
    shares = np.array([np.mean(known >= s - 1e-9) for s in unknown])
    np.testing.assert_allclose(report.weights[y < 0], np.minimum(5 * shares, 1))
    assert (report.weights[labeled] == 1).all()
    # Beyond all of the 12 but one, where 2 of 13 are expected.
    beyond = np.mean(unknown > np.sort(known)[-2] + 1e-9)
    assert report.outside == pytest.approx((beyond - 2 / 13) / (1 - 2 / 13))
    pvalue = (1 - beyond) ** 12 + 12 * beyond * (1 - beyond) ** 11
    assert report.outside_pvalue == pytest.approx(pvalue)
    # Six labels of each of two classes: 5 of the 11 others are the same.
    test = binomtest(12, 12, 5 / 11, alternative="greater")
    assert report.agreement == 1
    assert report.agreement_pvalue == pytest.approx(test.pvalue)


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_other_classes_are_told(seed):
    X, y, truth = blobs(seed, n_known=2)
    with pytest.warns(PoolWarning, match="seem to be of classes that no label names"):
        report = check_pool(X, y)
    unlabeled = y == -1
    strange = unlabeled & (truth >= 2)
    assert report.novelty[strange].min() > report.novelty[unlabeled & ~strange].max()
    assert report.weights[strange].max() == 0
    assert report.weights[unlabeled & ~strange].mean() > 0.7
    assert 0.2 < report.outside < 0.8  # 200 of 388


@pytest.mark.parametrize("seed", range(3))
def test_digits_of_other_classes_are_told(seed):
    X, truth = load_digits(return_X_y=True)
    y = hide_labels(np.where(truth < 5, truth, -1), 20, random_state=seed)
    with pytest.warns(PoolWarning, match="About [2-9][0-9]% of the unlabeled rows"):
        report = check_pool(X.reshape(-1, 8, 8), y)
    unlabeled = y == -1
    weights, strange = report.weights[unlabeled], truth[unlabeled] >= 5
    assert weights[strange].mean() < 0.35 < 0.8 < weights[~strange].mean()


def test_labels_that_do_not_follow_the_pool_are_told():
    told = 0
    for seed in range(10):
        X, y = cut_moons(seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = check_pool(X, y)
        found = any("no better than chance" in str(w.message) for w in caught)
        assert found == (report.agreement_pvalue > 0.05)
        told += found
    # Now and then labels agree better than by chance, by chance.
    assert told >= 8


@pytest.mark.parametrize("seed", range(8))
def test_no_alarm_on_clean_rows(seed):
    """Warnings are errors in these tests."""
    X, moon = make_moons(600, noise=0.1, random_state=seed)
    report = check_pool(X, hide_labels(moon, 40, random_state=seed))
    assert report.agreement_pvalue < 0.001
    X, y, _ = blobs(seed)
    assert check_pool(X, y).agreement == 1
    X, truth = load_digits(return_X_y=True)
    assert check_pool(X, hide_labels(truth, 20, random_state=seed)).agreement > 0.5


def test_forms_of_inputs_and_targets():
    X, truth = load_digits(return_X_y=True)
    y = hide_labels(truth, 40, random_state=0)
    expected = check_pool(X, y)
    names = np.where(y == -1, None, y.astype(str))
    for form, marks in [
        (X.reshape(-1, 8, 8).astype(np.uint8), y.astype(float)),
        (X.tolist(), names),
    ]:
        report = check_pool(form, marks)
        np.testing.assert_allclose(report.novelty, expected.novelty, atol=1e-5)
        assert report.agreement == expected.agreement
    # Sparse rows are scaled column by column, as no common unit can be seen.
    scaled = check_pool(StandardScaler().fit_transform(X), y)
    report = check_pool(sparse.csr_array(X), y)
    np.testing.assert_allclose(report.novelty, scaled.novelty, atol=1e-2)


def test_what_cannot_be_judged():
    X = np.arange(12.0)[:, None]
    with pytest.raises(ValueError, match="no unlabeled row"):
        check_pool(X, np.arange(12) % 2)
    y = np.full(12, -1)
    y[[0, 11]] = 0, 1  # the only labels of their classes
    report = check_pool(X, y)
    assert np.isnan(report.pvalues).all()
    assert np.isnan(report.agreement)
    assert (report.weights == 1).all()
    assert report.outside == 0


def test_of_many_labels_some_are_used():
    X, truth = load_digits(return_X_y=True)
    y = hide_labels(truth, 1200, random_state=0)
    report = check_pool(X, y)
    # p-values are multiples of 1 / 301.
    multiples = report.pvalues * 301
    np.testing.assert_allclose(multiples, multiples.round(), atol=1e-9)
    assert report.agreement > 0.9


HISTORY = [{"class_distribution": [0.5, 0.496, 0.004]}]


def warned(history, prior, codes):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classes = np.array(["cat", "dog", "eel"])
        warn_of_starved_classes(history, torch.tensor(prior), classes, codes)
    return [str(warning.message) for warning in caught]


def test_starved_classes():
    pool = np.concatenate([[0, 1, 2], np.full(300, -1)])
    uniform = [1 / 3] * 3
    (message,) = warned(HISTORY, uniform, pool)
    assert "all but gave up 'eel': 0.4 % of the unlabeled rows" in message
    assert "class_prior" in message
    (message,) = warned([{"class_distribution": [0.99, 0.01, 0.0]}], uniform, pool)
    assert "collapsed to one class, 'cat'" in message
    # It is as rare as was said, there are too few rows to tell, or none, or no epoch.
    assert not warned(HISTORY, [0.5, 0.49, 0.01], pool)
    assert not warned(HISTORY, uniform, pool[:32])
    assert not warned([{"class_distribution": [np.nan] * 3}], uniform, pool[:3])
    assert not warned([], uniform, pool)
    # Nobody labeled it.
    assert not warned(HISTORY, uniform, np.delete(pool, 2))


def test_fit_warns_of_a_class_it_lost():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) + np.repeat([[0, 0], [6, 6]], 150, axis=0)
    y = np.full(300, -1)
    y[:30], y[150:180], y[30] = 0, 1, 2  # one label of 2, amid those of 0
    model = PNLClassifier(
        class_prior=None, max_epochs=3, steps_per_epoch=60, random_state=0
    )
    with pytest.warns(PoolWarning, match=r"all but gave up 2: 0\.?\d* %"):
        model.fit(X, y)


def tiny(**params):
    params = {"max_epochs": 1, "steps_per_epoch": 20, "random_state": 0} | params
    return PNLClassifier(**params)


def test_rows_are_drawn_by_their_chances():
    codes = np.array([0, 1, -1, -1, -1, -1])
    chances = np.array([9.0, 9.0, 1.0, 3.0, 0.0, 4.0])
    rows = ArrayRows(np.arange(6.0)[:, None], (1,), "cpu")
    rng = np.random.default_rng(0)
    batches = Batches(rows, codes, np.ones(6), (1, 50), "cpu", rng, None, chances)
    drawn = np.concatenate([batch.unlabeled[:, 0] for batch in batches.epoch(200)])
    counts = np.bincount(drawn.astype(int), minlength=6) / len(drawn)
    np.testing.assert_allclose(counts, [0, 0, 1 / 8, 3 / 8, 0, 4 / 8], atol=0.02)


def test_weights_of_a_pool_apart_come_last():
    X, y, _ = blobs()
    order = np.argsort(y == -1, kind="stable")
    X, y = X[order], y[order]
    weights = np.random.default_rng(0).random(len(y))
    n = 24 + 10
    within = tiny().fit(X, y, unlabeled_weight=weights)
    apart = tiny().fit(X[:n], y[:n], X_unlabeled=X[n:], unlabeled_weight=weights)
    np.testing.assert_array_equal(within.predict_proba(X), apart.predict_proba(X))
    equal = tiny().fit(X, y).predict_proba(X)
    assert not np.array_equal(within.predict_proba(X), equal)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), "inconsistent numbers of samples"),
        (np.full(400, -1.0), "one number for each row, not negative"),
        (np.full(400, np.nan), "one number for each row, not negative"),
        (np.ones((400, 2)), "one number for each row, not negative"),
        (np.zeros(400), "all zero. Use supervised_twin"),
    ],
)
def test_bad_weights(weights, message):
    X, y, _ = blobs()
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny().fit(X, y, unlabeled_weight=weights)


def test_weights_of_labeled_rows_may_be_anything():
    X, y, _ = blobs()
    some = np.where(y == -1, 1.0, np.nan)
    ones = tiny().fit(X, y, unlabeled_weight=np.ones(400)).predict_proba(X)
    found = tiny().fit(X, y, unlabeled_weight=some).predict_proba(X)
    np.testing.assert_array_equal(found, ones)


def test_weights_follow_their_rows_into_folds():
    X, y, _ = blobs()
    seen = []

    class Spy(PNLClassifier):
        def fit(self, X, y, *, unlabeled_weight=None):
            seen.append((X[:, 0].copy(), unlabeled_weight))
            return super().fit(X, y, unlabeled_weight=unlabeled_weight)

    weights = X[:, 0] - X[:, 0].min() + 1
    with sklearn.config_context(enable_metadata_routing=True):
        model = Spy(max_epochs=1, steps_per_epoch=5, random_state=0)
        model.set_fit_request(unlabeled_weight=True)
        cross_validate(model, X, y, cv=3, params={"unlabeled_weight": weights})
    assert len(seen) == 3
    for column, routed in seen:
        np.testing.assert_array_equal(routed, column - X[:, 0].min() + 1)


def test_weights_keep_rows_of_other_classes_out():
    X, y, truth = blobs(n_known=2)
    with pytest.warns(PoolWarning):
        weights = check_pool(X, y).weights
    seen = []

    def spy(x):
        seen.append(x)
        return x

    tiny(weak_view=None, strong_view=spy).fit(X, y, unlabeled_weight=weights)
    strange = {tuple(row) for row in X[truth >= 2].astype(np.float32)}
    assert not strange & {tuple(row.numpy()) for batch in seen for row in batch}
