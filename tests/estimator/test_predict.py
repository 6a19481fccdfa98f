"""predict, predict_proba, predict_log_proba and score."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from skorch import NeuralNet
from small_fits import TRUTH, X, Y, same, tiny


def test_predict_methods_are_consistent(fitted, expected):
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-12)
    assert expected.dtype == np.float64
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), expected)
    same(fitted.predict(X), fitted.classes_[expected.argmax(axis=1)])
    np.testing.assert_allclose(fitted.predict_proba(X[7:8])[0], expected[7], rtol=1e-5)


def test_submodels_are_skorch_nets(fitted, expected):
    assert len(fitted.submodels_) == 2
    assert all(isinstance(net, NeuralNet) for net in fitted.submodels_)
    each = [net.predict_proba(X) for net in fitted.submodels_]
    scaled = np.mean(each, axis=0) ** (1 / fitted.temperature_)
    scaled /= scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)
    assert not np.allclose(*each)


def test_score_leaves_out_unlabeled_samples(fitted):
    predicted = fitted.predict(X)
    assert 0 < np.mean(predicted == TRUTH) < 1
    weights = np.random.default_rng(0).random(60)
    known = Y >= 0
    score = accuracy_score(Y[known], predicted[known])
    assert fitted.score(X, Y) == score
    assert fitted.score(X, np.where(known, Y, np.nan)) == score
    assert fitted.score(X, [label if label >= 0 else None for label in Y]) == score
    assert fitted.score(X, TRUTH) == accuracy_score(TRUTH, predicted)
    score = accuracy_score(Y[known], predicted[known], sample_weight=weights[known])
    np.testing.assert_allclose(fitted.score(X, Y, sample_weight=weights), score)


@pytest.mark.parametrize("names", [["a", "b", "c"], ["+", "-", "0"], [0, 1, 2]])
def test_score_of_labels_unknown_to_fit(names):
    names = np.array(names)
    estimator = tiny(classes=names).fit(X, names[TRUTH])
    predicted = estimator.predict(X)
    others = [f"{name}b" for name in names] if names.dtype.kind == "U" else names + 3.0
    y = np.where(np.arange(60) < 20, names[TRUTH], np.array(others)[TRUTH])
    assert estimator.score(X, y) == np.sum(predicted[:20] == y[:20]) / 60
    score = accuracy_score(names[TRUTH], predicted)
    assert estimator.score(X, names[TRUTH]) == score
