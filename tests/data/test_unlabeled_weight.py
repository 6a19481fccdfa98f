"""Weights of unlabeled samples in `fit`."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
import torch
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, cross_validate

from pnl_sklearn import PNLClassifier, UnlabeledDataWarning
from pnl_sklearn.data._sampler import BatchSampler
from pnl_sklearn.data._sources import ArraySource
from pnl_sklearn.inspection import check_unlabeled
from pnl_sklearn.model_selection import hide_labels

CENTERS = [[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]


def make_partial_blobs(seed=0, n_known=4):
    """Make four classes, of which the first `n_known` have six labels each."""
    X, truth = make_blobs(400, centers=CENTERS, random_state=seed)
    y = np.where(truth < n_known, truth, -1)
    return X, hide_labels(y, 6 * n_known, random_state=seed), truth


def tiny(**params):
    """Make a classifier without its graph, which takes most of a small fit."""
    params = {"steps_per_epoch": 10, "graph": None, "random_state": 0} | params
    return PNLClassifier(max_epochs=1, **params)


def test_sampler_draws_in_proportion_to_the_weights():
    data = SimpleNamespace(
        codes=np.array([0, 1, -1, -1, -1, -1]),
        weights=np.ones(2),
        excluded=None,
        sampling_weights=np.array([9.0, 9.0, 1.0, 3.0, 0.0, 4.0]),
    )
    source = ArraySource(np.arange(6.0)[:, None], (1,), "cpu")
    batches = BatchSampler(source, data, (1, 50), "cpu", seed=0)
    drawn = np.concatenate([batch.unlabeled[:, 0] for batch in batches.epoch(200)])
    counts = np.bincount(drawn.astype(int), minlength=6) / len(drawn)
    np.testing.assert_allclose(counts, [0, 0, 1 / 8, 3 / 8, 0, 4 / 8], atol=0.02)


@pytest.mark.parametrize(
    ("n_in_x", "n_weights"),
    [(34, 400), (24, 376)],
    ids=["weights of X and X_unlabeled", "weights of X_unlabeled"],
)
def test_weights_of_x_unlabeled_equal_weights_within_x(n_in_x, n_weights):
    X, y, _ = make_partial_blobs()
    order = np.argsort(y == -1, kind="stable")
    X, y = X[order], y[order]
    weights = np.random.default_rng(0).random(400)
    within = tiny().fit(X, y, unlabeled_weight=weights).predict_proba(X)
    apart = tiny().fit(
        X[:n_in_x],
        y[:n_in_x],
        X_unlabeled=X[n_in_x:],
        unlabeled_weight=weights[-n_weights:],
    )
    np.testing.assert_array_equal(apart.predict_proba(X), within)
    assert not np.array_equal(tiny().fit(X, y).predict_proba(X), within)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), "inconsistent numbers of samples"),
        (np.full(400, -1.0), "one finite number per sample"),
        (np.full(400, np.nan), "one finite number per sample"),
        (np.ones((400, 2)), "one finite number per sample"),
        (np.zeros(400), "all zero. Use supervised_baseline"),
    ],
)
def test_weight_errors(weights, message):
    X, y, _ = make_partial_blobs()
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny().fit(X, y, unlabeled_weight=weights)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_held_out_samples_are_drawn_as_often_as_others(scale):
    X, y, _ = make_partial_blobs()
    counts = np.zeros(2)

    def spy(x):
        is_held_out = (x[:, None] == torch.tensor(X[y >= 0]).float()).all(2).any(1)
        counts[:] += is_held_out.sum(), len(x)
        return x

    model = tiny(strong_view=spy, weak_view=None, validation_fraction=0.5)
    model.fit(X, y, unlabeled_weight=np.full(400, scale))
    assert counts[0] / counts[1] == pytest.approx(12 / 388, abs=0.02)


def test_weights_of_labeled_samples_are_ignored():
    X, y, _ = make_partial_blobs()
    weights = np.where(y == -1, 1.0, np.nan)
    expected = tiny().fit(X, y, unlabeled_weight=np.ones(400)).predict_proba(X)
    found = tiny().fit(X, y, unlabeled_weight=weights).predict_proba(X)
    np.testing.assert_array_equal(found, expected)


def test_x_unlabeled_and_weights_are_routed_by_grid_search():
    X, y, _ = make_partial_blobs()
    labeled = y >= 0
    with sklearn.config_context(enable_metadata_routing=True):
        model = tiny().set_fit_request(X_unlabeled=True, unlabeled_weight=True)
        search = GridSearchCV(model, {"negative_weight": [0.5, 1]}, cv=2)
        params = {"X_unlabeled": X[~labeled], "unlabeled_weight": np.ones(376)}
        search.fit(X[labeled], y[labeled], **params)
    assert search.best_score_ > 0.5


def test_weights_are_split_by_cross_validate():
    X, y, _ = make_partial_blobs()
    seen = []

    class Spy(PNLClassifier):
        def fit(self, X, y, *, unlabeled_weight=None):
            seen.append((X[:, 0].copy(), unlabeled_weight))
            return super().fit(X, y, unlabeled_weight=unlabeled_weight)

    weights = X[:, 0] - X[:, 0].min() + 1
    with sklearn.config_context(enable_metadata_routing=True):
        model = Spy(max_epochs=1, steps_per_epoch=1, graph=None)
        model.set_fit_request(unlabeled_weight=True)
        cross_validate(model, X, y, cv=3, params={"unlabeled_weight": weights})
    assert len(seen) == 3
    for first_feature, routed in seen:
        np.testing.assert_array_equal(routed, first_feature - X[:, 0].min() + 1)


def test_samples_of_weight_zero_are_not_drawn():
    X, y, truth = make_partial_blobs(n_known=2)
    with pytest.warns(UnlabeledDataWarning):
        weights = check_unlabeled(X, y).weights
    seen = []

    def spy(x):
        seen.append(x)
        return x

    tiny(weak_view=None, strong_view=spy).fit(X, y, unlabeled_weight=weights)
    out_of_class = {tuple(x) for x in X[truth >= 2].astype(np.float32)}
    # The view is first tried on some samples, whatever their weights.
    drawn = {tuple(x.numpy()) for batch in seen[1:] for x in batch}
    assert not out_of_class & drawn
