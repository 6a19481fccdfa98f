import numpy as np
import pytest
from sklearn.base import clone

from pnl_sklearn import DistributionAlignment, PNLClassifier

pd = pytest.importorskip("pandas")

CLASSES = np.array(["a", "b", "c"])
CODES = np.array([0, 0, 0, 1, 2, -1, -1])


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ("auto", [1 / 3, 1 / 3, 1 / 3]),
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("labeled", [0.6, 0.2, 0.2]),
        ([0.5, 0.3, 0.2], [0.5, 0.3, 0.2]),
        ((2, 1, 1), [0.5, 0.25, 0.25]),
        ([1e308, 1e308, 1e308], [1 / 3, 1 / 3, 1 / 3]),
        (np.array([4, 0, 1]), [0.8, 0, 0.2]),
        ({"c": 3, "a": 5, "b": 2}, [0.5, 0.2, 0.3]),
        (pd.Series([3, 5, 2], index=["c", "a", "b"]), [0.5, 0.2, 0.3]),
        (pd.Series([5, 2, 3]), [0.5, 0.2, 0.3]),
    ],
)
def test_target(prior, expected):
    target = DistributionAlignment(prior).target(CODES, CLASSES)
    np.testing.assert_allclose(target, expected, rtol=1e-12)


def test_target_of_integer_classes_by_name():
    classes = np.array([7, 3])
    by_class = {3: 0.1, 7: 0.9}
    for prior in (by_class, pd.Series(by_class)):
        target = DistributionAlignment(prior).target(np.array([0, 1]), classes)
        np.testing.assert_allclose(target, [0.9, 0.1])


def test_target_labeled_without_a_label_of_one_class():
    target = DistributionAlignment("labeled").target(np.array([0, 0, 1, -1]), CLASSES)
    np.testing.assert_allclose(target, [2 / 3, 1 / 3, 0])


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([0.5, 0.5], r"class_prior=\[0.5, 0.5\].*each of the 3 classes"),
        ([[0.2, 0.3, 0.5]], "one frequency"),
        (pd.DataFrame([[0.2, 0.3, 0.5]], columns=CLASSES), "one frequency"),
        ([1, 1, -1], "not negative"),
        ([1, 1, np.inf], "one frequency"),
        ([1, 1, np.nan], "one frequency"),
        ([0, 0, 0], "one frequency"),
        (
            {"a": 1, "b": 1},
            r"frequencies of \['a', 'b'\], but the classes are \['a', 'b'",
        ),
        ({"a": 1, "b": 1, "d": 1}, r"frequencies of \['a', 'b', 'd'\]"),
        ({0: 1, 1: 1, 2: 1}, r"frequencies of \[0, 1, 2\]"),
        (pd.Series([1, 1, 1], index=["a", "b", "b"]), "Name each of them once"),
    ],
)
def test_target_of_invalid_prior(prior, message):
    with pytest.raises(ValueError, match=message):
        DistributionAlignment(prior).target(CODES, CLASSES)


@pytest.mark.parametrize(
    ("params", "name"),
    [({"prior": "even"}, "prior"), ({"prior": 3}, "prior"), ({"weight": -1}, "weight")],
)
def test_invalid_parameters(params, name):
    message = f"'{name}' parameter of DistributionAlignment"
    alignment = DistributionAlignment(**params)
    with pytest.raises(ValueError, match=message):
        alignment._validate_params()
    with pytest.raises(ValueError, match=message):
        PNLClassifier(class_prior=alignment).fit([[0.0], [1.0], [2.0]], [0, 1, -1])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([9, 1], [0.875, 0.125]),  # intensity 0.18 / (9 * 0.32)
        ([4, 4, 4], [1 / 3] * 3),
        ([5, 4, 6], [1 / 3] * 3),  # as different as by chance
        ([1, 0], [0.5, 0.5]),
        (
            [900, 100],
            [0.9 - 0.18 / (999 * 0.32) * 0.4, 0.1 + 0.18 / (999 * 0.32) * 0.4],
        ),
    ],
)
def test_auto_shrinks_the_frequencies_of_labels(counts, expected):
    codes = np.r_[np.repeat(np.arange(len(counts)), counts), [-1, -1]]
    target = DistributionAlignment("auto").target(codes, np.arange(len(counts)))
    np.testing.assert_allclose(target, expected)


def test_parameters_are_cloned():
    alignment = clone(DistributionAlignment("labeled", weight=2.0))
    assert alignment.get_params() == {"prior": "labeled", "weight": 2.0}
