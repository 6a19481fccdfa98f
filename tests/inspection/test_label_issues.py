"""Labels that cross-validation contradicts."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading

from pnl_sklearn import PNLClassifier
from pnl_sklearn.inspection import find_label_issues
from pnl_sklearn.model_selection import hide_labels

X, TRUTH = make_moons(600, noise=0.1, random_state=0)
Y = hide_labels(TRUTH, 40, random_state=0)
LABELED = np.flatnonzero(Y != -1)
# Without its graph, which takes most of the time of a small fit.
TINY = PNLClassifier(max_epochs=1, steps_per_epoch=10, graph=None, random_state=0)
SPREADING = LabelSpreading(kernel="knn", n_neighbors=7)


@pytest.mark.parametrize("strings", [False, True])
def test_wrong_labels_are_found(strings):
    y = Y.copy()
    wrong = LABELED[[3, 17, 30]]
    y[wrong] = 1 - y[wrong]
    if strings:
        y = np.where(y == -1, None, np.array(["no", "yes"], dtype=object)[y])
    model = clone(TINY).set_params(max_epochs=3) if strings else SPREADING
    issues = find_label_issues(model, X, y, cv=StratifiedKFold(4))
    assert set(wrong) <= set(issues.indices)
    assert len(issues.indices) <= 8
    assert (np.diff(issues.margins) <= 0).all()
    assert ((issues.margins >= 0) & (issues.margins <= 1)).all()
    assert all(y[issues.indices] != issues.predicted)


def test_no_issues_in_separated_clusters():
    samples = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0)
    y = np.repeat([0, 1], 20)
    y[::2] = -1
    issues = find_label_issues(LabelSpreading(gamma=0.1), samples, y, cv=2)
    assert len(issues.indices) == len(issues.predicted) == len(issues.margins) == 0


def test_only_label_of_a_class_is_no_issue():
    y = np.where(np.arange(600) == LABELED[0], 2, Y)  # the only label of class 2
    with pytest.warns(UserWarning, match="Class 2 has 1"):
        issues = find_label_issues(TINY, X, y, cv=3)
    assert LABELED[0] not in issues.indices
    folds = RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)
    with pytest.raises(ValueError, match="a sample in several test sets"):
        find_label_issues(TINY, X, Y, cv=folds)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_supervised_estimator_raises(in_pipeline):
    model = LogisticRegression()
    if in_pipeline:
        model = make_pipeline(StandardScaler(), model)
    with pytest.raises(ValueError, match="treats -1 as a class"):
        find_label_issues(model, X, Y, cv=2)
