"""Plots of the history of a fit, and of scores by the number of labels."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from skorch.callbacks import Callback

from pnl_sklearn import PNLClassifier
from pnl_sklearn.inspection import HistoryDisplay, LabelBudgetDisplay
from pnl_sklearn.model_selection import hide_labels

pytest.importorskip("matplotlib").use("Agg")

X, TRUTH = make_moons(600, noise=0.1, random_state=0)
Y = hide_labels(TRUTH, 40, random_state=0)
# Without its graph, which takes most of the time of a small fit.
TINY = PNLClassifier(max_epochs=1, steps_per_epoch=10, graph=None, random_state=0)


@pytest.fixture(scope="module")
def fitted():
    return clone(TINY).fit(X, Y)


def test_history_display_draws_the_history(fitted):
    losses, shares, predicted, covered = HistoryDisplay.from_estimator(fitted).axes_
    (record,) = fitted.history_
    drawn = {line.get_label(): line.get_ydata() for line in losses.lines}
    # There is no consistency regularization, and so no line of its loss.
    assert drawn == {
        "supervised": [record["supervised_loss"]],
        "negative": [record["negative_loss"]],
        "balance": [record["balance_loss"]],
    }
    assert [line.get_ydata() for line in shares.lines] == [
        [record["teacher_student_agreement"]],
        [record["negative_coverage"]],
    ]
    for ax, name in [(predicted, "class_distribution"), (covered, "class_coverage")]:
        assert [line.get_ydata()[0] for line in ax.lines] == record[name]
        assert [line.get_label() for line in ax.lines] == ["0", "1"]
    with pytest.raises(NotFittedError):
        HistoryDisplay.from_estimator(clone(TINY))
    piped = HistoryDisplay.from_estimator(make_pipeline("passthrough", fitted))
    assert piped.history == fitted.history_


def test_history_display_without_unlabeled_samples():
    fitted = clone(TINY).fit(X, TRUTH)
    shares = HistoryDisplay.from_estimator(fitted).axes_[1]
    assert not shares.lines


def test_history_display_of_an_empty_history():
    class Stop(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted in epoch 1"):
        fitted = clone(TINY).set_params(callbacks=[Stop()]).fit(X, Y)
    with pytest.raises(ValueError, match="before its first epoch"):
        HistoryDisplay.from_estimator(fitted)


def test_history_display_of_held_out_labels():
    validated = clone(TINY).set_params(validation_fraction=0.5).fit(X, Y)
    shares = HistoryDisplay.from_estimator(validated).axes_[1]
    drawn = {line.get_label(): line.get_ydata()[0] for line in shares.lines}
    (record,) = validated.history_
    assert drawn["accuracy on held-out samples"] == record["valid_accuracy"]
    assert (
        drawn["correct pseudo-negative labels, held-out"]
        == record["valid_negative_precision"]
    )
    # Nothing is held out of a second fit.
    validated.set_params(validation_fraction=None, warm_start=True).fit(X, Y)
    shares = HistoryDisplay.from_estimator(validated).axes_[1]
    assert [len(line.get_ydata()) for line in shares.lines] == [2, 2, 2, 2]


def test_history_display_draws_monitored_label_change(fitted):
    records = [fitted.history_[0] | {"epoch": i} for i in (1, 2)]
    records[0]["label_change"], records[1]["label_change"] = np.nan, 0.25
    shares = HistoryDisplay(records, fitted.classes_).plot().axes_[1]
    drawn = {line.get_label(): line.get_ydata() for line in shares.lines}
    changed = drawn["predicted classes changed since last epoch"]
    np.testing.assert_array_equal(changed, [np.nan, 0.25])


def test_label_budget_display_draws_all_splits():
    seen = []

    class Recorder(LogisticRegression):
        def fit(self, X, y):
            seen.append(y)
            return super().fit(X, y)

    y = TRUTH.copy()
    y[::3] = -1
    self_training = SelfTrainingClassifier(Recorder())
    display = LabelBudgetDisplay.from_estimator(
        self_training, X, y, budgets=[6, 40], n_splits=2, random_state=0
    )
    assert display.scores.shape == display.baseline_scores.shape == (2, 2)
    assert (display.baseline_scores > 0.6).all()
    # The last fit is that of the baseline, with the labels of the last budget.
    assert len(seen[-1]) == 40
    n_fits = len(seen)
    with pytest.raises(ValueError, match="n_labeled=4000"):
        LabelBudgetDisplay.from_estimator(self_training, X, y, budgets=[6, 4000])
    assert len(seen) == n_fits
    assert set(seen[-1]) == {0, 1}
    means, _, _, baseline_means, *_ = display.ax_.lines
    np.testing.assert_allclose(means.get_ydata(), display.scores.mean(axis=1))
    expected = display.baseline_scores.mean(axis=1)
    np.testing.assert_allclose(baseline_means.get_ydata(), expected)
    again = LabelBudgetDisplay.from_estimator(
        self_training, X, y, budgets=[6, 40], n_splits=2, random_state=0, ax=display.ax_
    )
    np.testing.assert_array_equal(again.scores, display.scores)
    assert again.ax_ is display.ax_


def test_label_budget_display_with_the_supervised_baseline():
    display = LabelBudgetDisplay.from_estimator(
        TINY, X, TRUTH, budgets=[10], n_splits=1
    )
    assert (display.name, display.baseline_name) == (
        "PNLClassifier",
        "supervised baseline",
    )
    with pytest.raises(ValueError, match="n_labeled=500"):
        LabelBudgetDisplay.from_estimator(TINY, X, TRUTH, budgets=[500])
