import numpy as np
import pytest
from scipy.sparse import csr_array

from pnl_sklearn import PNLClassifier, supervised_baseline

pd = pytest.importorskip("pandas")

TRUTH = np.arange(90) % 3
X = np.random.default_rng(0).normal(size=(90, 4)) + 3 * np.eye(4)[TRUTH]
X = X.astype(np.float32)
Y = np.where(np.arange(90) < 18, TRUTH, -1)
NAMES = np.array(["ant", "bee", "cow"])
Y_NAMES = [NAMES[k] for k in Y[:18]] + [None] * 72


def tiny(**params):
    defaults = {
        "max_epochs": 1,
        "steps_per_epoch": 10,
        "random_state": 0,
        "graph": None,
    }
    return PNLClassifier(**(defaults | params))


def collections(names=(0, 1, 2), changed=None, labels=None):
    """Exclude class 2 for sample 20, and classes 0 and 1 for sample 21."""
    lists = [[] for _ in range(90)]
    lists[20], lists[21] = [names[2]], [names[0], names[1]]
    if changed is not None:
        lists[changed] = labels
    return lists


MASK = np.array([[k in labels for k in range(3)] for labels in collections()])


@pytest.fixture(scope="module")
def without():
    return tiny().fit(X, Y).predict_proba(X)


@pytest.fixture(scope="module")
def expected(without):
    p = tiny().fit(X, Y, negative_labels=MASK).predict_proba(X)
    assert not np.array_equal(p, without)
    return p


@pytest.mark.parametrize(
    ("y", "negative_labels"),
    [
        (Y, MASK),
        (Y, pd.DataFrame(MASK)),
        (Y, pd.DataFrame(MASK, dtype="boolean")),
        (Y, csr_array(MASK)),
        (Y_NAMES, pd.DataFrame(MASK, columns=NAMES)[["cow", "ant", "bee"]]),
        (Y, pd.Series(collections()).where(MASK.any(axis=1))),
        (Y, collections()),
        (Y, [set(labels) or None for labels in collections()]),
        (Y, pd.Series([np.array(labels) for labels in collections()])),
        (Y_NAMES, collections(NAMES)),
        (Y_NAMES, MASK),
    ],
)
def test_fit_gives_same_result_for_all_forms_of_negative_labels(
    y, negative_labels, expected
):
    found = tiny().fit(X, y, negative_labels=negative_labels)
    np.testing.assert_array_equal(found.predict_proba(X), expected)
    assert found.transduction_[21] == found.classes_[2]
    assert found.transduction_[20] != found.classes_[2]


def test_columns_of_mask_follow_classes_parameter():
    model = tiny(classes=[2, 1, 0])
    with pytest.warns(UserWarning, match="are not sorted"):
        found = model.fit(X, Y, negative_labels=MASK[:, ::-1])
    assert found.transduction_[21] == 2


@pytest.mark.parametrize(
    "empty", [np.zeros((90, 3), dtype=bool), [[]] * 90, [None] * 90]
)
def test_empty_negative_labels_equal_none(empty, without):
    found = tiny().fit(X, Y, negative_labels=empty).predict_proba(X)
    np.testing.assert_array_equal(found, without)


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("selection", ["adaptive", "random", "lowest"])
def test_fit_learns_from_negative_labels(selection, baseline):
    # The label of each class is wrong; the negative labels of 80 samples are right.
    y = np.full(90, -1)
    y[[0, 1, 2]] = [1, 2, 0]
    negatives = [
        [] if i < 10 else [(k + 1) % 3, (k + 2) % 3] for i, k in enumerate(TRUTH)
    ]
    params = {"steps_per_epoch": 40, "lr": 0.02, "graph": "auto"}
    classifier = tiny(selection=selection, **params)
    if baseline:
        classifier = supervised_baseline(classifier)
    assert classifier.fit(X, y).score(X[3:], TRUTH[3:]) < 0.3
    classifier.fit(X, y, negative_labels=negatives)
    assert classifier.score(X[3:], TRUTH[3:]) > 0.8
    np.testing.assert_array_equal(classifier.transduction_[10:], TRUTH[10:])


def test_negative_labels_with_x_unlabeled_and_consistency():
    classifier = tiny(consistency="dual_student")
    classifier.fit(X[:40], Y[:40], X_unlabeled=X[40:], negative_labels=MASK[:40])
    assert len(classifier.transduction_) == 90
    assert classifier.transduction_[21] == 2


@pytest.mark.parametrize(
    ("negative_labels", "message"),
    [
        (MASK[:, :2], r"shape \(90, 2\). It must be a bool array of shape \(90, 3\)"),
        (MASK.astype(int), "dtype int64"),
        (pd.DataFrame(MASK, columns=["a", "b", "c"]), "have the columns"),
        (MASK[:50], "inconsistent numbers of samples"),
        (
            collections(changed=30, labels=[0, 1, 2]),
            r"every class of the samples 30\. At",
        ),
        (collections(changed=4, labels=[1]), "the label in y of the samples 4"),
        (
            collections(changed=30, labels=[7]),
            r"contain 7 for sample 30, which is not in classes: \[0, 1, 2\]",
        ),
        (
            collections(changed=30, labels=[[1]]),
            r"contain \[1\] for sample 30, which is",
        ),
        (
            collections(changed=30, labels=2),
            "contain 2 for sample 30. Pass a collection",
        ),
        (
            collections(changed=30, labels="2"),
            "contain '2' for sample 30. Pass a collec",
        ),
        (MASK.tolist(), "contain False for sample 0.*mask must be an array"),
        ([[0, 1, 2]] * 90, "exclude every class of.* 0, 1, 2, 3, 4 and 85 more. At"),
    ],
)
def test_invalid_negative_labels(negative_labels, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tiny().fit(X, Y, negative_labels=negative_labels)
