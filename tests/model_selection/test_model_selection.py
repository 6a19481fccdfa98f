"""Splits, scores and hidden labels where most labels are missing."""

import warnings

import numpy as np
import pytest
import sklearn
from scipy.sparse import coo_array
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    make_scorer,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from torch.utils.data import TensorDataset

from pnl_sklearn import PNLClassifier
from pnl_sklearn.model_selection import (
    SemiSupervisedSplit,
    hide_labels,
    make_labeled_scorer,
)

pd = pytest.importorskip("pandas")
hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
npst = pytest.importorskip("hypothesis.extra.numpy")

rng = np.random.default_rng(0)
TRUTH = np.arange(120) % 2
X = (rng.normal(size=(120, 3)) + 2 * TRUTH[:, None]).astype(np.float32)
Y = np.full(120, -1)
LABELED = np.sort(rng.permutation(120)[:24])
Y[LABELED] = TRUTH[LABELED]
GROUPS = np.arange(120) // 10
TINY = PNLClassifier(max_epochs=1, steps_per_epoch=20, random_state=0)


@pytest.mark.parametrize(
    ("cv", "inner"),
    [
        (3, StratifiedKFold(3)),
        (KFold(4), KFold(4)),
        (StratifiedKFold(3, shuffle=True, random_state=1),) * 2,
        (RepeatedStratifiedKFold(n_splits=2, n_repeats=3, random_state=1),) * 2,
        (ShuffleSplit(3, random_state=1),) * 2,
        (StratifiedShuffleSplit(3, test_size=0.3, random_state=1),) * 2,
        (GroupKFold(3),) * 2,
        (StratifiedGroupKFold(3),) * 2,
        (LeaveOneGroupOut(),) * 2,
    ],
)
def test_labeled_rows_are_split_as_the_splitter_does(cv, inner):
    split = SemiSupervisedSplit(cv)
    by_group = "Group" in type(inner).__name__
    parts = list(split.split(X, Y, GROUPS if by_group else None))
    assert len(parts) == split.get_n_splits(X, Y, GROUPS)
    groups = GROUPS[LABELED] if by_group else None
    expected = inner.split(X[LABELED], Y[LABELED], groups)
    for (train, test), (inner_train, inner_test) in zip(parts, expected, strict=True):
        assert set(test) == set(LABELED[inner_test])
        assert set(train) == set(LABELED[inner_train]) | set(np.flatnonzero(Y == -1))
        assert (np.diff(train) > 0).all()
        if by_group:
            in_train = set(GROUPS[np.intersect1d(train, LABELED)])
            assert not in_train & set(GROUPS[test])


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    y=npst.arrays(np.int64, st.integers(4, 60), elements=st.integers(-1, 3)),
    cv=st.sampled_from(
        [2, 5, KFold(2), KFold(2, shuffle=True), ShuffleSplit(4, test_size=0.5)]
    ),
)
def test_any_labels(y, cv):
    hypothesis.assume(2 <= (y != -1).sum() < len(y))
    hypothesis.assume(set(y) != {-1, 1})
    if isinstance(cv, int) and np.unique(y[y != -1], return_counts=True)[1].max() < 2:
        with pytest.raises(ValueError, match="No class has two labeled rows"):
            next(SemiSupervisedSplit(cv).split(y, y))
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Class")
        parts = list(SemiSupervisedSplit(cv).split(y, y))
    labeled, unlabeled = set(np.flatnonzero(y != -1)), set(np.flatnonzero(y == -1))
    for train, test in parts:
        assert not set(train) & set(test)
        assert set(train) | set(test) == labeled | unlabeled
        assert unlabeled <= set(train)
        assert set(test) <= labeled
        assert len(test)
    if not isinstance(cv, ShuffleSplit):
        assert sorted(np.concatenate([test for _, test in parts])) == sorted(labeled)


@pytest.mark.parametrize(
    "y",
    [
        np.where(Y == -1, np.nan, Y),
        pd.Series(np.where(Y == -1, None, np.array(["no", "yes"])[Y])),
        np.where(Y == -1, "-1", np.array(["no", "yes"])[Y]),
        pd.array(np.where(Y == -1, pd.NA, Y.astype(object)), dtype="Int64"),
        Y.tolist(),
    ],
)
def test_every_mark_of_unlabeled_rows(y):
    found = SemiSupervisedSplit(3).split(X, y)
    for (train, test), (train_y, test_y) in zip(
        found, SemiSupervisedSplit(3).split(X, Y), strict=True
    ):
        np.testing.assert_array_equal(train, train_y)
        np.testing.assert_array_equal(test, test_y)


def test_inputs_of_any_kind():
    expected = [test.tolist() for _, test in SemiSupervisedSplit(2).split(X, Y)]
    for inputs in (X.tolist(), pd.DataFrame(X), coo_array(X), TensorDataset(), None):
        found = [test.tolist() for _, test in SemiSupervisedSplit(2).split(inputs, Y)]
        assert found == expected


@pytest.mark.parametrize(
    "cv",
    [
        5,
        StratifiedKFold(5),
        StratifiedGroupKFold(5),
        RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0),
    ],
)
def test_fewer_labels_than_folds(cv):
    y = np.full(40, -1)
    y[[0, 2, 4, 6, 8, 10, 1, 3, 5]] = [0] * 6 + [1] * 3
    groups = np.arange(40) if isinstance(cv, StratifiedGroupKFold) else None
    split = SemiSupervisedSplit(cv)
    with pytest.warns(UserWarning, match="Class 1 has 3 labeled rows.*the 5.*3 are"):
        parts = list(split.split(y, y, groups))
    n_repeats = 2 if isinstance(cv, RepeatedStratifiedKFold) else 1
    assert len(parts) == split.get_n_splits(y, y, groups) == 3 * n_repeats
    assert split.get_n_splits() == 5 * n_repeats
    for train, test in parts:
        assert sorted(y[test]) == [0, 0, 1]
        assert len(train) == 37


def test_one_label_of_a_class():
    y = np.array([1, 1, 1, 0, -1, -1])
    with pytest.warns(UserWarning, match="Class 0 has 1 .* 2 are used. Where its one"):
        parts = list(SemiSupervisedSplit(3).split(y, y))
    assert [0 in y[test] for _, test in parts] in ([True, False], [False, True])
    with pytest.raises(ValueError, match="1 labeled rows; two at least"):
        next(SemiSupervisedSplit(3).split(y[3:], y[3:]))


@pytest.mark.parametrize(
    "estimator",
    [
        LabelSpreading(),
        SelfTrainingClassifier(LogisticRegression()),
        make_pipeline(StandardScaler(), TINY),
    ],
)
def test_scores_of_scikit_learn_are_right(estimator):
    split = SemiSupervisedSplit(StratifiedKFold(3))
    scores = cross_val_score(estimator, X, Y, cv=split, scoring="roc_auc")
    for score, (train, test) in zip(scores, split.split(X, Y), strict=True):
        fitted = clone(estimator).fit(X[train], Y[train])
        expected = roc_auc_score(Y[test], fitted.predict_proba(X[test])[:, 1])
        assert score == pytest.approx(expected)


def test_searches():
    split = SemiSupervisedSplit(3)
    grid = {"selection__tolerance": [0.05, 0.2]}
    for search in (
        GridSearchCV(
            TINY, grid, cv=split, scoring=["f1_macro", "roc_auc"], refit=False
        ),
        RandomizedSearchCV(TINY, grid, n_iter=2, cv=split),
    ):
        results = search.fit(X, Y).cv_results_
        name = "roc_auc" if search.refit is False else "score"
        assert (results[f"mean_test_{name}"] > 0.8).all()
        assert f"split2_test_{name}" in results


def test_halving_over_epochs():
    search = HalvingGridSearchCV(
        clone(TINY),
        {"selection__tolerance": [0.05, 0.2, 0.4]},
        cv=SemiSupervisedSplit(2),
        resource="max_epochs",
        max_resources=3,
        min_resources=1,
    ).fit(X, Y)
    assert search.n_resources_ == [1, 3]
    assert search.best_score_ > 0.8
    for cv in (StratifiedKFold(2, shuffle=True), RepeatedStratifiedKFold(n_splits=2)):
        search.set_params(cv=SemiSupervisedSplit(cv))
        with pytest.raises(ValueError, match="must yield consistent folds"):
            search.fit(X, Y)


def test_groups_reach_the_splitter_by_name_and_by_routing():
    split = SemiSupervisedSplit(GroupKFold(3))
    model = LabelSpreading()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = cross_val_score(model, X, Y, cv=split, groups=GROUPS)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_val_score(model, X, Y, cv=split, params={"groups": GROUPS})
        refused = clone(split).set_split_request(groups=False)
        with pytest.raises(TypeError, match="unexpected argument"):
            cross_val_score(model, X, Y, cv=refused, params={"groups": GROUPS})
    np.testing.assert_array_equal(plain, routed)
    with pytest.raises(ValueError, match="groups"):
        next(split.split(X, Y))


@pytest.mark.parametrize("stratify", ["equal", "proportional", None])
def test_labels_are_kept_apart_from_folds_of_the_same_seed(stratify):
    # KFold tests on the first entries of this seed's permutation.
    for seed in range(5):
        y = hide_labels(TRUTH, 40, stratify=stratify, random_state=seed)
        folds = KFold(3, shuffle=True, random_state=seed).split(y)
        counts = [(y[test] != -1).sum() for _, test in folds]
        assert min(counts) >= 5  # 13 or so in each


@pytest.mark.parametrize(
    ("cv", "y", "message"),
    [
        (PredefinedSplit(TRUTH), Y, "names rows of X"),
        ([(LABELED[:12], LABELED[12:])], Y, "names rows of X"),
        (2, np.array([-1, 1] * 60), "y holds only -1 and 1"),
        (2, None, "SemiSupervisedSplit needs y"),
    ],
)
def test_splits_that_cannot_be(cv, y, message):
    with pytest.raises(ValueError, match=message):
        next(SemiSupervisedSplit(cv).split(X, y))


class Fixed:
    """A classifier with given answers: the first column says how likely class 1 is."""

    _estimator_type = "classifier"

    def __init__(self):
        self.classes_ = np.array([0, 1])

    def __sklearn_tags__(self):
        return LogisticRegression().__sklearn_tags__()

    def predict_proba(self, X):
        return np.stack([1 - X[:, 0], X[:, 0]], axis=1)

    def predict(self, X):
        return (X[:, 0] > 0.5).astype(int)

    def fit(self, X, y):
        return self


ANSWERS = np.array([[0.1], [0.9], [0.6], [0.7], [0.2]])
TARGETS = np.array([0, 1, 0, -1, -1])
SHARES = np.array([3.0, 2.0, 1.0, 8.0, 9.0])


def test_scores_of_known_targets():
    def score(name, **params):
        return make_labeled_scorer(name)(Fixed(), ANSWERS, TARGETS, **params)

    # Of the rows 0, 1, 2 the third is wrong; row 1 is ranked above both others.
    assert score("accuracy") == pytest.approx(2 / 3)
    assert score("accuracy", sample_weight=SHARES) == pytest.approx(5 / 6)
    assert score("roc_auc") == 1.0
    # F1 of class 1: precision 1/2, recall 1; of class 0: precision 1, recall 1/2.
    assert score("f1_macro") == pytest.approx(2 / 3)
    assert score(make_scorer(f1_score)) == pytest.approx(2 / 3)
    assert score(lambda model, X, y: len(X)) == 3
    assert score(lambda model, X, y, by: by * len(X), by=np.float64(2)) == 6
    unknown = np.full(5, np.nan)
    with pytest.raises(ValueError, match="No target is known"):
        make_labeled_scorer("accuracy")(Fixed(), ANSWERS, unknown)


def test_the_own_score_of_known_targets():
    y = np.array([0, 1, 1, -1])
    model = DummyClassifier(strategy="constant", constant=1).fit(np.zeros((4, 1)), y)
    scorer = make_labeled_scorer(None)
    assert scorer(model, np.zeros((4, 1)), y) == pytest.approx(2 / 3)
    weights = np.array([2.0, 1, 1, 5])
    assert scorer(model, np.zeros((4, 1)), y, sample_weight=weights) == 0.5


@pytest.mark.parametrize(
    "scoring", [["accuracy", "roc_auc"], {"accuracy": "accuracy", "roc_auc": "roc_auc"}]
)
def test_several_scores_over_plain_folds(scoring):
    folds = KFold(3)
    scores = cross_validate(
        LabelSpreading(), X, Y, cv=folds, scoring=make_labeled_scorer(scoring)
    )
    for i, (train, test) in enumerate(folds.split(X)):
        model = LabelSpreading().fit(X[train], Y[train])
        known = test[Y[test] != -1]
        accuracy = accuracy_score(Y[known], model.predict(X[known]))
        area = roc_auc_score(Y[known], model.predict_proba(X[known])[:, 1])
        assert scores["test_accuracy"][i] == pytest.approx(accuracy)
        assert scores["test_roc_auc"][i] == pytest.approx(area)


def test_weights_are_routed_to_the_scorer():
    weights = np.where(TRUTH == 1, 5.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        accuracy = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        scores = cross_val_score(
            LabelSpreading(),
            X,
            Y,
            cv=KFold(2),
            scoring=make_labeled_scorer(accuracy),
            params={"sample_weight": weights},
        )
    for score, (train, test) in zip(scores, KFold(2).split(X), strict=True):
        model = LabelSpreading().fit(X[train], Y[train])
        known = test[Y[test] != -1]
        correct = model.predict(X[known]) == Y[known]
        assert score == pytest.approx(np.average(correct, weights=weights[known]))


@pytest.mark.parametrize(
    ("n", "stratify", "counts"),
    [
        (9, "equal", [3, 3, 3]),
        (30, "equal", [13, 13, 4]),
        (9, "proportional", [5, 3, 1]),
        (3, "proportional", [1, 1, 1]),
    ],
)
def test_hidden_labels_are_stratified(n, stratify, counts):
    y = np.repeat([4, 1, 7, -1], [50, 30, 4, 10])  # 1 has 30 rows, 4 has 50, 7 has 4
    for seed in range(5):
        hidden = hide_labels(y, n, stratify=stratify, random_state=seed)
        kept = hidden != -1
        np.testing.assert_array_equal(hidden[kept], y[kept])
        found = [(hidden == k).sum() for k in (4, 1, 7)]
        assert sum(found) == n
        assert np.abs(np.subtract(found, counts)).max() <= (n == 9 and counts[0] == 5)
    assert not np.array_equal(hidden, hide_labels(y, n, random_state=99))


def test_hidden_labels_at_random():
    y = np.repeat([0, 1], [90, 10])
    draws = [hide_labels(y, 10, stratify=None, random_state=i) for i in range(300)]
    assert {(draw != -1).sum() for draw in draws} == {10}
    # Of 10 out of 100 rows, one is of class 1 on average; its variance is below 0.9.
    mean = np.mean([(draw == 1).sum() for draw in draws])
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
def test_hidden_labels_serve_scikit_learn(y, dtype):
    hidden = hide_labels(y, 4, random_state=0)
    assert hidden.dtype == dtype
    assert sum(label == -1 for label in hidden) == len(y) - 4
    inputs = np.arange(len(y))[:, None] % 2
    model = SelfTrainingClassifier(LogisticRegression()).fit(inputs, hidden)
    assert set(model.classes_) == set(np.asarray(y)[:2].tolist())
    assert PNLClassifier(max_epochs=1, steps_per_epoch=1).fit(inputs, hidden)


@pytest.mark.parametrize(
    ("n", "message"),
    [(11, "y holds 10 labels"), (1, "less than the 2 classes"), (0, "n_labeled")],
)
def test_hiding_the_impossible(n, message):
    with pytest.raises(ValueError, match=message):
        hide_labels([0, 1] * 5 + [-1], n)
