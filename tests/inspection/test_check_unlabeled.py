"""Alarms about unlabeled rows that may mislead, and the weights that follow."""

import re
import warnings
from math import comb

import numpy as np
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from pnl_sklearn import PNLClassifier, UnlabeledDataWarning
from pnl_sklearn.data._sampler import BatchSampler
from pnl_sklearn.data._sources import ArraySource
from pnl_sklearn.graph._visits import meeting_probabilities
from pnl_sklearn.inspection import check_unlabeled
from pnl_sklearn.inspection._check_unlabeled import _agreement, _compare_novelty
from pnl_sklearn.model_selection import hide_labels
from pnl_sklearn.training._metrics import warn_of_class_collapse

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

CENTERS = [[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]


def blobs(seed=0, n_known=4):
    """Source of four classes, of which the first few have labels."""
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
    found = meeting_probabilities(sparse.csr_matrix(graph), np.array(targets), 0.99)
    for column, target in enumerate(targets):
        # h = 1 at the target; elsewhere what the next step leads to.
        others = np.delete(np.arange(60), target)
        system = np.eye(59) - step[np.ix_(others, others)]
        expected = np.linalg.solve(system, step[others, target])
        np.testing.assert_allclose(found[others, column], expected, atol=1e-8)
        assert found[target, column] == pytest.approx(1)


def test_the_report_on_rows_against_numpy_and_scipy():
    X, y, _ = blobs(n_known=2)
    with pytest.warns(UnlabeledDataWarning):
        report = check_unlabeled(X, y, n_neighbors=6)
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
    # Beyond all of the 12 but one, where 2 of 13 are expected. By chance k of m rows
    # are so if of 12 + m in random order the second of the 12 comes after k others.
    k, m = np.sum(unknown > np.sort(known)[-2] + 1e-9), len(unknown)
    assert report.outside == pytest.approx((k / m - 2 / 13) / (1 - 2 / 13))
    ways = [comb(i + 1, 1) * comb(10 + m - i, 10) for i in range(m + 1)]
    pvalue = sum(ways[k:]) / comb(12 + m, 12)
    assert report.outside_pvalue == pytest.approx(pvalue)
    assert report.agreement == 1
    # As well agree the labels themselves and both classes exchanged.
    assert report.agreement_pvalue == pytest.approx(2 / comb(12, 6), abs=0.006)


def test_the_chance_of_rows_beyond_by_simulation():
    """In clean pools of any size the p-value is below 0.1 in a tenth of all draws."""
    rng = np.random.default_rng(0)
    for n_unlabeled in (1, 4, 30, 300):
        pvalues = []
        for _ in range(400):
            novelty = rng.random(40 + n_unlabeled)
            report = Bunch(novelty=novelty, weights=np.ones(len(novelty)))
            unlabeled = np.arange(len(novelty)) >= 40
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _compare_novelty(report, novelty[:40], unlabeled)
            pvalues.append(report.outside_pvalue)
        assert np.mean(np.array(pvalues) <= 0.1) < 0.15
        assert np.mean(np.array(pvalues) <= 0.01) < 0.03


@pytest.mark.parametrize("counts", [[2] * 10, [10, 10], [30, 2], [2, 2, 2, 1, 1]])
def test_random_labels_agree_by_chance(counts):
    rng = np.random.default_rng(0)
    pvalues = []
    for _ in range(60):
        X = rng.normal(size=(120, 3))
        y = np.full(120, -1)
        y[: sum(counts)] = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pvalues.append(check_unlabeled(X, y).agreement_pvalue)
    assert np.mean(np.array(pvalues) <= 0.05) <= 0.15
    assert np.mean(pvalues) > 0.35


def test_the_agreement_by_hand():
    meets = np.array(
        [
            [0.0, 0.5, 0.6, 0.0, 0.1],
            [0.5, 0.0, 0.1, 0.1, 0.2],
            [0.6, 0.1, 0.0, 0.3, 0.9],
            [0.0, 0.1, 0.3, 0.0, 0.2],
            [0.1, 0.2, 0.9, 0.2, 0.0],
        ]
    )
    codes = np.array([0, 0, 1, 1, 2])
    # Means over the other labels of 0, 1, 2, row by row: (.5 .3 .1), (.5 .1 .2),
    # (.35 .3 .9), (.05 .3 .2); the last row's class has no other label.
    assert _agreement(meets, codes) == 3 / 4


def test_unbalanced_classes_are_no_reason_for_an_alarm():
    rng = np.random.default_rng(0)
    alarms = 0
    for seed in range(20):
        X, moon = make_moons((540, 60), noise=0.1, random_state=seed)
        y = np.full(600, -1)
        rows = rng.permutation(600)[:40]
        y[rows] = moon[rows]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_unlabeled(X, y)
        alarms += len(caught)
    assert alarms <= 4


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_other_classes_are_told(seed):
    X, y, truth = blobs(seed, n_known=2)
    with pytest.warns(
        UnlabeledDataWarning, match="seem to be of classes that no label names"
    ):
        report = check_unlabeled(X, y)
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
    with pytest.warns(
        UnlabeledDataWarning, match="About [2-9][0-9]% of the unlabeled rows"
    ):
        report = check_unlabeled(X.reshape(-1, 8, 8), y)
    unlabeled = y == -1
    weights, strange = report.weights[unlabeled], truth[unlabeled] >= 5
    assert weights[strange].mean() < 0.35 < 0.8 < weights[~strange].mean()


def test_labels_that_do_not_follow_the_pool_are_told():
    told = 0
    for seed in range(10):
        X, y = cut_moons(seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = check_unlabeled(X, y)
        found = any("do not seem to follow" in str(w.message) for w in caught)
        assert not found or report.agreement_pvalue > 0.05
        told += found
    # Now and then labels agree better than by chance, by chance.
    assert told >= 8


@pytest.mark.parametrize("seed", range(8))
def test_no_alarm_on_clean_rows(seed):
    """Warnings are errors in these tests."""
    X, moon = make_moons(600, noise=0.1, random_state=seed)
    report = check_unlabeled(X, hide_labels(moon, 40, random_state=seed))
    assert report.agreement_pvalue <= 1 / 500
    X, y, _ = blobs(seed)
    assert check_unlabeled(X, y).agreement == 1
    X, truth = load_digits(return_X_y=True)
    assert check_unlabeled(X, hide_labels(truth, 20, random_state=seed)).agreement > 0.5


def test_forms_of_inputs_and_targets():
    X, truth = load_digits(return_X_y=True)
    y = hide_labels(truth, 40, random_state=0)
    expected = check_unlabeled(X, y)
    names = np.where(y == -1, None, y.astype(str))
    for form, marks in [
        (X.reshape(-1, 8, 8).astype(np.uint8), y.astype(float)),
        (X.tolist(), names),
        (torch.from_numpy(X).bfloat16().requires_grad_(), y),
        (pd.DataFrame(X), pd.Series(y)),
        (pl.DataFrame(X), y),
    ]:
        report = check_unlabeled(form, marks)
        np.testing.assert_allclose(report.novelty, expected.novelty, atol=1e-5)
        assert report.agreement == expected.agreement
    # Sparse rows are scaled column by column, as no common unit can be seen.
    scaled = check_unlabeled(StandardScaler().fit_transform(X), y)
    report = check_unlabeled(sparse.csr_array(X), y)
    np.testing.assert_allclose(report.novelty, scaled.novelty, atol=1e-2)


@pytest.mark.parametrize(
    ("column", "error"),
    [
        (["a", "b"] * 6, ValueError),
        (pd.date_range("2026-01-01", periods=12), TypeError),
        (pd.to_timedelta(np.arange(12), unit="D"), TypeError),
    ],
    ids=["strings", "dates", "spans of time"],
)
def test_columns_that_are_not_numbers_are_named_as_in_fit(column, error):
    X = pd.DataFrame({"number": np.arange(12.0), "other": column})
    for act in (check_unlabeled, PNLClassifier().fit):
        with pytest.raises(error, match="Encode them first: dates as"):
            act(X, np.arange(12) % 3 - 1)


def test_what_cannot_be_judged():
    X = np.arange(12.0)[:, None]
    for labels in (np.arange(12) % 2, np.full(12, -1)):
        with pytest.raises(ValueError, match="labeled and unlabeled rows"):
            check_unlabeled(X, labels)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        check_unlabeled(X[:5], np.arange(12) - 1)
    y = np.full(12, -1)
    y[[0, 11]] = 0, 1  # the only labels of their classes
    report = check_unlabeled(X, y)
    assert np.isfinite(report.novelty).all()
    assert np.isnan(report.pvalues).all()
    assert np.isnan(report.agreement)
    assert (report.weights == 1).all()
    assert report.outside == 0


def test_of_many_labels_some_are_used():
    X, truth = load_digits(return_X_y=True)
    y = hide_labels(truth, 1200, random_state=0)
    report = check_unlabeled(X, y)
    # p-values are multiples of 1 / 301.
    multiples = report.pvalues * 301
    np.testing.assert_allclose(multiples, multiples.round(), atol=1e-9)
    assert report.agreement > 0.9


def test_a_few_strangers_are_no_alarm():
    """However sure it is that they are there."""
    novelty = np.concatenate([np.arange(0.5, 300) / 300, np.arange(0.5, 2000) / 2000])
    novelty[300::8] += 1
    report = Bunch(novelty=novelty, weights=np.ones(2300))
    _compare_novelty(report, novelty[:300], np.arange(2300) >= 300)
    assert report.outside_pvalue < 0.001
    assert report.outside == pytest.approx(1 / 8, abs=0.01)


HISTORY = [{"class_distribution": [0.5, 0.496, 0.004]}]


def warned(history, prior, codes, is_known=True):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classes = np.array(["cat", "dog", "eel"])
        prior = torch.tensor(prior)
        warn_of_class_collapse(history, prior, is_known, classes, codes)
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
    # Nobody knows whether it is not that rare.
    assert not warned([{"class_distribution": [0.5, 0.49, 0.01]}], uniform, pool, False)
    assert warned([{"class_distribution": [0.5, 0.495, 0.005]}], uniform, pool, False)
    # Nobody labeled it.
    assert not warned(HISTORY, uniform, np.delete(pool, 2))


def test_fit_warns_of_a_class_it_lost():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) + np.repeat([[0, 0], [6, 6]], 150, axis=0)
    y = np.full(300, -1)
    y[:30], y[150:180], y[30] = 0, 1, 2  # one label of 2, amid those of 0
    model = PNLClassifier(
        class_prior=None,
        graph_weight=0,
        max_epochs=3,
        steps_per_epoch=60,
        net_params={"module__hidden": 128, "module__n_layers": 2},
        random_state=0,
    )
    with pytest.warns(
        UnlabeledDataWarning, match=r"all but gave up 2: 0\.?\d* %"
    ) as caught:
        model.fit(X, y)
    assert caught[0].filename == __file__  # not that of a wrapper


def test_fit_bears_a_rare_class():
    X, truth = make_blobs([1440, 60], centers=[[0, 0], [8, 0]], random_state=0)
    y = hide_labels(truth, 40, random_state=0)
    model = PNLClassifier(max_epochs=4, steps_per_epoch=60, random_state=0)
    assert model.fit(X, y).score(X, truth) > 0.99


def tiny(**params):
    params = {"max_epochs": 1, "steps_per_epoch": 20, "random_state": 0} | params
    return PNLClassifier(**params)


def test_rows_are_drawn_by_their_chances():
    codes = np.array([0, 1, -1, -1, -1, -1])
    chances = np.array([9.0, 9.0, 1.0, 3.0, 0.0, 4.0])
    rows = ArraySource(np.arange(6.0)[:, None], (1,), "cpu")
    rng = np.random.default_rng(0)
    batches = BatchSampler(rows, codes, np.ones(2), (1, 50), "cpu", rng, None, chances)
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
        (np.zeros(400), "all zero. Use supervised_baseline"),
    ],
)
def test_bad_weights(weights, message):
    X, y, _ = blobs()
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny().fit(X, y, unlabeled_weight=weights)


def test_weights_of_the_pool_alone():
    X, y, _ = blobs()
    rows = np.argsort(y == -1, kind="stable")
    X, y = X[rows], y[rows]
    weights = np.random.default_rng(0).random(400)
    fits = [
        tiny().fit(X[:24], y[:24], X_unlabeled=X[24:], unlabeled_weight=w)
        for w in (weights, weights[24:])
    ]
    p, q = (fitted.predict_proba(X) for fitted in fits)
    np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_held_out_rows_are_drawn_as_often_as_others(scale):
    X, y, _ = blobs()
    counts = np.zeros(2)

    def spy(x):
        is_held = (x[:, None] == torch.tensor(X[y >= 0]).float()).all(2).any(1)
        counts[:] += is_held.sum(), len(x)
        return x

    model = tiny(strong_view=spy, weak_view=None, validation_fraction=0.5)
    model.fit(X, y, unlabeled_weight=np.full(400, scale))
    assert counts[0] / counts[1] == pytest.approx(12 / 388, abs=0.02)


def test_weights_of_labeled_rows_may_be_anything():
    X, y, _ = blobs()
    some = np.where(y == -1, 1.0, np.nan)
    ones = tiny().fit(X, y, unlabeled_weight=np.ones(400)).predict_proba(X)
    found = tiny().fit(X, y, unlabeled_weight=some).predict_proba(X)
    np.testing.assert_array_equal(found, ones)


def test_weights_reach_a_pool_through_a_search():
    X, y, _ = blobs()
    labeled = y >= 0
    with sklearn.config_context(enable_metadata_routing=True):
        model = tiny().set_fit_request(X_unlabeled=True, unlabeled_weight=True)
        search = GridSearchCV(model, {"negative_weight": [0.5, 1]}, cv=2)
        pool = {"X_unlabeled": X[~labeled], "unlabeled_weight": np.ones(376)}
        search.fit(X[labeled], y[labeled], **pool)
    assert search.best_score_ > 0.5


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
    with pytest.warns(UnlabeledDataWarning):
        weights = check_unlabeled(X, y).weights
    seen = []

    def spy(x):
        seen.append(x)
        return x

    tiny(weak_view=None, strong_view=spy).fit(X, y, unlabeled_weight=weights)
    strange = {tuple(row) for row in X[truth >= 2].astype(np.float32)}
    # But for the rows that the view is tried on, before.
    assert not strange & {tuple(row.numpy()) for batch in seen[1:] for row in batch}
