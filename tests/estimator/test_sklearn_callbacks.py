"""scikit-learn's own callbacks, since its version 1.9."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_fits import TRUTH, X, Y, same, tiny

from pnl_sklearn.model_selection import SemiSupervisedSplit, make_labeled_scorer

callback = pytest.importorskip("sklearn.callback")


class Recorder:
    """Records the tasks that begin and end, and stops after an epoch."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.began, self.ended, self.scores = [], [], []
        self.is_set_up = 0

    def setup(self, estimator, context):
        self.is_set_up += 1

    def teardown(self, estimator, context):
        self.is_set_up -= 1

    def on_fit_task_begin(self, estimator, context):
        self.began.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append((context.task_name, context.task_id))
        self.scores.append(fitted_estimator.score(X, TRUTH))
        return context.task_name == "epoch" and context.task_id == self.stop_after


def test_tasks_are_the_fit_and_its_epochs():
    recorder = Recorder()
    estimator = tiny(max_epochs=3).set_callbacks(recorder).fit(X, Y)
    assert recorder.began == [("fit", 0), *(("epoch", k) for k in range(3))]
    assert recorder.ended == [*(("epoch", k) for k in range(3)), ("fit", 0)]
    assert recorder.is_set_up == 0
    # Scored with the weights of that epoch.
    short = tiny(max_epochs=3).set_callbacks(Recorder(stop_after=0)).fit(X, Y)
    assert recorder.scores[0] == short.score(X, TRUTH)
    assert recorder.scores[-1] == estimator.score(X, TRUTH)
    same(estimator.predict_proba(X), tiny(max_epochs=3).fit(X, Y).predict_proba(X))


def test_true_ends_the_fit():
    estimator = tiny(max_epochs=3).set_callbacks(Recorder(stop_after=1)).fit(X, Y)
    assert estimator.n_iter_ == 2
    estimator.set_callbacks().set_params(warm_start="resume").fit(X, Y)
    same(estimator.predict_proba(X), tiny(max_epochs=3).fit(X, Y).predict_proba(X))


def test_teardown_follows_an_error():
    recorder = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        tiny().set_callbacks(recorder).fit(X * np.nan, Y)
    assert recorder.is_set_up == 0


@pytest.fixture
def monitor():
    """Monitor of the accuracy on labeled samples."""
    return callback.ScoringMonitor(
        scoring={"accuracy": make_labeled_scorer("accuracy")}
    )


def n_epochs(monitor):
    rows = monitor.get_logs().data
    return sum(row["task_name"] == "epoch" for row in rows)


def test_scoring_monitor_scores_each_epoch(monitor):
    estimator = tiny(max_epochs=3).set_callbacks(monitor).fit(X, Y)
    rows = monitor.get_logs().data
    epochs = [row for row in rows if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in epochs] == [0, 1, 2]
    assert epochs[-1]["accuracy"] == estimator.score(X, Y)


def test_scoring_monitor_of_a_step_of_a_pipeline(monitor):
    make_pipeline(StandardScaler(), tiny().set_callbacks(monitor)).fit(X, Y)
    assert n_epochs(monitor) == 2


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_scoring_monitor_in_a_grid_search(n_jobs, monitor):
    estimator = tiny().set_callbacks(monitor)
    grid = {"lr": [0.01, 0.02]}
    GridSearchCV(estimator, grid, cv=SemiSupervisedSplit(3), n_jobs=n_jobs).fit(X, Y)
    # Two settings, three folds and a refit, two epochs each.
    assert n_epochs(monitor) == (2 * 3 + 1) * 2


def test_progress_bar_of_sklearn(capsys):
    tiny().set_callbacks(progress_bar()).fit(X, Y)
    assert "PNLClassifier" in capsys.readouterr().out


def test_progress_bar_of_a_pipeline(capsys):
    pipeline = make_pipeline(StandardScaler(), tiny()).set_callbacks(progress_bar())
    pipeline.fit(X, Y)
    shown = capsys.readouterr().out
    assert "PNLClassifier" in shown
    assert "100%" in shown


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_progress_bar_of_a_grid_search(n_jobs, capsys):
    search = GridSearchCV(tiny(), {"lr": [0.01, 0.02]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(progress_bar()).fit(X, Y)
    assert "PNLClassifier" in capsys.readouterr().out


def progress_bar():
    pytest.importorskip("rich")
    return callback.ProgressBar()
