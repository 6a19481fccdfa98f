"""Metrics of a fit, and the warning of class collapse."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from skorch.callbacks import EarlyStopping
from torch import nn

from pnl_sklearn import PNLClassifier, UnlabeledDataWarning
from pnl_sklearn.data._sources import ArraySource
from pnl_sklearn.model_selection import hide_labels
from pnl_sklearn.networks import MLP
from pnl_sklearn.objectives._class_prior import ClassPrior
from pnl_sklearn.training._metrics import (
    RunningMean,
    label_change_metric,
    summary,
    validation_metrics,
    warn_of_class_collapse,
)

CLASSES = np.array(["cat", "dog", "eel"])
CODES = np.concatenate([[0, 1, 2], np.full(300, -1)])
UNIFORM = [1 / 3] * 3


class TablePredictor:
    """Stands for a submodel: sample i, whose only feature is i, has the i-th row."""

    def __init__(self, probabilities):
        self.table = torch.tensor(probabilities, dtype=torch.float64)

    def log_probabilities(self, x):
        return self.table[x[:, 0].long()].log()


def table_source(n_samples):
    return ArraySource(np.arange(float(n_samples))[:, None], (1,), "cpu")


def test_running_mean_of_two_vectors_a_step():
    vectors = torch.randn(26, 3, generator=torch.Generator().manual_seed(0))
    mean = RunningMean()
    for pair in vectors.view(13, 2, 3):  # of both students of a step
        mean.add(list(pair))
    torch.testing.assert_close(mean.value(), vectors.mean(dim=0))


def test_running_mean_copies_the_first_vector():
    vector = torch.ones(2)
    mean = RunningMean()
    mean.add([vector])
    mean.add([vector.fill_(3)])
    assert mean.value().tolist() == [2, 2]


def test_summary_names_the_means():
    losses = [1.0, 0.5, 0.25, 0.125, 0.0625]
    by_class = [0.5, 0.3, 0.2], [4.0, 6.0, 0.0], [1.0, 6.0, 0.0], [2.0, 3.0, 0.0]
    row = summary([*losses, *np.ravel(by_class)], n_classes=3)
    names = ["train_loss", "supervised_loss", "negative_loss", "balance_loss"]
    assert [row[name] for name in [*names, "consistency_loss"]] == losses
    assert row["class_distribution"] == [0.5, 0.3, 0.2]
    assert row["teacher_student_agreement"] == 0.5
    assert row["negative_coverage"] == 0.7
    np.testing.assert_array_equal(row["class_coverage"], [0.25, 1, np.nan])


def test_validation_metrics_by_hand():
    first = [[0.8, 0.15, 0.05], [0.05, 0.15, 0.8], [0.1, 0.7, 0.2], [0.3, 0.3, 0.4]]
    second = [[0.6, 0.3, 0.1], [0.05, 0.25, 0.7], [0.5, 0.3, 0.2], [0.3, 0.3, 0.4]]
    codes = np.array([0, 0, 1, -1])
    metric = validation_metrics(
        table_source(4), (1,), codes, lambda p: p < 0.12, device="cpu"
    )
    row = metric([TablePredictor(first), TablePredictor(second)])
    assert row["valid_loss"] == pytest.approx(-np.log([0.7, 0.05, 0.5]).mean())
    assert row["valid_accuracy"] == pytest.approx(2 / 3)
    # Six negative labels, of which two are those of the second sample's class.
    assert row["valid_negative_precision"] == pytest.approx(1 - 2 / 5)


def test_validation_precision_without_negative_labels_is_nan():
    metric = validation_metrics(
        table_source(1), (1,), np.array([0]), lambda p: p < 0, device="cpu"
    )
    row = metric([TablePredictor([[0.5, 0.5]])])
    assert np.isnan(row["valid_negative_precision"])


def test_validation_metrics_leave_random_state():
    """Of torch, and of a selection that has one."""
    codes = np.array([0, 1])
    select = CountingSelection()
    metric = validation_metrics(table_source(2), (1,), codes, select, device="cpu")
    state = torch.get_rng_state()
    metric([TablePredictor([[0.7, 0.3], [0.2, 0.8]])])
    assert torch.equal(torch.get_rng_state(), state)
    assert select.n_calls == 0


class CountingSelection:
    """Selects at random, and counts its calls."""

    n_calls = 0

    def __call__(self, probabilities):
        self.n_calls += 1
        return probabilities < torch.rand(len(probabilities), 1)


def test_label_change_is_the_fraction_of_other_predictions():
    codes = np.array([-1, 0, -1, -1, -1])
    metric = label_change_metric(table_source(5), (1,), codes, "cpu")

    def after(labels):
        table = np.eye(3)[labels] * 0.97 + 0.01
        return metric([TablePredictor(table), TablePredictor(table)])["label_change"]

    assert np.isnan(after([0, 0, 1, 2, 0]))
    assert after([0, 0, 1, 1, 0]) == 0.25
    assert after([0, 1, 1, 1, 0]) == 0  # the labeled sample does not count
    assert after([1, 1, 2, 0, 0]) == 0.75


def test_label_change_without_unlabeled_samples_is_nan():
    metric = label_change_metric(table_source(2), (1,), np.array([0, 1]), "cpu")
    assert np.isnan(metric([TablePredictor(np.eye(2))])["label_change"])


def test_fit_records_label_change_where_a_callback_monitors_it():
    X = np.random.default_rng(0).normal(size=(30, 2))
    y = np.where(np.arange(30) < 10, np.arange(30) % 2, -1)
    params = {"graph": None, "max_epochs": 2, "steps_per_epoch": 1, "random_state": 0}
    estimator = PNLClassifier(nn.Linear, **params).fit(X, y)
    assert not any("label_change" in row for row in estimator.history_)
    estimator.set_params(callbacks=[EarlyStopping("label_change")]).fit(X, y)
    first, second = (row["label_change"] for row in estimator.history_)
    assert np.isnan(first)
    assert 0 <= second <= 1


def collapse_messages(distribution, target=UNIFORM, codes=CODES, is_known=True):
    """Return the warnings after one epoch with this mean prediction."""
    prior = ClassPrior(torch.tensor(target), is_estimated=False, is_known=is_known)
    history = [] if distribution is None else [{"class_distribution": distribution}]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_class_collapse(history, prior, CLASSES, codes)
    assert {warning.category for warning in caught} <= {UnlabeledDataWarning}
    return [str(warning.message) for warning in caught]


def test_class_collapse_warning_names_the_classes():
    (message,) = collapse_messages([0.5, 0.496, 0.004])
    assert "Class 'eel' has collapsed: 0.4 % mean predicted probability" in message
    assert "class_prior" in message
    (message,) = collapse_messages([0.99, 0.01, 0.0])
    assert "collapsed to one class, 'cat'" in message


@pytest.mark.parametrize(
    ("distribution", "settings"),
    [
        # The class is as rare as the prior says.
        ([0.5, 0.496, 0.004], {"target": [0.5, 0.49, 0.01]}),
        # Too few unlabeled samples, or none.
        ([0.5, 0.496, 0.004], {"codes": CODES[:32]}),
        ([np.nan] * 3, {"codes": CODES[:3]}),
        # No epoch.
        (None, {}),
        # The class has no label.
        ([0.5, 0.496, 0.004], {"codes": np.delete(CODES, 2)}),
        # The class may be that rare: the prior is assumed.
        ([0.5, 0.49, 0.01], {"is_known": False}),
    ],
)
def test_no_class_collapse_warning(distribution, settings):
    assert not collapse_messages(distribution, **settings)


def test_class_collapse_warning_where_the_prior_is_assumed():
    assert collapse_messages([0.5, 0.495, 0.005], is_known=False)


def test_class_collapse_is_measured_by_the_initial_prior():
    """An estimated prior follows the predictions, to a collapsed class too."""
    prior = ClassPrior(torch.tensor(UNIFORM), is_estimated=True)
    for _ in range(2000):
        prior.update(torch.tensor([[0.55, 0.448, 0.002]]))
    history = [{"class_distribution": [0.55, 0.448, 0.002]}]
    with pytest.warns(UnlabeledDataWarning, match="Class 'eel' has collapsed"):
        warn_of_class_collapse(history, prior, CLASSES, CODES)


def test_fit_warns_of_class_collapse():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) + np.repeat([[0, 0], [6, 6]], 150, axis=0)
    y = np.full(300, -1)
    y[:30], y[150:180], y[30] = 0, 1, 2  # one label of 2, among those of 0
    model = PNLClassifier(
        partial(MLP, hidden=128, n_layers=2),  # without a linear classifier
        class_prior=None,
        graph=None,
        max_epochs=2,
        steps_per_epoch=30,
        random_state=0,
    )
    with pytest.warns(
        UnlabeledDataWarning, match=r"Class 2 has collapsed: 0\.?\d* %"
    ) as caught:
        model.fit(X, y)
    assert caught[0].filename == __file__  # not that of a wrapper


def test_two_collapsed_classes_are_named():
    codes = np.concatenate([np.arange(4), np.full(300, -1)])
    prior = ClassPrior(torch.full((4,), 0.25), is_estimated=False, is_known=True)
    history = [{"class_distribution": [0.5, 0.49, 0.006, 0.004]}]
    with pytest.warns(UnlabeledDataWarning, match="Classes 2, 3 have collapsed"):
        warn_of_class_collapse(history, prior, np.arange(4), codes)


def test_fit_keeps_a_rare_class():
    X, truth = make_blobs([1440, 60], centers=[[0, 0], [8, 0]], random_state=0)
    y = hide_labels(truth, 40, random_state=0)
    model = PNLClassifier(max_epochs=2, steps_per_epoch=30, random_state=0)
    assert model.fit(X, y).score(X, truth) > 0.99
