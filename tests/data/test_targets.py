import math
import re
import warnings

import numpy as np
import pytest
import torch

from pnl_sklearn import PNLClassifier
from pnl_sklearn.data._targets import check_targets


def tiny(**params):
    defaults = {"max_epochs": 2, "steps_per_epoch": 3, "random_state": 0, "graph": None}
    sizes = {"batch_size": 16, "labeled_batch_size": 8}
    return PNLClassifier(**(defaults | sizes | params))


@pytest.fixture(scope="module")
def table():
    """Sixty samples of six features, of three classes; 12 labels."""
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    X = rng.integers(0, 4, (60, 6)) + 4 * ((truth[:, None] + np.arange(6)) % 3)
    return X.astype(np.float32), np.where(np.arange(60) < 12, truth, -1)


@pytest.fixture(scope="module")
def from_table(table):
    X, y = table
    return tiny().fit(X, y).predict_proba(X)


def read_only(y):
    y.flags.writeable = False
    return y


def pandas_series(values, **kwargs):
    pandas = pytest.importorskip("pandas")
    return pandas.Series(values, index=[5, 4, 3, 2, 1, 0], **kwargs)


def polars_series(values, **kwargs):
    return pytest.importorskip("polars").Series(values, **kwargs)


def pandas_na():
    return pytest.importorskip("pandas").NA


def string_dtype(values):
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("numpy 2 is needed")
    return np.array(values, dtype=np.dtypes.StringDType())


NAN = math.nan
# The same six targets, of which two are unlabeled, in every form.
NUMBERS = {
    "int64": lambda: np.array([3, 7, -1, 7, -1, 3]),
    "int8": lambda: np.array([3, 7, -1, 7, -1, 3], dtype=np.int8),
    "list": lambda: [3, 7, -1, 7, -1, 3],
    "tuple": lambda: (3, 7, -1, 7, -1, 3),
    "read-only": lambda: read_only(np.array([3, 7, -1, 7, -1, 3])),
    "negative strides": lambda: np.array([3, -1, 7, -1, 7, 3])[::-1],
    "float": lambda: np.array([3.0, 7.0, -1.0, 7.0, -1.0, 3.0]),
    "float with NaN": lambda: np.array([3.0, 7.0, NAN, 7.0, -1.0, 3.0]),
    "float32 with NaN": lambda: np.array([3, 7, NAN, 7, NAN, 3], dtype=np.float32),
    "float16 with NaN": lambda: np.array([3, 7, NAN, 7, NAN, 3], dtype=np.float16),
    "list with NaN": lambda: [3, 7, NAN, 7, -1, 3],
    "list with None": lambda: [3, 7, None, 7, -1, 3],
    "list with pandas.NA": lambda: [3, 7, pandas_na(), 7, None, 3],
    "object": lambda: np.array([3, 7, "-1", 7, NAN, 3], dtype=object),
    "object of floats": lambda: np.array([3.0, 7.0, None, 7, -1.0, 3], dtype=object),
    "pandas": lambda: pandas_series([3, 7, -1, 7, -1, 3]),
    "pandas float": lambda: pandas_series([3, 7, None, 7, NAN, 3]),
    "pandas Int64": lambda: pandas_series([3, 7, None, 7, -1, 3], dtype="Int64"),
    "pandas Float64": lambda: pandas_series([3, 7, None, 7, -1, 3], dtype="Float64"),
    "pandas category": lambda: pandas_series([3, 7, None, 7, -1, 3], dtype="category"),
    "pandas object": lambda: pandas_series([3, 7, None, 7, NAN, 3], dtype=object),
    "polars": lambda: polars_series([3, 7, -1, 7, -1, 3]),
    "polars with nulls": lambda: polars_series([3, 7, None, 7, -1, 3]),
    "masked": lambda: np.ma.array([3, 7, 7, 7, -1, 3], mask=[0, 0, 1, 0, 0, 0]),
    "masked float": lambda: np.ma.array(
        [3.0, 7, 7, 7, NAN, 3], mask=[0, 0, 1, 0, 0, 0]
    ),
    "masked, none": lambda: np.ma.array([3, 7, -1, 7, -1, 3]),
    "torch": lambda: torch.tensor([3, 7, -1, 7, -1, 3]),
    "torch int8": lambda: torch.tensor([3, 7, -1, 7, -1, 3], dtype=torch.int8),
    "torch with NaN": lambda: torch.tensor([3, 7, NAN, 7, NAN, 3]),
}
STRINGS = {
    "str": lambda: np.array(["a", "bc", "-1", "bc", "-1", "a"]),
    "list": lambda: ["a", "bc", "-1", "bc", "-1", "a"],
    "list with -1": lambda: ["a", "bc", -1, "bc", "-1", "a"],
    "list with None": lambda: ["a", "bc", None, "bc", "-1", "a"],
    "list with NaN": lambda: ["a", "bc", NAN, "bc", "-1", "a"],
    "list with pandas.NA": lambda: ["a", "bc", pandas_na(), "bc", None, "a"],
    "StringDType": lambda: string_dtype(["a", "bc", "-1", "bc", "-1", "a"]),
    "object with None": lambda: np.array(["a", "bc", None, "bc", -1, "a"], object),
    "object with NaN": lambda: np.array(["a", "bc", NAN, "bc", "-1", "a"], object),
    "pandas": lambda: pandas_series(["a", "bc", None, "bc", "-1", "a"]),
    "pandas object": lambda: pandas_series(
        ["a", "bc", None, "bc", NAN, "a"], dtype="O"
    ),
    "pandas string": lambda: pandas_series(
        ["a", "bc", None, "bc", "-1", "a"], dtype="string"
    ),
    "pandas category": lambda: pandas_series(
        ["a", "bc", None, "bc", "-1", "a"], dtype="category"
    ),
    "polars": lambda: polars_series(["a", "bc", "-1", "bc", "-1", "a"]),
    "polars with nulls": lambda: polars_series(["a", "bc", None, "bc", "-1", "a"]),
    "polars category": lambda: polars_series(
        ["a", "bc", None, "bc", "-1", "a"],
        dtype=pytest.importorskip("polars").Categorical,
    ),
}
# Integers with missing values, which numpy would convert to floats.
LARGE = 2**60
NULLABLE = {
    "pandas Int64": lambda v: pandas_series(v, dtype="Int64"),
    "pandas array": lambda v: pytest.importorskip("pandas").array(v, dtype="Int64"),
    "pandas category": lambda v: pandas_series(v, dtype="category"),
    "polars": lambda v: polars_series(v),
    "masked": lambda v: np.ma.array(
        [x or 0 for x in v], mask=[x is None for x in v], dtype=np.int64
    ),
}
BOOLS = {
    "object": lambda: np.array([False, True, None, True, -1, False], dtype=object),
    "list": lambda: [False, True, None, True, "-1", False],
    "pandas boolean": lambda: pandas_series(
        [False, True, None, True, None, False], dtype="boolean"
    ),
    "polars with nulls": lambda: polars_series([False, True, None, True, None, False]),
}
CODES = [0, 1, -1, 1, -1, 0]


@pytest.mark.parametrize("form", NUMBERS.values(), ids=NUMBERS)
def test_codes_of_numbers(form):
    codes, classes = check_targets(form())
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, CODES)
    np.testing.assert_array_equal(classes, [3, 7])
    assert classes.dtype.kind in "if"


@pytest.mark.parametrize("form", NULLABLE.values(), ids=NULLABLE)
def test_large_integers_with_missing_values_are_exact(form):
    codes, classes = check_targets(form([LARGE, LARGE + 1, None, LARGE + 1, None, 0]))
    np.testing.assert_array_equal(codes, [1, 2, -1, 2, -1, 0])
    assert classes.dtype == np.int64
    assert classes.tolist() == [0, LARGE, LARGE + 1]


@pytest.mark.parametrize("form", STRINGS.values(), ids=STRINGS)
def test_codes_of_strings(form):
    codes, classes = check_targets(form())
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, CODES)
    assert classes.tolist() == ["a", "bc"]


@pytest.mark.parametrize("form", BOOLS.values(), ids=BOOLS)
def test_codes_of_bools(form):
    codes, classes = check_targets(form())
    np.testing.assert_array_equal(codes, CODES)
    np.testing.assert_array_equal(classes, [False, True])
    assert classes.dtype == bool


def test_bools_without_missing_values():
    codes, classes = check_targets(np.array([True, False, True]))
    np.testing.assert_array_equal(codes, [1, 0, 1])
    np.testing.assert_array_equal(classes, [False, True])


@pytest.mark.parametrize(
    "mark", ["", "nan", "None", "<NA>", "-1.0", "Unknown", "unlabeled"]
)
def test_warning_of_missing_values_converted_to_strings(mark):
    y = np.array(["a", "b", mark] * 4)
    with pytest.warns(UserWarning, match=re.escape(f"labels ['{mark}']")):
        codes, classes = check_targets(y)
    assert sorted(classes) == sorted(["a", "b", mark])
    assert (codes >= 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_targets(y, classes=["a", "b", mark])
        check_targets(["a", "b", None, np.nan, "-1"])
        check_targets([1.0, 2.0, np.nan])


def test_unsigned_labels():
    codes, classes = check_targets(np.array([255, 0, 255], dtype=np.uint8))
    np.testing.assert_array_equal(codes, [1, 0, 1])
    np.testing.assert_array_equal(classes, [0, 255])


def test_warning_of_minus_one_converted_to_unsigned():
    y = torch.tensor([0, 1, -1] * 4).to(torch.uint8)
    with pytest.warns(
        UserWarning, match=r"labels \[255\].*before y is converted to uint8"
    ):
        codes, classes = check_targets(y)
    np.testing.assert_array_equal(classes, [0, 1, 255])
    assert (codes >= 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_targets(y, classes=[0, 1, 255])
        check_targets(np.array([0, 128, 255], dtype=np.uint8))
        check_targets(np.array([0, 1, 255]))


@pytest.mark.parametrize(
    "y",
    [
        [-1.0, 0.0, 1.0, NAN],
        [-1, 0, 1, None],
        ["-1", "0", "1", None],
    ],
)
def test_warning_of_both_minus_one_and_missing_values(y):
    with pytest.warns(UserWarning, match=r"-1, 0 and 1, and missing.*y = y \+ 1"):
        codes, _ = check_targets(y)
    np.testing.assert_array_equal(codes, [-1, 0, 1, -1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_targets(y, classes=[y[1], y[2]])
        check_targets([-1, -1, 0, 1])
        check_targets([None, NAN, 0, 1])
        check_targets([-1, 0, 1, 2, None])


def test_string_minus_is_a_label():
    codes, classes = check_targets(np.array(["+", "-", "+"]))
    assert classes[codes].tolist() == ["+", "-", "+"]


@pytest.mark.parametrize(
    "y", [[3, 7, -1], [7.0, NAN, 3.0], np.array([7, None, 3], dtype=object)]
)
@pytest.mark.parametrize("classes", [[7, 3], [9, 3, 7], np.array([3, 5, 7, 9])])
def test_classes_parameter_sets_order(y, classes):
    codes, given = check_targets(y, classes)
    np.testing.assert_array_equal(given, classes)
    for code, label in zip(codes, y, strict=True):
        assert code == (list(classes).index(label) if label in (3, 7) else -1)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([3, 7, 9], "i"),
        ([3.0, 7.0, 9.0], "f"),
        (["a", "bc", "d"], "U"),
        (np.array(["a", "bc", "d"], dtype=object), "O"),
    ],
)
def test_fit_does_not_depend_on_names_of_classes(names, kind, table, from_table):
    X, codes = table
    names = np.asarray(names)
    unlabeled = "-1" if kind in "UO" else -1
    y = np.where(codes < 0, np.asarray(unlabeled, names.dtype), names[codes])
    estimator = tiny().fit(X, y)
    assert estimator.classes_.dtype.kind == kind
    np.testing.assert_array_equal(estimator.classes_, names)
    np.testing.assert_array_equal(estimator.predict_proba(X), from_table)
    expected = names[from_table.argmax(axis=1)]
    np.testing.assert_array_equal(estimator.predict(X), expected)
    expected = np.where(codes < 0, expected, names[codes])
    np.testing.assert_array_equal(estimator.transduction_, expected)
    assert estimator.transduction_.dtype.kind == estimator.predict(X).dtype.kind == kind


@pytest.mark.parametrize(
    "form",
    [
        lambda y: np.where(y < 0, NAN, y),
        lambda y: pytest.importorskip("pandas").Series(y, dtype="Int64").mask(y < 0),
        lambda y: polars_series([None if label < 0 else int(label) for label in y]),
        torch.from_numpy,
    ],
    ids=["float with NaN", "pandas Int64", "polars", "torch"],
)
def test_fit_gives_same_result_for_all_forms_of_y(form, table, from_table):
    X, y = table
    found = tiny().fit(X, form(y)).predict_proba(X)
    np.testing.assert_array_equal(found, from_table)


def test_columns_of_predict_proba_follow_classes(table):
    X, y = table
    estimator = tiny(classes=[2, 5, 0, 1], steps_per_epoch=30)
    with pytest.warns(UserWarning, match=r"\[2, 5, 0, 1\] are not sorted") as record:
        estimator.fit(X, y)
    assert record[0].filename == __file__
    proba = estimator.predict_proba(X)
    np.testing.assert_array_equal(estimator.classes_, [2, 5, 0, 1])
    assert proba.shape == (60, 4)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    column = np.array([2, 3, 0])[np.arange(60) % 3]  # of the classes 0, 1 and 2
    np.testing.assert_array_equal(proba.argmax(axis=1), column)
    np.testing.assert_array_equal(estimator.predict(X), np.arange(60) % 3)


def test_sample_weight_of_unlabeled_samples_may_be_nan(table, from_table):
    X, y = table
    weights = np.where(y < 0, np.nan, 2.0)
    found = tiny().fit(X, y, sample_weight=weights).predict_proba(X)
    np.testing.assert_array_equal(found, from_table)
