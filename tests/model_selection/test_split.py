"""Cross-validation of partly labeled data."""

import warnings

import numpy as np
import pytest
import sklearn
from scipy.sparse import coo_array
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
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
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from torch.utils.data import TensorDataset

from pnl_sklearn import PNLClassifier
from pnl_sklearn.model_selection import SemiSupervisedSplit

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
# Without its graph, which takes most of the time of a small fit.
TINY = PNLClassifier(max_epochs=1, steps_per_epoch=5, graph=None, random_state=0)


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
def test_labeled_samples_are_split_like_by_the_splitter(cv, inner):
    split = SemiSupervisedSplit(cv)
    by_group = "Group" in type(inner).__name__
    folds = list(split.split(X, Y, GROUPS if by_group else None))
    assert len(folds) == split.get_n_splits(X, Y, GROUPS)
    groups = GROUPS[LABELED] if by_group else None
    expected = inner.split(X[LABELED], Y[LABELED], groups)
    for (train, test), (inner_train, inner_test) in zip(folds, expected, strict=True):
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
def test_split_of_any_labels(y, cv):
    hypothesis.assume(2 <= (y != -1).sum() < len(y))
    hypothesis.assume(set(y) != {-1, 1})
    if isinstance(cv, int) and np.unique(y[y != -1], return_counts=True)[1].max() < 2:
        with pytest.raises(ValueError, match="No class has two labeled samples"):
            next(SemiSupervisedSplit(cv).split(y, y))
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Class")
        folds = list(SemiSupervisedSplit(cv).split(y, y))
    labeled, unlabeled = set(np.flatnonzero(y != -1)), set(np.flatnonzero(y == -1))
    for train, test in folds:
        assert not set(train) & set(test)
        assert set(train) | set(test) == labeled | unlabeled
        assert unlabeled <= set(train)
        assert set(test) <= labeled
        assert len(test)
    if not isinstance(cv, ShuffleSplit):
        assert sorted(np.concatenate([test for _, test in folds])) == sorted(labeled)


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
def test_split_with_every_mark_of_unlabeled_samples(y):
    found = SemiSupervisedSplit(3).split(X, y)
    for (train, test), (train_y, test_y) in zip(
        found, SemiSupervisedSplit(3).split(X, Y), strict=True
    ):
        np.testing.assert_array_equal(train, train_y)
        np.testing.assert_array_equal(test, test_y)


def test_split_of_any_kind_of_inputs():
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
def test_fewer_labels_than_folds_lower_the_number_of_folds(cv):
    y = np.full(40, -1)
    y[[0, 2, 4, 6, 8, 10, 1, 3, 5]] = [0] * 6 + [1] * 3
    groups = np.arange(40) if isinstance(cv, StratifiedGroupKFold) else None
    split = SemiSupervisedSplit(cv)
    with pytest.warns(
        UserWarning,
        match="Class 1 has 3 labeled samples.*the 5 folds.*3 folds are used",
    ):
        folds = list(split.split(y, y, groups))
    n_repeats = 2 if isinstance(cv, RepeatedStratifiedKFold) else 1
    assert len(folds) == split.get_n_splits(y, y, groups) == 3 * n_repeats
    assert split.get_n_splits() == 5 * n_repeats
    for train, test in folds:
        assert sorted(y[test]) == [0, 0, 1]
        assert len(train) == 37


def test_class_with_one_label():
    y = np.array([1, 1, 1, 0, -1, -1])
    with pytest.warns(UserWarning, match="Class 0 has 1 .* 2 folds are used. If its"):
        folds = list(SemiSupervisedSplit(3).split(y, y))
    assert [0 in y[test] for _, test in folds] in ([True, False], [False, True])
    with pytest.raises(ValueError, match=r"1 labeled samples\. At least two"):
        next(SemiSupervisedSplit(3).split(y[3:], y[3:]))


@pytest.mark.parametrize(
    "estimator",
    [
        LabelSpreading(),
        SelfTrainingClassifier(LogisticRegression()),
        make_pipeline(StandardScaler(), TINY),
    ],
)
def test_cross_val_score_equals_scores_of_separate_fits(estimator):
    split = SemiSupervisedSplit(StratifiedKFold(3))
    scores = cross_val_score(estimator, X, Y, cv=split, scoring="roc_auc")
    for score, (train, test) in zip(scores, split.split(X, Y), strict=True):
        fitted = clone(estimator).fit(X[train], Y[train])
        expected = roc_auc_score(Y[test], fitted.predict_proba(X[test])[:, 1])
        assert score == pytest.approx(expected)


def test_grid_and_random_search():
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


def test_halving_search_over_epochs():
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


def test_groups_as_argument_equal_routed_groups():
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


@pytest.mark.parametrize(
    ("cv", "y", "message"),
    [
        (PredefinedSplit(TRUTH), Y, "neither a number of folds nor a splitter"),
        ([(LABELED[:12], LABELED[12:])], Y, "pass indices of X to scikit-learn"),
        (2, np.array([-1, 1] * 60), "y contains only -1 and 1"),
        (2, None, "SemiSupervisedSplit needs y"),
    ],
)
def test_split_errors(cv, y, message):
    with pytest.raises(ValueError, match=message):
        next(SemiSupervisedSplit(cv).split(X, y))
