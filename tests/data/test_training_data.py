"""What `fit` takes beside X and y: a pool, negative labels, rows to measure on."""

from itertools import pairwise

import numpy as np
import pytest
import sklearn
import torch
from scipy.sparse import csr_array, issparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading
from skorch.callbacks import Callback, EarlyStopping
from torch.utils.data import TensorDataset

from pnl_sklearn import PNLClassifier, supervised_baseline

pd = pytest.importorskip("pandas")

rng = np.random.default_rng(0)
TRUTH = np.arange(90) % 3
X = (rng.normal(size=(90, 4)) + 3 * np.eye(4)[TRUTH]).astype(np.float32)
Y = TRUTH[:18]
POOL = X[18:]
ALL = np.concatenate([Y, np.full(72, -1)])


def tiny(**params):
    params = {"max_epochs": 1, "steps_per_epoch": 20, "random_state": 0} | params
    return PNLClassifier(**params)


def frame(rows):
    return pd.DataFrame(rows, columns=list("abcd"))


def images(rows):
    return (10 * rows + 100).clip(0, 255).astype(np.uint8).reshape(-1, 2, 2)


@pytest.mark.parametrize(
    "form",
    [
        np.asarray,
        frame,
        csr_array,
        torch.from_numpy,
        images,
        lambda rows: TensorDataset(torch.from_numpy(rows)),
        # The pool holds images (h, w), the labeled part images (1, h, w).
        lambda rows: TensorDataset(
            torch.from_numpy(rows).reshape(-1, *[1] * (len(rows) != 72), 2, 2)
        ),
    ],
)
def test_a_pool_apart_is_as_good_as_within(form):
    apart = tiny().fit(form(X[:18]), Y, X_unlabeled=form(POOL))
    within = tiny().fit(form(X), ALL)
    expected = within.predict_proba(form(X))
    np.testing.assert_array_equal(apart.predict_proba(form(X)), expected)
    if not isinstance(form(X), TensorDataset):
        np.testing.assert_array_equal(apart.transduction_, within.transduction_)


def test_unlabeled_rows_in_both_places_and_mixed_forms():
    weights = np.arange(40.0)
    apart = tiny().fit(X[:40], ALL[:40], weights, X_unlabeled=csr_array(X[40:]))
    within = tiny().fit(csr_array(X), ALL, np.pad(weights, (0, 50)))
    np.testing.assert_array_equal(apart.predict_proba(X), within.predict_proba(X))


COLORED = rng.integers(0, 256, (90, 3, 8, 8), dtype=np.uint8)
COLORED[np.arange(90), TRUTH] //= 2
LAST = np.moveaxis(COLORED, 1, -1)


@pytest.mark.parametrize("labeled", [COLORED, LAST])
@pytest.mark.parametrize(
    "pool", [COLORED, LAST, csr_array(COLORED.reshape(90, -1)), COLORED.astype(float)]
)
def test_images_of_mixed_layouts(labeled, pool):
    """What is measured on, and what is predicted, may differ from both."""
    params = {"steps_per_epoch": 4, "image_shape": (3, 8, 8)}
    whole, mixed = tiny(**params), tiny(**params)
    # Sparse rows are not centered, and neither are others beside them.
    form = pool if issparse(pool) else COLORED
    whole.fit(form, ALL, X_val=COLORED, y_val=TRUTH)
    mixed.fit(labeled[:18], Y, X_unlabeled=pool[18:], X_val=LAST, y_val=TRUTH)
    assert mixed.history_[-1]["valid_loss"] == whole.history_[-1]["valid_loss"]
    expected = whole.predict_proba(COLORED)
    for form in (COLORED, LAST):
        np.testing.assert_array_equal(mixed.predict_proba(form), expected)


@pytest.mark.parametrize(
    ("inputs", "pool", "message"),
    [
        (X[:18], X[:18], "as many rows as X, or .*, 18. .*with -1 in y"),
        (X[:18], POOL[:, :3], "X has 3 features.*expecting 4"),
        (frame(X[:18]), frame(POOL)[["b", "a", "c", "d"]], "feature names"),
        (X[:18], np.full((5, 4), np.nan), "NaN"),
        (X[:18], TensorDataset(torch.from_numpy(POOL)), "both Datasets"),
        (images(X[:18]), np.zeros((5, 3, 3)), r"samples of shape \(1, 3, 3\)"),
    ],
)
def test_a_pool_that_does_not_fit(inputs, pool, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tiny().fit(inputs, Y, X_unlabeled=pool)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


class Seen(PNLClassifier):
    """Keeps what `fit` was given."""

    fits: list = []  # noqa: RUF012

    def fit(self, X, y, sample_weight=None, *, X_unlabeled=None, negative_labels=None):
        self.fits.append((X, y, X_unlabeled, negative_labels))
        super().fit(X, y, X_unlabeled=X_unlabeled, negative_labels=negative_labels)
        return self


@pytest.fixture
def seen(routing):
    Seen.fits.clear()
    classifier = Seen(**tiny().get_params(deep=False))
    return classifier.set_fit_request(X_unlabeled=True, negative_labels=True)


def test_a_grid_search_keeps_the_pool_whole(seen):
    folds = StratifiedKFold(3)
    search = GridSearchCV(seen, {"selection__tolerance": [0.05, 0.2]}, cv=folds)
    search.fit(X[:18], Y, X_unlabeled=POOL)
    assert len(Seen.fits) == 7
    for inputs, labels, pool, _ in Seen.fits:
        assert len(inputs) == len(labels)
        assert (labels >= 0).all()
        np.testing.assert_array_equal(pool, POOL)
    assert search.best_score_ > 0.6
    with pytest.raises(ValueError, match=r"this training part of it, 12\."):
        search.set_params(error_score="raise").fit(X[:18], Y, X_unlabeled=POOL[:18])


def test_a_pipeline_transforms_the_pool(seen):
    scaler = StandardScaler()
    pipeline = make_pipeline(scaler, seen, transform_input=["X_unlabeled"])
    search = GridSearchCV(pipeline, {"seen__lr": [0.001, 0.002]}, cv=2)
    search.fit(X[:18], Y, X_unlabeled=POOL)
    expected = StandardScaler().fit(X[:18]).transform(POOL)
    np.testing.assert_allclose(Seen.fits[-1][2], expected, rtol=1e-6)


def test_meta_estimators_see_no_class_of_unlabeled_rows(seen):
    calibrated = CalibratedClassifierCV(seen, cv=2)
    calibrated.fit(X[:18], Y, X_unlabeled=POOL)
    assert calibrated.classes_.tolist() == [0, 1, 2]
    assert calibrated.score(POOL, TRUTH[18:]) > 0.6
    two = TRUTH[:18] < 2
    tuned = TunedThresholdClassifierCV(seen, cv=2)
    tuned.fit(X[:18][two], Y[two], X_unlabeled=POOL)
    assert tuned.classes_.tolist() == [0, 1]
    assert 0 < tuned.best_threshold_ < 1


SPREADING = LabelSpreading(kernel="knn")


def test_a_stack_of_fitted_estimators():
    y = np.where(np.arange(90) < 9, ALL, -1)
    fitted = [("pnl", tiny().fit(X, y)), ("spreading", SPREADING.fit(X, y))]
    stack = StackingClassifier(fitted, cv="prefit").fit(X[9:18], Y[9:])
    assert stack.classes_.tolist() == [0, 1, 2]
    assert stack.score(POOL, TRUTH[18:]) > 0.6


def test_negative_labels_follow_their_rows_into_folds(seen):
    mask = np.zeros((90, 3), dtype=bool)
    mask[np.arange(90), (TRUTH + 1) % 3] = True
    mask[::4] = False
    folds = [(np.arange(0, 90, 2), np.arange(1, 18, 2)), (np.arange(1, 90), [0, 2])]
    pipeline = make_pipeline(StandardScaler(), seen)
    params = {"negative_labels": mask}
    scores = cross_validate(pipeline, X, ALL, cv=folds, params=params)
    assert (scores["test_score"] >= 0.5).all()
    for (train, _), (_, labels, _, negatives) in zip(folds, Seen.fits, strict=True):
        np.testing.assert_array_equal(labels, ALL[train])
        np.testing.assert_array_equal(negatives, mask[train])


NAMES = np.array(["ant", "bee", "cow"])
NAMED = [NAMES[k] for k in Y] + [None] * 72


def negatives(names):
    """Class 2 is excluded for row 20, classes 0 and 1 for row 21."""
    rows = [[] for _ in range(90)]
    rows[20], rows[21] = [names[2]], [names[0], names[1]]
    return rows


MASK = np.array([[k in row for k in range(3)] for row in negatives([0, 1, 2])])


@pytest.mark.parametrize(
    ("y", "given"),
    [
        (ALL, MASK),
        (ALL, pd.DataFrame(MASK)),
        (ALL, pd.DataFrame(MASK, dtype="boolean")),
        (ALL, csr_array(MASK)),
        (NAMED, pd.DataFrame(MASK, columns=NAMES)[["cow", "ant", "bee"]]),
        (ALL, pd.Series(negatives([0, 1, 2])).where(MASK.any(axis=1))),
        (ALL, negatives([0, 1, 2])),
        (ALL, [set(row) or None for row in negatives([0, 1, 2])]),
        (ALL, pd.Series([np.array(row) for row in negatives([0, 1, 2])])),
        (NAMED, negatives(NAMES)),
        (NAMED, MASK),
    ],
)
def test_forms_of_negative_labels(y, given):
    found = tiny().fit(X, y, negative_labels=given)
    expected = tiny().fit(X, ALL, negative_labels=MASK)
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    assert found.transduction_[21] == found.classes_[2]
    assert found.transduction_[20] != found.classes_[2]
    plain = tiny().fit(X, ALL).predict_proba(X)
    assert not np.array_equal(expected.predict_proba(X), plain)


def test_columns_of_negative_labels_are_in_the_order_of_classes():
    model = tiny(classes=[2, 1, 0])
    with pytest.warns(UserWarning, match="are not sorted"):
        found = model.fit(X, ALL, negative_labels=MASK[:, ::-1])
    assert found.transduction_[21] == 2


def test_nothing_excluded_is_as_without():
    expected = tiny().fit(X, ALL).predict_proba(X)
    for nothing in (np.zeros((90, 3), dtype=bool), [[]] * 90, [None] * 90):
        found = tiny().fit(X, ALL, negative_labels=nothing)
        np.testing.assert_array_equal(found.predict_proba(X), expected)


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("selection", ["adaptive", "random", "lowest"])
def test_negative_labels_teach(selection, twin):
    # The only label of each class is a row of another one; what 60 rows are not tells.
    y = np.full(90, -1)
    y[[0, 1, 2]] = [1, 2, 0]
    negatives = [[] if i < 10 else [(k + 1) % 3, (k + 2) % 3]
                 for i, k in enumerate(TRUTH)]  # fmt: skip
    classifier = tiny(selection=selection, steps_per_epoch=200)
    if twin:
        classifier = supervised_baseline(classifier)
    assert classifier.fit(X, y).score(X[3:], TRUTH[3:]) < 0.3
    taught = classifier.fit(X, y, negative_labels=negatives)
    assert taught.score(X[3:], TRUTH[3:]) > 0.8
    np.testing.assert_array_equal(taught.transduction_[10:], TRUTH[10:])


def test_negative_labels_with_a_pool_and_a_companion():
    classifier = tiny(consistency="dual_student")
    classifier.fit(X[:40], ALL[:40], X_unlabeled=X[40:], negative_labels=MASK[:40])
    assert len(classifier.transduction_) == 90
    assert classifier.transduction_[21] == 2


def changed(row, value):
    rows = negatives([0, 1, 2])
    rows[row] = value
    return rows


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (MASK[:, :2], r"shape \(90, 2\) has to be a bool array of shape \(90, 3\)"),
        (MASK.astype(int), "dtype int64"),
        (pd.DataFrame(MASK, columns=["a", "b", "c"]), "have the columns"),
        (changed(30, [[1]]), r"hold \[1\] for row 30, which is not in classes"),
        (MASK[:50], "inconsistent numbers of samples"),
        (changed(30, [0, 1, 2]), "exclude every class of the rows 30; leave one"),
        (changed(4, [1]), "the label that y gives to the rows 4"),
        (changed(30, [7]), r"hold 7 for row 30, which is not in classes: \[0, 1, 2\]"),
        (changed(30, 2), "hold 2 for row 30. Give a collection"),
        (changed(30, "2"), "hold '2' for row 30. Give a collection"),
        (MASK.tolist(), "hold False for row 0.*mask has to be an array"),
        ([[0, 1, 2]] * 90, "rows 0, 1, 2, 3, 4 and 85 more"),
    ],
)
def test_bad_negative_labels(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tiny().fit(X, ALL, negative_labels=given)


def test_validation_rows_are_measured_and_teach_nothing():
    y_val = np.where(np.arange(30) < 20, TRUTH[60:], -1)
    classifier = tiny(max_epochs=2)
    plain = classifier.fit(X[:60], ALL[:60]).predict_proba(X)
    classifier.fit(X[:60], ALL[:60], X_val=X[60:], y_val=y_val)
    p = classifier.predict_proba(X)
    np.testing.assert_array_equal(p, plain)
    # The last row of the history is of the model that there is in the end.
    row, known = classifier.history_[-1], slice(60, 80)
    loss = log_loss(TRUTH[known], p[known], labels=[0, 1, 2])
    assert row["valid_loss"] == pytest.approx(loss)
    accuracy = accuracy_score(TRUTH[known], classifier.predict(X[known]))
    assert row["valid_accuracy"] == pytest.approx(accuracy)
    assert classifier.history_[0]["valid_loss"] != row["valid_loss"]


@pytest.mark.parametrize("selection", ["adaptive", "random", "lowest"])
def test_negative_labels_are_audited_on_validation_rows(selection):
    """Of the networks one by one, since each is the other's partner."""
    n_negatives = {"adaptive": None, "random": 2, "lowest": 2}[selection]
    classifier = tiny(selection=selection, ema_decay=None, max_epochs=2)
    plain = classifier.fit(X[:60], ALL[:60]).predict_proba(X)
    classifier.fit(X[:60], ALL[:60], X_val=X[60:], y_val=TRUTH[60:])
    # What a selection draws for the audit is not taken from the fit.
    np.testing.assert_array_equal(classifier.predict_proba(X), plain)
    n_all = n_wrong = 0
    for submodel in classifier.submodels_:
        p = submodel.log_probabilities(torch.from_numpy(X[60:])).exp().numpy()
        if n_negatives == 2:  # of three classes: all but the first
            mask = p < p.max(axis=1, keepdims=True)
            if selection == "lowest":
                mask = p <= np.sort(p)[:, [1]]
        else:
            order = np.argsort(-p)
            before = np.cumsum(np.take_along_axis(p, order, 1), axis=1)
            before = np.pad(before[:, :-1], ((0, 0), (1, 0)))
            mask = np.zeros_like(p, dtype=bool)
            np.put_along_axis(mask, order, before >= 0.95, axis=1)
        n_all += mask.sum()
        n_wrong += mask[np.arange(30), TRUTH[60:]].sum()
    right = classifier.history_[-1]["valid_negative_precision"]
    assert right == pytest.approx(1 - n_wrong / n_all)


def test_no_negative_labels_to_audit():
    classifier = tiny(selection=lambda p: torch.zeros_like(p, dtype=torch.bool))
    classifier.fit(X[:60], ALL[:60], X_val=X[60:], y_val=TRUTH[60:])
    assert np.isnan(classifier.history_[-1]["valid_negative_precision"])
    assert classifier.history_[-1]["class_coverage"] == [0, 0, 0]


@pytest.mark.parametrize("form", [np.asarray, lambda X: TensorDataset(torch.tensor(X))])
def test_a_share_of_the_labels_is_held_out(form):
    classifier = tiny(validation_fraction=1 / 3, max_epochs=3)
    classifier.fit(form(X), ALL)
    # As if these labels had not been there, and been given for validation.
    p = classifier.predict_proba(form(X))
    labels = np.full(90, -1)
    rows = held_out_by(ALL, 1 / 3, 0)
    labels[np.setdiff1d(np.arange(18), rows)] = ALL[np.setdiff1d(np.arange(18), rows)]
    assert sorted(ALL[rows]) == [0, 0, 1, 1, 2, 2]
    same = tiny(max_epochs=3).fit(form(X), labels)
    np.testing.assert_array_equal(same.predict_proba(form(X)), p)
    loss = log_loss(ALL[rows], p[rows], labels=[0, 1, 2])
    assert classifier.history_[-1]["valid_loss"] == pytest.approx(loss)


def test_labels_held_out_are_in_the_transduction():
    wrong = np.array([1, 0, *Y[2:]])  # which no prediction would repeat
    y = np.concatenate([wrong, ALL[18:]])
    classifier = tiny(validation_fraction=0.5, random_state=3).fit(X, y)
    np.testing.assert_array_equal(classifier.transduction_[:18], wrong)


@pytest.mark.parametrize(
    ("counts", "share"), [([18, 2], 0.9), ([50, 3], 0.9), ([48, 2], 0.2)]
)
def test_each_class_is_learned_and_measured(counts, share):
    y = np.full(90, -1)
    y[: sum(counts)] = np.repeat([0, 1], counts)
    with pytest.raises(ValueError, match="leaves a class without a label"):
        tiny(validation_fraction=share).fit(X, y)


def test_weights_are_those_of_the_labels_that_are_learned():
    rows = held_out_by(ALL, 0.5, 0)
    weights = np.ones(90)
    weights[rows] = 100.0
    fits = [
        tiny(validation_fraction=0.5).fit(X, ALL, w).predict_proba(X)
        for w in (None, weights)
    ]
    np.testing.assert_array_equal(*fits)
    weights = np.zeros(90)
    weights[rows] = 1.0
    with pytest.raises(ValueError, match="weights of the labeled samples are all zero"):
        tiny(validation_fraction=0.5).fit(X, ALL, weights)


def held_out_by(y, share, random_state):
    """Labels that another random number generator of the same seed picks."""
    seed = np.random.RandomState(random_state).randint(np.iinfo(np.int32).max)
    rows = np.flatnonzero(y >= 0)
    options = {"stratify": y[rows], "random_state": seed}
    return train_test_split(rows, test_size=share, **options)[1]


def test_early_stopping_on_a_share_of_the_labels():
    stop = EarlyStopping(patience=2)
    classifier = tiny(max_epochs=30, callbacks=[stop], validation_fraction=0.5)
    assert classifier.fit(X, ALL).n_iter_ < 30


@pytest.mark.parametrize(("share", "n"), [(0.1, 18), (0.9, 18), (0.5, 3)])
def test_too_few_labels_to_hold_some_out(share, n):
    y = np.where(np.arange(90) < n, ALL, -1)
    message = f"of {n} labeled samples of 3 classes leaves a class.*'label_change'"
    with pytest.raises(ValueError, match=message):
        tiny(validation_fraction=share).fit(X, y)


def test_two_ways_to_validate_are_one_too_many():
    classifier = tiny(validation_fraction=0.5)
    with pytest.raises(ValueError, match="both ask for rows to measure on"):
        classifier.fit(X, ALL, X_val=X[60:], y_val=TRUTH[60:])


def test_early_stopping_when_predictions_hardly_change():
    stop = EarlyStopping(monitor="label_change", patience=3)
    classifier = tiny(max_epochs=40, rampup=0.25, callbacks=[stop])
    history = classifier.fit(X, ALL).history_
    change = [row["label_change"] for row in history]
    assert np.isnan(change[0])
    assert len(change) < 40
    assert min(change[-3:]) >= np.nanmin(change)


def test_changes_are_those_of_the_predictions():
    seen = []

    class Spy(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(net.log_probabilities(torch.from_numpy(X[18:])).exp().numpy())

    watch = EarlyStopping("label_change", patience=9)
    spied = tiny(max_epochs=3, callbacks=[Spy(), watch]).fit(X, ALL)
    first, second = seen[::2], seen[1::2]
    predicted = [np.argmax(a + b, axis=1) for a, b in zip(first, second, strict=True)]
    changed = [row["label_change"] for row in spied.history_]
    expected = [np.mean(a != b) for a, b in pairwise(predicted)]
    assert changed[1:] == pytest.approx(expected)


def test_a_selection_with_a_memory_is_not_asked_for_the_audit():
    class Adapting:
        calls = 0

        def __call__(self, p):
            self.calls += 1
            return p < 0.02 * self.calls

    fits = [
        tiny(selection=Adapting(), max_epochs=2).fit(X[:60], ALL[:60], **held_out)
        for held_out in ({}, {"X_val": X[60:], "y_val": TRUTH[60:]})
    ]
    np.testing.assert_array_equal(*(fitted.predict_proba(X) for fitted in fits))


def test_without_unlabeled_rows_nothing_changes():
    watch = EarlyStopping("label_change")
    classifier = tiny(max_epochs=2, callbacks=[watch]).fit(X[:18], Y)
    assert np.isnan([row["label_change"] for row in classifier.history_]).all()
    assert classifier.n_iter_ == 2


def test_early_stopping_on_validation_rows():
    stop = EarlyStopping(monitor="valid_accuracy", lower_is_better=False, patience=2)
    classifier = tiny(max_epochs=30, callbacks=[stop])
    classifier.fit(X[:60], ALL[:60], X_val=X[60:], y_val=TRUTH[60:])
    measured = [row["valid_accuracy"] for row in classifier.history_]
    assert 3 <= len(measured) < 30
    assert max(measured[-2:]) <= max(measured[:-2])


@pytest.mark.parametrize(
    ("y_val", "message"),
    [
        (None, "belong together"),
        (np.full(30, -1), "no labeled sample"),
        (np.full(30, 7), r"labels array\(\[7\]\) that are not in classes"),
        (TRUTH[:5], "inconsistent numbers"),
    ],
)
def test_bad_validation_rows(y_val, message):
    with pytest.raises(ValueError, match=message):
        tiny().fit(X, ALL, X_val=X[60:], y_val=y_val)


def test_held_out_rows_may_be_all_that_is_unlabeled():
    X = np.random.default_rng(0).random((40, 3))
    classifier = PNLClassifier(
        validation_fraction=0.3, max_epochs=1, steps_per_epoch=2, random_state=0
    )
    classifier.fit(X, np.arange(40) % 2, unlabeled_weight=np.ones(40))
    assert classifier.history_[0]["negative_coverage"] >= 0


def test_one_row_of_a_structured_array_is_predicted():
    table = np.zeros(40, dtype=[("values", "f4", (6,)), ("other", "i1")])
    table["values"] = np.random.default_rng(0).random((40, 6))
    y = np.where(np.arange(40) < 10, np.arange(40) % 2, -1)
    classifier = PNLClassifier(max_epochs=1, steps_per_epoch=2, random_state=0)
    classifier.fit(table["values"], y)
    whole = classifier.predict_proba(table["values"])
    one = classifier.predict_proba(table["values"][:1])
    np.testing.assert_allclose(one, whole[:1], atol=1e-6)


@pytest.mark.parametrize("empty", [X[:0], [], csr_array((0, 4)), frame(X[:0])])
def test_a_pool_may_be_empty(empty):
    given = tiny().fit(X, ALL, X_unlabeled=empty)
    np.testing.assert_array_equal(
        given.predict_proba(X), tiny().fit(X, ALL).predict_proba(X)
    )


def test_weights_of_unlabeled_rows_may_be_missing():
    weights = np.where(ALL < 0, np.nan, 2.0)
    np.testing.assert_array_equal(
        tiny().fit(X, ALL, sample_weight=weights).predict_proba(X),
        tiny().fit(X, ALL).predict_proba(X),
    )
