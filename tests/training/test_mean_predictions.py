"""Predictions of both submodels together."""

import numpy as np
import pytest
import torch
from torch import nn

from pnl_sklearn import PNLClassifier
from pnl_sklearn.training import _predict
from pnl_sklearn.training._predict import concatenate_predictions


def test_predictions_are_the_mean_of_both_submodels():
    X = np.array([[1.0], [-2.0], [3.0]], dtype=np.float32)
    classifier = PNLClassifier(
        nn.Linear,
        standardize=False,
        weak_view=None,
        strong_view=None,
        graph=None,
        exchange="alternating",
        ema_decay=None,
        lr=0.1,
        max_epochs=1,
        steps_per_epoch=3,
        random_state=0,
    ).fit(X, [0, 1, -1])
    probabilities = []
    for submodel in classifier.submodels_:
        layer = submodel.module_.network
        logits = X * layer.weight.detach().numpy()[:, 0] + layer.bias.detach().numpy()
        exp = np.exp(logits)
        probabilities.append(exp / exp.sum(axis=1, keepdims=True))
    assert np.abs(np.subtract(*probabilities)).max() > 0.01
    expected = np.mean(probabilities, axis=0)
    np.testing.assert_allclose(classifier.predict_proba(X), expected, rtol=1e-5)
    np.testing.assert_allclose(
        classifier.predict_log_proba(X), np.log(expected), rtol=1e-4
    )


@pytest.mark.parametrize("n_held", [1, 2**22])
def test_concatenate_predictions(n_held, monkeypatch):
    monkeypatch.setattr(_predict, "_N_HELD", n_held)
    parts = torch.arange(14.0).view(7, 2).split(3)
    whole = concatenate_predictions(parts, 7)
    np.testing.assert_array_equal(whole, np.arange(14.0).reshape(7, 2))
    names = np.array(["cat", "dog"])
    codes = torch.tensor([0, 1, 1, 0, 1]).split(2)
    named = concatenate_predictions(codes, 5, names)
    assert named.tolist() == ["cat", "dog", "dog", "cat", "dog"]
