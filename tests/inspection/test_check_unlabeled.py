"""Warnings about misleading unlabeled data, and the weights of samples."""

import warnings
from math import comb

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import StandardScaler

from pnl_sklearn import PNLClassifier, UnlabeledDataWarning
from pnl_sklearn.graph._label_spreading import hitting_probabilities
from pnl_sklearn.inspection import check_unlabeled
from pnl_sklearn.inspection._check_unlabeled import (
    _agreement,
    _compare_labels,
    _compare_novelty,
    _stratified_subsample,
)
from pnl_sklearn.model_selection import hide_labels

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

CENTERS = [[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]


def make_partial_blobs(seed=0, n_known=4):
    """Make four classes, of which the first `n_known` have six labels each."""
    X, truth = make_blobs(400, centers=CENTERS, random_state=seed)
    y = np.where(truth < n_known, truth, -1)
    return X, hide_labels(y, 6 * n_known, random_state=seed), truth


def make_cut_moons(seed):
    """Make two moons, each of which is cut lengthwise into both classes."""
    X, moon = make_moons(600, noise=0.1, random_state=seed)
    centers = np.array([[0, 0], [1, 0.5]])[moon]
    outer = np.linalg.norm(X - centers, axis=1) > 1
    return X, hide_labels(outer.astype(int), 20, random_state=seed)


def test_meeting_probabilities_equal_those_of_a_dense_solver():
    X = np.random.default_rng(0).normal(size=(60, 2))
    graph = kneighbors_graph(X, 5)
    graph = graph.maximum(graph.T)
    graph = graph.toarray()
    step = 0.99 * graph / graph.sum(axis=1, keepdims=True)
    targets = [3, 17]
    found = hitting_probabilities(sparse.csr_matrix(graph), np.array(targets), 0.99)
    for column, target in enumerate(targets):
        # h = 1 at the target; elsewhere what the next step leads to.
        others = np.delete(np.arange(60), target)
        system = np.eye(59) - step[np.ix_(others, others)]
        expected = np.linalg.solve(system, step[others, target])
        np.testing.assert_allclose(found[others, column], expected, atol=1e-8)
        assert found[target, column] == pytest.approx(1)


def test_report_equals_one_from_a_dense_inverse():
    X, y, _ = make_partial_blobs(n_known=2)
    with pytest.warns(UnlabeledDataWarning):
        report = check_unlabeled(X, y, n_neighbors=6)
    features = StandardScaler().fit_transform(X)
    graph = kneighbors_graph(features, 6)
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
    # Novelty above that of 11 of the 12 labeled samples is expected for 2 of 13. By
    # chance k of m unlabeled samples are so novel if, of 12 + m samples in random
    # order, the second labeled one comes after k unlabeled ones.
    k, m = np.sum(unknown > np.sort(known)[-2] + 1e-9), len(unknown)
    assert report.out_of_class == pytest.approx((k / m - 2 / 13) / (1 - 2 / 13))
    ways = [comb(i + 1, 1) * comb(10 + m - i, 10) for i in range(m + 1)]
    pvalue = sum(ways[k:]) / comb(12 + m, 12)
    assert report.out_of_class_pvalue == pytest.approx(pvalue)
    assert report.agreement == 1
    share, pvalue = report.out_of_class, report.out_of_class_pvalue
    assert str(report).startswith(
        f"About {share:.0%} of the unlabeled samples seem to be of classes without "
        f"labels (p = {pvalue:.1g}). 100% of the labeled samples are most similar"
    )
    # Two permutations agree as well: the identity and that which swaps the classes.
    assert report.agreement_pvalue == pytest.approx(2 / comb(12, 6), abs=0.006)


def test_out_of_class_pvalue_is_uniform_under_the_null_hypothesis():
    rng = np.random.default_rng(0)
    for n_unlabeled in (1, 4, 30, 300):
        is_unlabeled = np.arange(40 + n_unlabeled) >= 40
        pvalues = []
        for _ in range(200):
            novelty = rng.random(40 + n_unlabeled)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = _compare_novelty(novelty, novelty[:40], is_unlabeled)
            pvalues.append(report["out_of_class_pvalue"])
        assert np.mean(np.array(pvalues) <= 0.1) < 0.15
        assert np.mean(np.array(pvalues) <= 0.01) < 0.03


@pytest.mark.parametrize("counts", [[2] * 10, [10, 10], [30, 2], [2, 2, 2, 1, 1]])
def test_agreement_pvalue_is_uniform_under_random_labels(counts):
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(len(counts)), counts)
    pvalues = []
    for _ in range(6):
        graph = kneighbors_graph(rng.normal(size=(120, 3)), 10)
        targets = np.arange(len(codes))
        similarity = hitting_probabilities(graph.maximum(graph.T), targets, 0.99)
        similarity = similarity[targets]
        np.fill_diagonal(similarity, 0)
        for _ in range(10):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = _compare_labels(
                    similarity, rng.permutation(codes), n_permutations=99
                )
            pvalues.append(report["agreement_pvalue"])
    assert np.mean(np.array(pvalues) <= 0.05) <= 0.15
    assert np.mean(pvalues) > 0.35


def test_agreement_of_a_small_matrix():
    similarity = np.array(
        [
            [0.0, 0.5, 0.6, 0.0, 0.1],
            [0.5, 0.0, 0.1, 0.1, 0.2],
            [0.6, 0.1, 0.0, 0.3, 0.9],
            [0.0, 0.1, 0.3, 0.0, 0.2],
            [0.1, 0.2, 0.9, 0.2, 0.0],
        ]
    )
    codes = np.array([0, 0, 1, 1, 2])
    # Mean similarity to the other samples of the classes 0, 1, 2: (.5 .3 .1),
    # (.5 .1 .2), (.35 .3 .9), (.05 .3 .2). The last sample is alone in its class.
    assert _agreement(similarity, codes) == 3 / 4


def test_few_warnings_on_unbalanced_classes():
    rng = np.random.default_rng(0)
    n_warnings = 0
    for seed in range(20):
        X, moon = make_moons((540, 60), noise=0.1, random_state=seed)
        y = np.full(600, -1)
        labeled = rng.permutation(600)[:40]
        y[labeled] = moon[labeled]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_unlabeled(X, y)
        n_warnings += len(caught)
    assert n_warnings <= 4


@pytest.mark.parametrize("seed", range(8))
def test_warning_about_blobs_without_labels(seed):
    X, y, truth = make_partial_blobs(seed, n_known=2)
    with pytest.warns(
        UnlabeledDataWarning, match="seem to be of classes without labels"
    ) as caught:
        report = check_unlabeled(X, y)
    assert caught[0].filename == __file__  # not that of a wrapper
    unlabeled = y == -1
    out_of_class = unlabeled & (truth >= 2)
    assert (
        report.novelty[out_of_class].min()
        > report.novelty[unlabeled & ~out_of_class].max()
    )
    assert report.weights[out_of_class].max() == 0
    assert report.weights[unlabeled & ~out_of_class].mean() > 0.7
    assert 0.2 < report.out_of_class < 0.8  # 200 of 388


@pytest.mark.parametrize("seed", range(3))
def test_warning_about_digits_without_labels(seed):
    X, truth = load_digits(return_X_y=True)
    y = hide_labels(np.where(truth < 5, truth, -1), 20, random_state=seed)
    with pytest.warns(
        UnlabeledDataWarning, match="About [2-9][0-9]% of the unlabeled samples"
    ):
        report = check_unlabeled(X.reshape(-1, 8, 8), y)
    unlabeled = y == -1
    weights, out_of_class = report.weights[unlabeled], truth[unlabeled] >= 5
    assert weights[out_of_class].mean() < 0.35 < 0.8 < weights[~out_of_class].mean()


def test_warning_about_labels_that_do_not_follow_clusters():
    n_found = 0
    for seed in range(10):
        X, y = make_cut_moons(seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = check_unlabeled(X, y)
        found = any("do not seem to follow" in str(w.message) for w in caught)
        assert not found or report.agreement_pvalue > 0.05
        n_found += found
    # Some labels agree better than most permutations, by chance.
    assert n_found >= 8


@pytest.mark.parametrize("seed", range(8))
def test_no_warning_on_moons_and_blobs(seed):
    """Warnings are errors in these tests."""
    X, moon = make_moons(600, noise=0.1, random_state=seed)
    report = check_unlabeled(X, hide_labels(moon, 40, random_state=seed))
    assert report.agreement_pvalue <= 1 / 500
    X, y, _ = make_partial_blobs(seed)
    assert check_unlabeled(X, y).agreement == 1


@pytest.mark.parametrize("seed", range(4))
def test_no_warning_on_digits(seed):
    X, truth = load_digits(return_X_y=True)
    assert check_unlabeled(X, hide_labels(truth, 20, random_state=seed)).agreement > 0.5


def test_forms_of_inputs_and_marks_of_unlabeled_samples():
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
    # Sparse features are always standardized, dense ones not if they share a range.
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
def test_features_that_are_not_numbers_raise_as_in_fit(column, error):
    X = pd.DataFrame({"number": np.arange(12.0), "other": column})
    for act in (check_unlabeled, PNLClassifier().fit):
        with pytest.raises(error, match="not numbers in column 'other'"):
            act(X, np.arange(12) % 3 - 1)


def test_errors_and_only_labels_of_classes():
    X = np.arange(12.0)[:, None]
    for labels in (np.arange(12) % 2, np.full(12, -1)):
        with pytest.raises(ValueError, match="labeled and unlabeled samples"):
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
    assert report.out_of_class == 0


def test_300_of_many_labels_are_used():
    X, truth = load_digits(return_X_y=True)
    y = hide_labels(truth, 1200, random_state=0)
    report = check_unlabeled(X, y)
    # p-values are multiples of 1 / 301.
    multiples = report.pvalues * 301
    np.testing.assert_allclose(multiples, multiples.round(), atol=1e-9)
    assert report.agreement > 0.9


def test_no_warning_about_few_out_of_class_samples():
    """Although their p-value is low."""
    novelty = np.concatenate([np.arange(0.5, 300) / 300, np.arange(0.5, 2000) / 2000])
    novelty[300::8] += 1
    report = _compare_novelty(novelty, novelty[:300], np.arange(2300) >= 300)
    assert report["out_of_class_pvalue"] < 0.001
    assert report["out_of_class"] == pytest.approx(1 / 8, abs=0.01)


def test_many_labels_are_spread_over_classes():
    labels = np.repeat([1, 0], [300, 100])
    used = labels[_stratified_subsample(labels, 40)]
    # Three of each, and 34 others of 97 and 297.
    assert used.tolist() == [0] * (3 + 8) + [1] * (3 + 25)
    everything = _stratified_subsample(labels, 500)
    assert sorted(everything) == list(range(400))


@pytest.mark.parametrize("n_rare", [1, 3, 10])
def test_rare_classes_keep_labels(n_rare):
    labels = np.repeat([0, 1, 2], [990, n_rare, 980])
    used = labels[_stratified_subsample(labels, 100)]
    counts = np.bincount(used)
    assert counts[1] == min(n_rare, 3)
    assert 95 <= len(used) <= 100
    assert counts[0] - counts[2] in (0, 1)


def test_summary_if_each_class_has_one_label():
    X, y, _ = make_partial_blobs()
    alone = np.full_like(y, -1)
    firsts = [np.argmax(y == 0), np.argmax(y == 1)]
    alone[firsts] = [0, 1]
    report = check_unlabeled(X, alone)
    assert str(report).startswith("Each class has a single label.")
