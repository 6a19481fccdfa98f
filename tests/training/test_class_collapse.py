"""Warnings about classes that a fit lost."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from pnl_sklearn import PNLClassifier, UnlabeledDataWarning
from pnl_sklearn.model_selection import hide_labels
from pnl_sklearn.objectives._class_prior import ClassPrior
from pnl_sklearn.training._metrics import warn_of_class_collapse

HISTORY = [{"class_distribution": [0.5, 0.496, 0.004]}]


def warning_messages(history, prior, codes, prior_is_known=True):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classes = np.array(["cat", "dog", "eel"])
        prior = ClassPrior(torch.tensor(prior), False, is_known=prior_is_known)
        warn_of_class_collapse(history, prior, classes, codes)
    return [str(warning.message) for warning in caught]


def test_warning_about_class_collapse():
    codes = np.concatenate([[0, 1, 2], np.full(300, -1)])
    uniform = [1 / 3] * 3
    (message,) = warning_messages(HISTORY, uniform, codes)
    assert "Class 'eel' has collapsed: 0.4 % of the unlabeled samples" in message
    assert "class_prior" in message
    (message,) = warning_messages(
        [{"class_distribution": [0.99, 0.01, 0.0]}], uniform, codes
    )
    assert "collapsed to one class, 'cat'" in message
    # The prior says that it is rare, or there are too few unlabeled samples, or none,
    # or no epoch.
    assert not warning_messages(HISTORY, [0.5, 0.49, 0.01], codes)
    assert not warning_messages(HISTORY, uniform, codes[:32])
    assert not warning_messages(
        [{"class_distribution": [np.nan] * 3}], uniform, codes[:3]
    )
    assert not warning_messages([], uniform, codes)
    # The prior is a guess, and the class may be rare.
    assert not warning_messages(
        [{"class_distribution": [0.5, 0.49, 0.01]}], uniform, codes, False
    )
    assert warning_messages(
        [{"class_distribution": [0.5, 0.495, 0.005]}], uniform, codes, False
    )
    # The class has no label.
    assert not warning_messages(HISTORY, uniform, np.delete(codes, 2))


def test_fit_warns_of_a_class_it_lost():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) + np.repeat([[0, 0], [6, 6]], 150, axis=0)
    y = np.full(300, -1)
    y[:30], y[150:180], y[30] = 0, 1, 2  # the label of 2 is among those of 0
    model = PNLClassifier(
        class_prior=None,
        graph=None,
        max_epochs=2,
        steps_per_epoch=30,
        net_params={"module__hidden": 128, "module__n_layers": 2},
        random_state=0,
    )
    with pytest.warns(
        UnlabeledDataWarning, match=r"Class 2 has collapsed: 0\.?\d* %"
    ) as caught:
        model.fit(X, y)
    assert caught[0].filename == __file__  # not that of a wrapper


def test_fit_keeps_a_rare_class():
    X, truth = make_blobs([1440, 60], centers=[[0, 0], [8, 0]], random_state=0)
    y = hide_labels(truth, 40, random_state=0)
    model = PNLClassifier(max_epochs=2, steps_per_epoch=30, random_state=0)
    assert model.fit(X, y).score(X, truth) > 0.99
