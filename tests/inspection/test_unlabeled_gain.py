"""Gain in score from unlabeled data, with its interval."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.stats import t
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from pnl_sklearn import PNLClassifier, supervised_baseline
from pnl_sklearn.inspection import UnlabeledGain, unlabeled_gain
from pnl_sklearn.model_selection import SemiSupervisedSplit, hide_labels

X, TRUTH = make_moons(600, noise=0.1, random_state=0)
Y = hide_labels(TRUTH, 40, random_state=0)
LABELED = np.flatnonzero(Y != -1)
# Without its graph, which takes most of the time of a small fit.
TINY = PNLClassifier(max_epochs=1, steps_per_epoch=5, graph=None, random_state=0)
SPREADING = LabelSpreading(kernel="knn", n_neighbors=7)


def test_interval_of_nadeau_and_bengio():
    gain = UnlabeledGain(np.array([0.8, 0.9, 0.7]), np.full(3, 0.7), 0.25, 30)
    # Differences 0.1, 0.2, 0: mean 0.1, variance 0.01, times 1/3 + n_test / n_train.
    half = t.ppf(0.975, 2) * np.sqrt(0.01 * (1 / 3 + 0.25))
    assert gain.gain == pytest.approx(0.1)
    assert gain.interval == pytest.approx((0.1 - half, 0.1 + half))
    assert gain.n_needed == np.ceil(30 * (half / 0.1) ** 2)
    assert f"not significant. About {gain.n_needed} labels" in str(gain)
    assert "0.800 with the unlabeled data and 0.700 without: +0.100" in str(gain)


def test_string_of_significant_and_zero_gains():
    baseline = np.array([0.5, 0.6, 0.7])
    slight = np.array([0.01, 0.0, -0.01])
    up = UnlabeledGain(baseline + 0.2 + slight, baseline, 0.25, 30)
    assert str(up).endswith("The unlabeled data helped.")
    assert up.n_needed < 30
    down = UnlabeledGain(baseline - 0.2 + slight, baseline, 0.25, 30)
    assert str(down).endswith("The unlabeled data lowered the score.")
    none = UnlabeledGain(baseline[[1, 2, 0]], baseline, 0.25, 30)
    assert abs(none.gain) < 1e-12  # 0 up to rounding
    assert none.n_needed is None
    assert str(none).endswith("The gain is not significant.")


def test_equal_differences_have_an_infinite_interval():
    baseline = np.array([0.5, 0.6, 0.7])
    for shift in (0, 0.1):
        gain = UnlabeledGain(baseline + shift, baseline, 0.25, 30)
        assert gain.interval == (-np.inf, np.inf)
        assert gain.n_needed is None
        assert "the same in all 3 splits" in str(gain)


def test_scores_equal_cross_val_score_on_the_same_splits():
    self_training = SelfTrainingClassifier(LogisticRegression())
    gain = unlabeled_gain(self_training, X, Y, cv=StratifiedKFold(4))
    plain = cross_val_score(LogisticRegression(), X[LABELED], Y[LABELED], cv=4)
    np.testing.assert_allclose(gain.baseline_scores, plain)
    expected = cross_val_score(self_training, X, Y, cv=SemiSupervisedSplit(4))
    np.testing.assert_allclose(gain.scores, expected)
    assert gain.n_labeled == 40
    assert gain.test_share == pytest.approx(10 / 30)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_default_baseline_is_the_supervised_baseline(in_pipeline):
    model, baseline = TINY, supervised_baseline(TINY)
    if in_pipeline:
        model = make_pipeline(StandardScaler(), model)
        baseline = make_pipeline(StandardScaler(), baseline)
    split, scoring = SemiSupervisedSplit(2), "neg_log_loss"
    gain = unlabeled_gain(model, X, Y, cv=split, scoring=scoring)
    expected = cross_val_score(model, X, Y, cv=split, scoring=scoring)
    np.testing.assert_allclose(gain.scores, expected)
    expected = cross_val_score(baseline, X, Y, cv=split, scoring=scoring)
    np.testing.assert_allclose(gain.baseline_scores, expected)
    given = unlabeled_gain(model, X, Y, baseline=baseline, cv=2, scoring=scoring)
    np.testing.assert_array_equal(given.baseline_scores, gain.baseline_scores)


def test_gain_of_label_spreading_is_significant():
    cv = RepeatedStratifiedKFold(n_splits=4, n_repeats=5, random_state=0)
    y = hide_labels(TRUTH, 80, random_state=0)
    gain = unlabeled_gain(SPREADING, X, y, baseline=LogisticRegression(), cv=cv)
    assert gain.interval[0] > 0
    assert str(gain).endswith("The unlabeled data helped.")
    permuted = y.copy()
    permuted[y != -1] = np.random.default_rng(0).permutation(y[y != -1])
    gain = unlabeled_gain(SPREADING, X, permuted, baseline=LogisticRegression(), cv=cv)
    assert "not significant" in str(gain)


def test_marks_and_forms_of_targets_and_inputs():
    expected = unlabeled_gain(TINY, X, Y, cv=2, scoring="f1_macro").scores
    for inputs, y in [
        (coo_array(X), np.where(Y == -1, None, Y)),
        (X.tolist(), np.where(Y == -1, np.nan, Y)),
    ]:
        gain = unlabeled_gain(TINY, inputs, y, cv=2, scoring="f1_macro")
        np.testing.assert_allclose(gain.scores, expected, atol=0.1)
    # LogisticRegression takes neither None nor objects.
    y = np.where(Y == -1, None, Y)
    unlabeled_gain(TINY, X, y, baseline=LogisticRegression(), cv=2)


def test_gain_errors():
    with pytest.raises(ValueError, match=r"LabelSpreading\(.* has no default baseline"):
        unlabeled_gain(SPREADING, X, Y)
    with pytest.raises(ValueError, match=r"SelfTrainingClassifier.* has no default"):
        unlabeled_gain(SelfTrainingClassifier(), X, Y)
    with pytest.raises(ValueError, match="scoring"):
        unlabeled_gain(TINY, X, Y, scoring=["accuracy"])
    with pytest.raises(ValueError, match="gives 1 split"):
        unlabeled_gain(TINY, X, Y, cv=ShuffleSplit(1, random_state=0))
    with pytest.raises(ValueError, match="confidence"):
        unlabeled_gain(TINY, X, Y, confidence=1.5)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_supervised_estimator_raises(in_pipeline):
    model = LogisticRegression()
    if in_pipeline:
        model = make_pipeline(StandardScaler(), model)
    with pytest.raises(ValueError, match="treats -1 as a class"):
        unlabeled_gain(model, X, Y, cv=2, baseline=LogisticRegression())


def test_plot_shows_every_split():
    pytest.importorskip("matplotlib").use("Agg")
    gain = UnlabeledGain(np.array([0.8, 0.9, 0.7]), np.full(3, 0.7), 0.25, 30)
    ax = gain.plot()
    drawn = [line.get_ydata() for line in ax.lines]
    np.testing.assert_allclose(drawn[:3], [[0.7, 0.8], [0.7, 0.9], [0.7, 0.7]])
    np.testing.assert_allclose(drawn[3], [0.7, 0.8])
    assert gain.plot(ax) is ax
