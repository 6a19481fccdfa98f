"""Labels that are hidden for experiments."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.semi_supervised import SelfTrainingClassifier

from pnl_sklearn import PNLClassifier
from pnl_sklearn.model_selection import hide_labels


@pytest.mark.parametrize(
    ("n", "stratify", "counts"),
    [
        (9, "equal", [3, 3, 3]),
        (30, "equal", [13, 13, 4]),
        (9, "proportional", [5, 3, 1]),
        (3, "proportional", [1, 1, 1]),
    ],
)
def test_hide_labels_stratified(n, stratify, counts):
    y = np.repeat([4, 1, 7, -1], [50, 30, 4, 10])  # class 4: 50 labels, 1: 30, 7: 4
    for seed in range(5):
        hidden = hide_labels(y, n, stratify=stratify, random_state=seed)
        kept = hidden != -1
        np.testing.assert_array_equal(hidden[kept], y[kept])
        found = [(hidden == k).sum() for k in (4, 1, 7)]
        assert sum(found) == n
        assert np.abs(np.subtract(found, counts)).max() <= (n == 9 and counts[0] == 5)
    assert not np.array_equal(hidden, hide_labels(y, n, random_state=99))


def test_hide_labels_at_random():
    y = np.repeat([0, 1], [90, 10])
    splits = [hide_labels(y, 10, stratify=None, random_state=i) for i in range(300)]
    assert {(y_few != -1).sum() for y_few in splits} == {10}
    # Of 10 out of 100 labels one is of class 1 on average, with a variance below 0.9.
    mean = np.mean([(y_few == 1).sum() for y_few in splits])
    assert mean == pytest.approx(1, abs=4 * np.sqrt(0.9 / 300))


@pytest.mark.parametrize(
    ("y", "dtype"),
    [
        (np.array([0, 1] * 5, np.int8), np.int8),
        (np.array([0, 1] * 5, np.uint8), np.int64),
        (np.array([False, True] * 5), np.int64),
        (np.array([0.0, 1.0, np.nan] * 4), np.float64),
        (np.array([0, 1, None] * 4), np.int64),
        (["no", "yes"] * 5, object),
    ],
)
def test_scikit_learn_and_this_package_fit_hidden_labels(y, dtype):
    hidden = hide_labels(y, 4, random_state=0)
    assert hidden.dtype == dtype
    assert sum(label == -1 for label in hidden) == len(y) - 4
    inputs = np.arange(len(y))[:, None] % 2
    model = SelfTrainingClassifier(LogisticRegression()).fit(inputs, hidden)
    assert set(model.classes_) == set(np.asarray(y)[:2].tolist())
    assert PNLClassifier(max_epochs=1, steps_per_epoch=1, graph=None).fit(
        inputs, hidden
    )


@pytest.mark.parametrize("stratify", ["equal", "proportional", None])
def test_kept_labels_are_spread_over_folds_of_the_same_seed(stratify):
    # KFold's first test set is the start of the permutation drawn from this seed.
    for seed in range(5):
        y = hide_labels(np.arange(120) % 2, 40, stratify=stratify, random_state=seed)
        folds = KFold(3, shuffle=True, random_state=seed).split(y)
        counts = [(y[test] != -1).sum() for _, test in folds]
        assert min(counts) >= 5  # 13 or so in each


@pytest.mark.parametrize(
    ("n", "message"),
    [(11, "y has 10 labels"), (1, "less than the 2 classes"), (0, "n_labeled")],
)
def test_hide_labels_errors(n, message):
    with pytest.raises(ValueError, match=message):
        hide_labels([0, 1] * 5 + [-1], n)
