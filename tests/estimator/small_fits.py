"""Small data, and a classifier that trains on them for six steps."""

import numpy as np

from pnl_sklearn import PNLClassifier

TINY = {
    "max_epochs": 2,
    "steps_per_epoch": 3,
    "batch_size": 16,
    "labeled_batch_size": 8,
    "graph": None,  # three quarters of the time of so short a fit
    "random_state": 0,
}
TRUTH = np.arange(60) % 3
Y = np.where(np.arange(60) < 18, TRUTH, -1)
X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
X += 3 * np.eye(5, dtype=np.float32)[TRUTH]
IMAGES = np.random.default_rng(1).normal(size=(60, 8, 8)).astype(np.float32)

same = np.testing.assert_array_equal


def tiny(**params):
    """Return a classifier that fits fast."""
    return PNLClassifier(**(TINY | params))


def predictions(**params):
    """Return the probabilities that a classifier with some parameters predicts."""
    return tiny(**params).fit(X, Y).predict_proba(X)
