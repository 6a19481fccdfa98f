"""The linear classifier is scikit-learn's, also where it is computed in a subspace."""

import numpy as np
import pytest
from sklearn.datasets import load_wine, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from pnl_sklearn.evidence._linear import fit_linear

VALUES = 0.001, 0.01, 0.1, 1.0, 10.0


def predict_proba(model, X):
    logits = X @ model.coef.T + model.intercept
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def many_features():
    X, y = make_classification(40, 200, n_informative=20, n_classes=3, random_state=0)
    return StandardScaler().fit_transform(X), y


def wine():
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X)[::4], y[::4]


@pytest.mark.parametrize("load", [wine, many_features])
def test_cross_validated_logistic_regression(load):
    X, y = load()
    folds = [np.arange(k, len(y), 5) for k in range(5)]
    weight = np.random.default_rng(0).uniform(0.5, 1.5, len(y))
    model, held_out = fit_linear(X, y, 3, folds, weight)

    predictions = {}
    for C in VALUES:
        parts = []
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(y)), fold)
            logistic = LogisticRegression(C=C, max_iter=2000, tol=1e-6)
            logistic.fit(X[rest], y[rest], weight[rest])
            parts.append(logistic.predict_proba(X[fold]))
        predictions[C] = np.concatenate(parts)
    true = y[np.concatenate(folds)]
    best = min(VALUES, key=lambda C: log_loss(true, predictions[C]))
    np.testing.assert_allclose(held_out, predictions[best], atol=0.03)
    logistic = LogisticRegression(C=best, max_iter=2000, tol=1e-6).fit(X, y, weight)
    np.testing.assert_allclose(
        predict_proba(model, X), logistic.predict_proba(X), atol=0.03
    )


def test_two_classes_of_three():
    X, y = wine()
    X, y = X[y < 2], 2 * y[y < 2]
    model, held_out = fit_linear(X, y, 3, [])
    assert held_out.shape == (0, 3)
    assert not model.coef[1].any()
    assert model.intercept[1] == 0
    assert (predict_proba(model, X).argmax(axis=1) == y).mean() > 0.9


def test_single_class():
    model, held_out = fit_linear(np.ones((3, 2)), np.ones(3, int), 2, [np.arange(2)])
    assert not model.coef.any()
    np.testing.assert_array_equal(held_out, np.full((2, 2), 0.5))
