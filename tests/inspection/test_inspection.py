"""Whether unlabeled rows helped, what to label next, and which labels to doubt."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.stats import entropy, t
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
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
from skorch.callbacks import Callback

from pnl_sklearn import PNLClassifier, supervised_baseline
from pnl_sklearn.inspection import (
    HistoryDisplay,
    LabelBudgetDisplay,
    UnlabeledGain,
    find_label_issues,
    rank_for_labeling,
    unlabeled_gain,
)
from pnl_sklearn.model_selection import SemiSupervisedSplit, hide_labels

X, TRUTH = make_moons(600, noise=0.1, random_state=0)
Y = hide_labels(TRUTH, 40, random_state=0)
LABELED = np.flatnonzero(Y != -1)
TINY = PNLClassifier(max_epochs=1, steps_per_epoch=30, random_state=0)
SPREADING = LabelSpreading(kernel="knn", n_neighbors=7)


def test_the_interval_is_nadeaus_and_bengios():
    gain = UnlabeledGain(np.array([0.8, 0.9, 0.7]), np.full(3, 0.7), 0.25, 30)
    # Differences 0.1, 0.2, 0: mean 0.1, variance 0.01, times 1/3 + n_test / n_train.
    half = t.ppf(0.975, 2) * np.sqrt(0.01 * (1 / 3 + 0.25))
    assert gain.gain == pytest.approx(0.1)
    assert gain.interval == pytest.approx((0.1 - half, 0.1 + half))
    assert gain.n_needed == np.ceil(30 * (half / 0.1) ** 2)
    assert f"not proven; about {gain.n_needed} labels would prove" in str(gain)
    assert "0.800 with the unlabeled rows and 0.700 without: +0.100" in str(gain)


def test_what_is_said_of_clear_gains_and_of_none():
    baseline = np.array([0.5, 0.6, 0.7])
    slight = np.array([0.01, 0.0, -0.01])
    up = UnlabeledGain(baseline + 0.2 + slight, baseline, 0.25, 30)
    assert str(up).endswith("The unlabeled rows helped.")
    assert up.n_needed < 30
    down = UnlabeledGain(baseline - 0.2 + slight, baseline, 0.25, 30)
    assert str(down).endswith("The unlabeled rows did harm.")
    none = UnlabeledGain(baseline[[1, 2, 0]], baseline, 0.25, 30)
    assert abs(none.gain) < 1e-12  # 0 up to rounding
    assert none.n_needed is None
    assert str(none).endswith("not proven.")


def test_equal_differences_prove_nothing():
    baseline = np.array([0.5, 0.6, 0.7])
    for shift in (0, 0.1):
        gain = UnlabeledGain(baseline + shift, baseline, 0.25, 30)
        assert gain.interval == (-np.inf, np.inf)
        assert gain.n_needed is None
        assert "the same in all 3 splits" in str(gain)


def test_scores_are_paired_on_the_same_labeled_rows():
    training = SelfTrainingClassifier(LogisticRegression())
    gain = unlabeled_gain(training, X, Y, cv=StratifiedKFold(4))
    plain = cross_val_score(LogisticRegression(), X[LABELED], Y[LABELED], cv=4)
    np.testing.assert_allclose(gain.baseline_scores, plain)
    pooled = cross_val_score(training, X, Y, cv=SemiSupervisedSplit(4))
    np.testing.assert_allclose(gain.scores, pooled)
    assert gain.n_labeled == 40
    assert gain.test_share == pytest.approx(10 / 30)


def test_our_own_baseline_is_the_twin_in_a_pipeline_too():
    scaler = StandardScaler()
    for model, twin in [
        (TINY, supervised_baseline(TINY)),
        (make_pipeline(scaler, TINY), make_pipeline(scaler, supervised_baseline(TINY))),
    ]:
        split = SemiSupervisedSplit(2)
        gain = unlabeled_gain(model, X, Y, cv=split, scoring="neg_log_loss")
        for scores, estimator in [(gain.scores, model), (gain.baseline_scores, twin)]:
            expected = cross_val_score(
                estimator, X, Y, cv=split, scoring="neg_log_loss"
            )
            np.testing.assert_allclose(scores, expected)


def test_a_gain_that_is_there_is_found():
    cv = RepeatedStratifiedKFold(n_splits=4, n_repeats=5, random_state=0)
    y = hide_labels(TRUTH, 80, random_state=0)
    gain = unlabeled_gain(SPREADING, X, y, baseline=LogisticRegression(), cv=cv)
    assert gain.interval[0] > 0
    assert str(gain).endswith("The unlabeled rows helped.")
    nothing = y.copy()
    nothing[y != -1] = np.random.default_rng(0).permutation(y[y != -1])
    gain = unlabeled_gain(SPREADING, X, nothing, baseline=LogisticRegression(), cv=cv)
    assert "not proven" in str(gain)


def test_a_twin_that_is_given_is_the_one_derived():
    derived = unlabeled_gain(TINY, X, Y, cv=2, scoring="neg_log_loss")
    twin = supervised_baseline(TINY)
    given = unlabeled_gain(TINY, X, Y, baseline=twin, cv=2, scoring="neg_log_loss")
    np.testing.assert_array_equal(given.baseline_scores, derived.baseline_scores)


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


def test_gains_that_cannot_be_told():
    with pytest.raises(ValueError, match=r"LabelSpreading\(.* has no supervised twin"):
        unlabeled_gain(SPREADING, X, Y)
    with pytest.raises(ValueError, match=r"SelfTrainingClassifier.* has no supervised"):
        unlabeled_gain(SelfTrainingClassifier(), X, Y)
    with pytest.raises(ValueError, match="scoring"):
        unlabeled_gain(TINY, X, Y, scoring=["accuracy"])
    with pytest.raises(ValueError, match="gives one split"):
        unlabeled_gain(TINY, X, Y, cv=ShuffleSplit(1, random_state=0))
    with pytest.raises(ValueError, match="confidence"):
        unlabeled_gain(TINY, X, Y, confidence=1.5)


def test_the_plot_shows_every_split():
    pytest.importorskip("matplotlib").use("Agg")
    gain = UnlabeledGain(np.array([0.8, 0.9, 0.7]), np.full(3, 0.7), 0.25, 30)
    ax = gain.plot()
    drawn = [line.get_ydata() for line in ax.lines]
    np.testing.assert_allclose(drawn[:3], [[0.7, 0.8], [0.7, 0.9], [0.7, 0.7]])
    np.testing.assert_allclose(drawn[3], [0.7, 0.8])
    assert gain.plot(ax) is ax


@pytest.fixture(scope="module")
def fitted():
    return PNLClassifier(max_epochs=1, steps_per_epoch=60, random_state=0).fit(X, Y)


def test_disagreement_is_the_jensen_shannon_divergence(fitted):
    inputs = X.astype(np.float32)
    each = [net.predict_proba(inputs).astype(float) for net in fitted.submodels_]
    # The mean Kullback-Leibler divergence of each from their mean.
    divergence = np.mean([entropy(p, np.mean(each, 0), axis=1) for p in each], axis=0)
    rows = rank_for_labeling(fitted, X, 20, diverse=False)
    assert (np.diff(divergence[rows]) <= 1e-7).all()
    assert divergence[rows].min() >= np.sort(divergence)[-20] - 1e-7
    model = make_pipeline(StandardScaler(), fitted)
    model[0].fit(X)
    scaled = model[0].transform(X)
    expected = rank_for_labeling(fitted, scaled, 20, diverse=False)
    np.testing.assert_array_equal(
        rank_for_labeling(model, X, 20, diverse=False), expected
    )


def test_entropy_and_margin():
    model = LogisticRegression().fit(X[LABELED], Y[LABELED])
    p = model.predict_proba(X)
    expected = np.argsort(-entropy(p, axis=1), kind="stable")[:15]
    found = rank_for_labeling(model, X, 15, strategy="entropy", diverse=False)
    np.testing.assert_array_equal(found, expected)
    margins = np.abs(p[:, 0] - p[:, 1])
    found = rank_for_labeling(model, X, 15, strategy="margin", diverse=False)
    np.testing.assert_allclose(margins[found], np.sort(margins)[:15])


class Undecided(BaseEstimator):
    """Says of every row that it knows nothing."""

    classes_ = (0, 1)

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def test_diverse_rows_are_of_all_clusters():
    rng = np.random.default_rng(0)
    centers = 20 * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    cluster = np.repeat(np.arange(4), [25, 5, 5, 5])
    rows = centers[cluster] + rng.normal(size=(40, 2))
    chosen = rank_for_labeling(Undecided(), rows, 4, strategy="entropy", random_state=0)
    assert set(cluster[chosen]) == {0, 1, 2, 3}
    images = rows.reshape(40, 1, 1, 2)
    again = rank_for_labeling(
        Undecided(), images, 4, strategy="entropy", random_state=0
    )
    np.testing.assert_array_equal(again, chosen)
    twins = np.zeros((12, 2))  # all rows alike: still as many as asked for
    chosen = rank_for_labeling(Undecided(), twins, 5, strategy="margin", random_state=0)
    assert len(set(chosen)) == 5


def test_a_pipeline_prepares_what_is_grouped():
    texts = np.array(
        [f"{word} {word}s" for word in ("ant", "bee", "cow", "dog", "elk")]
    )
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    pipeline.fit(texts[:4], [0, 1, 0, 1])
    rows = rank_for_labeling(pipeline, texts, 3, strategy="entropy", random_state=0)
    assert len(set(rows)) == 3
    alone = make_pipeline(LogisticRegression()).fit(X[LABELED], Y[LABELED])
    assert (
        len(
            rank_for_labeling(alone, coo_array(X), 4, strategy="margin", random_state=0)
        )
        == 4
    )


def test_queries_that_cannot_be_answered(fitted):
    with pytest.raises(NotFittedError):
        rank_for_labeling(clone(TINY), X)
    with pytest.raises(ValueError, match="n_instances=601, but X has 600 rows"):
        rank_for_labeling(fitted, X, 601)
    with pytest.raises(TypeError, match="LabelSpreading has no submodels"):
        rank_for_labeling(SPREADING.fit(X, Y), X)
    with pytest.raises(ValueError, match="strategy"):
        rank_for_labeling(fitted, X, strategy="random")


@pytest.mark.parametrize("strings", [False, True])
def test_planted_wrong_labels_are_suspected(strings):
    y = Y.copy()
    wrong = LABELED[[3, 17, 30]]
    y[wrong] = 1 - y[wrong]
    if strings:
        y = np.where(y == -1, None, np.array(["no", "yes"], dtype=object)[y])
    model = clone(TINY).set_params(max_epochs=3) if strings else SPREADING
    suspects = find_label_issues(model, X, y, cv=StratifiedKFold(4))
    assert set(wrong) <= set(suspects.rows)
    assert len(suspects.rows) <= 8
    assert (np.diff(suspects.margins) <= 0).all()
    assert ((suspects.margins >= 0) & (suspects.margins <= 1)).all()
    assert all(y[suspects.rows] != suspects.predicted)


def test_no_label_is_suspected_without_a_reason():
    rows = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0)
    y = np.repeat([0, 1], 20)
    y[::2] = -1
    suspects = find_label_issues(LabelSpreading(gamma=0.1), rows, y, cv=2)
    assert len(suspects.rows) == len(suspects.predicted) == len(suspects.margins) == 0


def test_what_cannot_be_judged_is_not_suspected():
    y = np.where(np.arange(600) == LABELED[0], 2, Y)  # the one label of a class
    with pytest.warns(UserWarning, match="Class 2 has 1"):
        suspects = find_label_issues(TINY, X, y, cv=3)
    assert LABELED[0] not in suspects.rows
    folds = RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)
    with pytest.raises(ValueError, match="tests a row in several splits"):
        find_label_issues(TINY, X, Y, cv=folds)


@pytest.mark.parametrize("value", [np.nan, "a word"])
def test_without_distances_rows_are_not_spread(value):
    class Certain(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, X):
            return np.column_stack([np.linspace(0, 0.5, len(X))] * 2)

    rows = np.full((30, 2), value, dtype=object)
    model = Certain().fit(rows, np.arange(30) % 2)
    with pytest.raises(ValueError, match=r"no distance.*Give diverse=False"):
        rank_for_labeling(model, rows, n_instances=2, strategy="entropy")
    chosen = rank_for_labeling(
        model, rows, n_instances=2, strategy="entropy", diverse=False
    )
    assert len(chosen) == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda model: find_label_issues(model, X, Y, cv=2),
        lambda model: unlabeled_gain(model, X, Y, cv=2, baseline=LogisticRegression()),
    ],
)
@pytest.mark.parametrize("pipeline", [False, True])
def test_what_takes_minus_one_for_a_class_is_refused(act, pipeline):
    model = LogisticRegression()
    if pipeline:
        model = make_pipeline(StandardScaler(), model)
    with pytest.raises(ValueError, match="takes -1 for a class"):
        act(model)


def test_the_history_is_drawn(fitted):
    pytest.importorskip("matplotlib").use("Agg")
    losses, shares, predicted, covered = HistoryDisplay.from_estimator(fitted).axes_
    (row,) = fitted.history_
    drawn = {line.get_label(): line.get_ydata() for line in losses.lines}
    # There is no companion, and so no line of its loss.
    assert drawn == {
        "supervised": [row["supervised_loss"]],
        "negative": [row["negative_loss"]],
        "balance": [row["balance_loss"]],
    }
    assert [line.get_ydata() for line in shares.lines] == [
        [row["teacher_student_agreement"]],
        [row["negative_coverage"]],
    ]
    for ax, name in [(predicted, "class_distribution"), (covered, "class_coverage")]:
        assert [line.get_ydata()[0] for line in ax.lines] == row[name]
        assert [line.get_label() for line in ax.lines] == ["0", "1"]
    with pytest.raises(NotFittedError):
        HistoryDisplay.from_estimator(clone(TINY))
    piped = HistoryDisplay.from_estimator(make_pipeline("passthrough", fitted))
    assert piped.history == fitted.history_


def test_a_history_without_unlabeled_rows_is_drawn():
    pytest.importorskip("matplotlib").use("Agg")
    fitted = clone(TINY).fit(X, TRUTH)
    shares = HistoryDisplay.from_estimator(fitted).axes_[1]
    assert not shares.lines


def test_without_an_epoch_there_is_nothing_to_draw():
    pytest.importorskip("matplotlib").use("Agg")

    class Stop(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted in epoch 1"):
        fitted = clone(TINY).set_params(callbacks=[Stop()]).fit(X, Y)
    with pytest.raises(ValueError, match="before its first epoch was over"):
        HistoryDisplay.from_estimator(fitted)


def test_the_audit_is_drawn_where_labels_were_held_out():
    pytest.importorskip("matplotlib").use("Agg")
    audited = clone(TINY).set_params(validation_fraction=0.5).fit(X, Y)
    shares = HistoryDisplay.from_estimator(audited).axes_[1]
    drawn = {line.get_label(): line.get_ydata()[0] for line in shares.lines}
    (row,) = audited.history_
    assert drawn["held-out rows predicted right"] == row["valid_accuracy"]
    assert drawn["negative labels right on these"] == row["valid_negative_precision"]
    # Nothing is held out of a second fit.
    audited.set_params(validation_fraction=None, warm_start=True).fit(X, Y)
    shares = HistoryDisplay.from_estimator(audited).axes_[1]
    assert [len(line.get_ydata()) for line in shares.lines] == [2, 2, 2, 2]


def test_budgets_of_labels_are_drawn():
    pytest.importorskip("matplotlib").use("Agg")
    seen = []

    class Recorder(LogisticRegression):
        def fit(self, X, y):
            seen.append(y)
            return super().fit(X, y)

    y = TRUTH.copy()
    y[::3] = -1
    training = SelfTrainingClassifier(Recorder())
    display = LabelBudgetDisplay.from_estimator(
        training, X, y, budgets=[6, 40], n_draws=2, random_state=0
    )
    assert display.scores.shape == display.baseline_scores.shape == (2, 2)
    assert (display.baseline_scores > 0.6).all()
    # The last fit is of the baseline, with the last budget and no unlabeled row.
    assert len(seen[-1]) == 40
    n_fits = len(seen)
    with pytest.raises(ValueError, match="n_labeled=4000"):
        LabelBudgetDisplay.from_estimator(training, X, y, budgets=[6, 4000])
    assert len(seen) == n_fits
    assert set(seen[-1]) == {0, 1}
    means, _, _, baseline_means, *_ = display.ax_.lines
    np.testing.assert_allclose(means.get_ydata(), display.scores.mean(axis=1))
    expected = display.baseline_scores.mean(axis=1)
    np.testing.assert_allclose(baseline_means.get_ydata(), expected)
    again = LabelBudgetDisplay.from_estimator(
        training, X, y, budgets=[6, 40], n_draws=2, random_state=0, ax=display.ax_
    )
    np.testing.assert_array_equal(again.scores, display.scores)
    assert again.ax_ is display.ax_


def test_a_budget_of_our_own_is_compared_with_the_twin():
    pytest.importorskip("matplotlib").use("Agg")
    display = LabelBudgetDisplay.from_estimator(TINY, X, TRUTH, budgets=[10], n_draws=1)
    assert (display.name, display.baseline_name) == ("PNLClassifier", "supervised twin")
    with pytest.raises(ValueError, match="n_labeled=500"):
        LabelBudgetDisplay.from_estimator(TINY, X, TRUTH, budgets=[500])
