"""Every form of inputs and of targets, and that equivalent forms give the same."""

import math
import re
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.utils import _safe_indexing
from torch.utils.data import Dataset, TensorDataset

from pnl_sklearn import PNLClassifier
from pnl_sklearn.data._targets import check_targets


def tiny(**params):
    defaults = {"max_epochs": 2, "steps_per_epoch": 3, "random_state": 0}
    sizes = {"batch_size": 16, "labeled_batch_size": 8}
    return PNLClassifier(**(defaults | sizes | params))


def fit_predict(X, y, **params):
    return tiny(**params).fit(X, y).predict_proba(X)


@pytest.fixture(scope="module")
def table():
    """Sixty rows of whole numbers from 0 to 11, exact in any dtype; 12 labels."""
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    X = rng.integers(0, 4, (60, 6)) + 4 * ((truth[:, None] + np.arange(6)) % 3)
    return X.astype(np.float32), np.where(np.arange(60) < 12, truth, -1)


@pytest.fixture(scope="module")
def images():
    """Thirty 8x8 images of whole numbers: a bright bar at one of three heights."""
    rng = np.random.default_rng(1)
    truth = np.arange(30) % 3
    X = rng.integers(0, 4, (30, 8, 8))
    for image, label in zip(X, truth, strict=True):
        image[2 + 2 * label] += 9
    return X.astype(np.float32), np.where(np.arange(30) < 9, truth, -1)


@pytest.fixture(scope="module")
def fitted(table):
    return tiny().fit(*table)


@pytest.fixture(scope="module")
def from_table(table, fitted):
    return fitted.predict_proba(table[0])


@pytest.fixture(scope="module")
def from_images(images):
    return fit_predict(*images)


class Items(Dataset):
    """Reads an array item by item, as it is or in pairs."""

    def __init__(self, array, item):
        self.array = array
        self.item = item

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        x = self.array[index]
        return {
            "array": x,
            "tensor": torch.as_tensor(x),
            "pair": (torch.as_tensor(x), "anything"),
            "list pair": [x, 0],
        }[self.item]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def data_frame(X, **kwargs):
    pandas = pytest.importorskip("pandas")
    names = [f"column {i}" for i in range(X.shape[1])]
    return pandas.DataFrame(X, columns=names, **kwargs)


def polars_frame(X):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(X, schema=[f"column {i}" for i in range(X.shape[1])])


DTYPES = ["float16", "float64", ">f8", "int8", "int16", "int32", "int64", "uint8"]
TABLES = {dtype: lambda X, dtype=dtype: X.astype(dtype) for dtype in DTYPES} | {
    "Fortran order": np.asfortranarray,
    "Fortran order float64": lambda X: np.asfortranarray(X, dtype=float),
    "read-only": read_only,
    "read-only uint8": lambda X: read_only(X.astype(np.uint8)),
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "negative strides uint8": lambda X: X[::-1].astype(np.uint8)[::-1],
    "every other row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "object": lambda X: X.astype(object),
    "pandas": data_frame,
    "pandas int": lambda X: data_frame(X.astype(int)),
    "pandas nullable": lambda X: data_frame(X).astype("Int64"),
    "pandas object": lambda X: data_frame(X).astype(object),
    "polars": polars_frame,
    "polars int": lambda X: polars_frame(X.astype(int)),
    "torch": torch.from_numpy,
    "torch bfloat16": lambda X: torch.from_numpy(X).bfloat16(),
    "torch float16": lambda X: torch.from_numpy(X).half(),
    "torch uint8": lambda X: torch.from_numpy(X).byte(),
    "torch with gradient": lambda X: torch.from_numpy(X.copy()).requires_grad_(),
    "Dataset of arrays": lambda X: Items(X, "array"),
    "Dataset of tensors": lambda X: Items(X, "tensor"),
    "Dataset of pairs": lambda X: Items(X, "pair"),
    "Dataset of lists": lambda X: Items(X, "list pair"),
    "TensorDataset": lambda X: TensorDataset(torch.tensor(X), torch.zeros(len(X))),
    "Dataset of integers": lambda X: Items(X.astype(int), "array"),
}


@pytest.mark.parametrize("form", TABLES.values(), ids=TABLES)
def test_forms_of_a_table_give_the_same(form, table, from_table):
    X, y = table
    np.testing.assert_array_equal(fit_predict(form(X), y), from_table)


def test_memmap(table, from_table, tmp_path):
    X, y = table
    for mode in ("w+", "r"):
        mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode=mode, shape=X.shape)
        if mode == "w+":
            mapped[:] = X
        np.testing.assert_array_equal(fit_predict(mapped, y), from_table)


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, data_frame])
def test_bool(form, table):
    X, y = table
    expected = fit_predict((X > 5).astype(np.float32), y)
    np.testing.assert_array_equal(fit_predict(form(X > 5), y), expected)


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("form", TABLES.values(), ids=TABLES)
def test_forms_predict_the_same(form, table, fitted, from_table):
    X, _ = table
    np.testing.assert_array_equal(fitted.predict_proba(form(X)), from_table)


def test_one_reversed_row(table, fitted, from_table):
    one = table[0][::-1][:1]  # contiguous by its flags, with a negative stride
    given = fitted.predict_proba(one)
    np.testing.assert_allclose(given, from_table[-1:], rtol=1e-5)


SPARSE = ["csr_matrix", "csc_matrix", "coo_matrix", "csr_array", "coo_array"]


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_sparse_equals_dense_without_standardization(name, dtype, table):
    X, y = table
    form = getattr(sparse, name)(X.astype(dtype))
    expected = fit_predict(X, y, standardize=False)
    np.testing.assert_array_equal(fit_predict(form, y, standardize=False), expected)


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_is_scaled_without_centering(name, table):
    X, y = table
    estimator = tiny(steps_per_epoch=20).fit(getattr(sparse, name)(X), y)
    network = estimator.submodels_[0].module_
    np.testing.assert_array_equal(network.shift.squeeze(), np.zeros(6))
    np.testing.assert_allclose(network.scale.squeeze(), 1 / X.std(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(estimator.predict(X), np.arange(60) % 3)


def test_sparse_rows_that_are_images(images):
    X, y = images
    flat = X.reshape(30, 64)
    options = {"image_shape": (1, 8, 8), "standardize": False}
    expected = fit_predict(flat, y, **options)
    given = fit_predict(sparse.csr_matrix(flat), y, **options)
    np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize(
    "form", [np.asarray, lambda X: Items(X, "pair")], ids=["array", "Dataset"]
)
def test_standardization_uses_labeled_and_unlabeled_rows(form, table):
    X, y = table
    X = X * np.float32([1, 1000, 1, 1, 0, 1]) + np.float32([0, 0, 5000, 0, 7, 0])
    network = tiny().fit(form(X), y).submodels_[1].module_
    deviation = X.std(axis=0, dtype=float)
    deviation[4] = 1
    np.testing.assert_allclose(network.shift.squeeze(), X.mean(axis=0, dtype=float))
    np.testing.assert_allclose(network.scale.squeeze(), 1 / deviation, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_digits_that_a_float32_has_not_are_missed(dtype, table):
    X, y = table[0].astype(dtype), table[1]
    with pytest.warns(UserWarning, match=r"Features 1, 4 of X vary by less"):
        tiny().fit(X + dtype(10**9) * np.isin(np.arange(6), [1, 4]), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant = np.where(np.arange(6) == 1, dtype(10**9), X)
        tiny().fit(constant + (1e-8 * X if dtype == np.float64 else 0), y)
        tiny().fit(X + dtype(10**5), y)
        tiny().fit((X + dtype(10**9)).reshape(60, 2, 3), y)


def test_images_are_standardized_by_channel(images):
    X, y = images
    X = np.stack([X, 5 * X + 3, X**2], axis=1)
    network = tiny().fit(X, y).submodels_[0].module_
    mean, deviation = X.mean(axis=(0, 2, 3)), X.std(axis=(0, 2, 3))
    np.testing.assert_allclose(network.shift.flatten(), mean, rtol=1e-5)
    np.testing.assert_allclose(network.scale.flatten(), 1 / deviation, rtol=1e-5)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_feature_names(library, table):
    X, y = table
    form = data_frame if library == "pandas" else polars_frame
    estimator = tiny().fit(form(X), y)
    names = [f"column {i}" for i in range(6)]
    assert estimator.feature_names_in_.tolist() == names
    assert estimator.n_features_in_ == 6
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(form(X)[names[::-1]])
    estimator.fit(Items(X, "tensor"), y)
    assert not hasattr(estimator, "feature_names_in_")


@pytest.mark.parametrize("item", ["array", "pair"])
def test_dataset_with_workers(item, table, from_table):
    X, y = table
    workers = {"iterator_train__num_workers": 1}
    given = fit_predict(Items(X, item), y, net_params=workers)
    np.testing.assert_array_equal(given, from_table)


def test_dataset_has_no_transduction(table):
    X, y = table
    after_an_array = tiny().fit(X, y).fit(Items(X, "array"), y)
    assert not hasattr(after_an_array, "transduction_")


IMAGES = {
    "(n, c, h, w)": lambda X: X[:, None],
    "(n, h, w, c)": lambda X: X[..., None],
    "uint8": lambda X: X.astype(np.uint8),
    "uint8 (n, h, w, c)": lambda X: X[..., None].astype(np.uint8),
    "int64": lambda X: X.astype(np.int64),
    "float16": lambda X: X.astype(np.float16),
    "float64": lambda X: X.astype(np.float64),
    "object": lambda X: X.astype(object),
    "Fortran order": np.asfortranarray,
    "read-only": read_only,
    "negative strides": lambda X: X[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "list": lambda X: X.tolist(),
    "torch": torch.from_numpy,
    "torch uint8": lambda X: torch.from_numpy(X).byte(),
    "Dataset of (h, w)": lambda X: Items(X, "array"),
    "Dataset of (c, h, w)": lambda X: Items(X[:, None], "pair"),
    "Dataset of (h, w, c)": lambda X: Items(X[..., None], "pair"),
}


@pytest.mark.parametrize("form", IMAGES.values(), ids=IMAGES)
def test_forms_of_images_give_the_same(form, images, from_images):
    X, y = images
    np.testing.assert_array_equal(fit_predict(form(X), y), from_images)


@pytest.mark.parametrize(
    ("form", "image_shape"),
    [
        (np.asarray, (1, 8, 8)),
        (data_frame, [1, 8, 8]),
        (torch.tensor, np.array([1, 8, 8])),
        (lambda X: Items(X, "tensor"), (1, 8, 8)),
    ],
    ids=["array", "pandas", "torch", "Dataset"],
)
def test_rows_that_are_images(form, image_shape, images, from_images):
    X, y = images
    given = fit_predict(form(X.reshape(30, 64)), y, image_shape=image_shape)
    np.testing.assert_array_equal(given, from_images)


@pytest.mark.parametrize("image_shape", [None, (3, 8, 8)])
@pytest.mark.parametrize("form", [np.asarray, lambda X: Items(X, "pair")])
def test_color_images_of_either_layout(form, image_shape, images):
    X, y = images
    X = np.stack([X, 11 - X, X / 2], axis=1)
    first = tiny().fit(X, y)
    last = tiny(image_shape=image_shape).fit(form(np.moveaxis(X, 1, 3)), y)
    np.testing.assert_array_equal(first.predict_proba(X), last.predict_proba(X))
    assert first.n_features_in_ == last.n_features_in_ == 3 * 8 * 8
    assert first.input_shape_ == last.input_shape_ == (3, 8, 8)


@pytest.mark.parametrize("width", [1, 3, 4])
def test_narrow_images_are_not_ambiguous(width, images):
    X, y = images
    X = X[:, :, :width]
    expected = fit_predict(X[:, None], y, image_shape=(1, 8, width))
    np.testing.assert_array_equal(fit_predict(X, y), expected)


@pytest.mark.parametrize("image_shape", [(3, 5, 3), (3, 3, 5)])
def test_image_shape_settles_an_ambiguous_layout(image_shape, images):
    X, y = images
    X = np.random.default_rng(0).random((30, 3, 5, 3), dtype=np.float32)
    with pytest.raises(ValueError, match=r"may be \(n, c, h, w\) or \(n, h, w, c\)"):
        tiny().fit(X, y)
    expected = X if image_shape == (3, 5, 3) else np.moveaxis(X, 3, 1)
    expected = fit_predict(expected, y, image_shape=image_shape)
    np.testing.assert_array_equal(fit_predict(X, y, image_shape=image_shape), expected)


@pytest.mark.parametrize("last", [1, 3])
def test_an_image_shape_that_ends_with_the_channels_is_told(last, images):
    X, y = images
    means = rf"means 8 channels of 8 x {last} pixels.*of shape \(n, 8, 8, {last}\)"
    rows = np.repeat(X.reshape(30, 64), last, axis=1)
    with pytest.warns(UserWarning, match=means) as told:
        tiny(image_shape=(8, 8, last)).fit(rows, y)
    assert told[0].filename == __file__


def test_two_channels_need_image_shape(images):
    X, y = images
    X = np.stack([X, -X], axis=1)
    with pytest.raises(ValueError, match=r"image_shape=\(channels, height, width\)"):
        tiny().fit(X, y)
    assert tiny(image_shape=(2, 8, 8)).fit(X, y).input_shape_ == (2, 8, 8)


@pytest.mark.smoke
def test_a_table_is_learned(table):
    X, y = table
    estimator = tiny(steps_per_epoch=30).fit(X, y)
    np.testing.assert_array_equal(estimator.predict(X), np.arange(60) % 3)


@pytest.mark.smoke
def test_images_are_learned(images):
    X, y = images
    estimator = tiny(steps_per_epoch=15, weak_view=None, strong_view=None).fit(X, y)
    np.testing.assert_array_equal(estimator.predict(X), np.arange(30) % 3)


def test_a_list_of_tuples_of_arrays_is_an_array(images):
    X, y = images
    pairs = list(zip(X, 11 - X, X / 2, strict=True))
    expected = fit_predict(np.stack([X, 11 - X, X / 2], axis=1), y)
    np.testing.assert_array_equal(fit_predict(pairs, y), expected)
    rows = [tuple(torch.as_tensor(row)) for row in X.reshape(30, 64)]
    np.testing.assert_array_equal(
        fit_predict(rows, y), fit_predict(X.reshape(30, 64), y)
    )


@pytest.mark.parametrize("item", ["pair", "list pair", "array"])
def test_rows_that_scikit_learn_takes_from_a_dataset(item, table):
    """It takes them as a list of items, which have to be the rows of a table still."""
    X, y = table
    parts = [_safe_indexing(form, list(range(40))) for form in (Items(X, item), X)]
    given, expected = (tiny().fit(part, y[:40]) for part in parts)
    assert given.input_shape_ == (6,)
    for part in parts:
        np.testing.assert_array_equal(
            given.predict_proba(part), expected.predict_proba(parts[1])
        )


@pytest.mark.parametrize("data", ["table", "images"])
def test_another_default_dtype_of_torch_changes_nothing(data, request):
    X, y = request.getfixturevalue(data)
    expected = fit_predict(X, y)
    torch.set_default_dtype(torch.float64)
    try:
        given = fit_predict(X, y)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(given, expected)


# Targets: the same six rows, of which two are unlabeled, in every form.


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
# Whole numbers beside missing ones that numpy, asked for an array, makes floats.
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
def test_forms_of_numbers_give_the_same_codes(form):
    codes, classes = check_targets(form())
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, CODES)
    np.testing.assert_array_equal(classes, [3, 7])
    assert classes.dtype.kind in "if"


@pytest.mark.parametrize("form", NULLABLE.values(), ids=NULLABLE)
def test_whole_numbers_beside_missing_ones_stay_whole(form):
    codes, classes = check_targets(form([LARGE, LARGE + 1, None, LARGE + 1, None, 0]))
    np.testing.assert_array_equal(codes, [1, 2, -1, 2, -1, 0])
    assert classes.dtype == np.int64
    assert classes.tolist() == [0, LARGE, LARGE + 1]


@pytest.mark.parametrize("form", STRINGS.values(), ids=STRINGS)
def test_forms_of_strings_give_the_same_codes(form):
    codes, classes = check_targets(form())
    assert codes.dtype == np.int64
    np.testing.assert_array_equal(codes, CODES)
    assert classes.tolist() == ["a", "bc"]


@pytest.mark.parametrize("form", BOOLS.values(), ids=BOOLS)
def test_forms_of_bools_give_the_same_codes(form):
    codes, classes = check_targets(form())
    np.testing.assert_array_equal(codes, CODES)
    np.testing.assert_array_equal(classes, [False, True])
    assert classes.dtype == bool


def test_all_labeled_bools():
    codes, classes = check_targets(np.array([True, False, True]))
    np.testing.assert_array_equal(codes, [1, 0, 1])
    np.testing.assert_array_equal(classes, [False, True])


@pytest.mark.parametrize("mark", ["", "nan", "None", "<NA>", "-1.0"])
def test_missing_values_made_strings_are_told(mark):
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


def test_minus_one_made_unsigned_is_told():
    y = torch.tensor([0, 1, -1] * 4).to(torch.uint8)
    with pytest.warns(UserWarning, match=r"labels \[255\].*before y is made uint8"):
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
def test_a_class_minus_one_beside_missing_values_is_told(y):
    with pytest.warns(UserWarning, match=r"-1, 0 and 1, and missing.*y = y \+ 1"):
        codes, _ = check_targets(y)
    np.testing.assert_array_equal(codes, [-1, 0, 1, -1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_targets(y, classes=[y[1], y[2]])
        check_targets([-1, -1, 0, 1])
        check_targets([None, NAN, 0, 1])
        check_targets([-1, 0, 1, 2, None])


def test_a_minus_is_a_label():
    codes, classes = check_targets(np.array(["+", "-", "+"]))
    assert classes[codes].tolist() == ["+", "-", "+"]


@pytest.mark.parametrize(
    "y", [[3, 7, -1], [7.0, NAN, 3.0], np.array([7, None, 3], dtype=object)]
)
@pytest.mark.parametrize("classes", [[7, 3], [9, 3, 7], np.array([3, 5, 7, 9])])
def test_classes_fix_order_and_completeness(y, classes):
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
def test_labels_do_not_change_what_is_learned(names, kind, table, from_table):
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
def test_forms_of_targets_are_learned_alike(form, table, from_table):
    X, y = table
    np.testing.assert_array_equal(fit_predict(X, form(y)), from_table)


def test_columns_follow_classes(table):
    X, y = table
    estimator = tiny(classes=[2, 5, 0, 1], steps_per_epoch=30)
    with pytest.warns(UserWarning, match=r"\[2, 5, 0, 1\] are not sorted") as told:
        estimator.fit(X, y)
    assert told[0].filename == __file__
    proba = estimator.predict_proba(X)
    np.testing.assert_array_equal(estimator.classes_, [2, 5, 0, 1])
    assert proba.shape == (60, 4)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    column = np.array([2, 3, 0])[np.arange(60) % 3]  # where 0, 1 and 2 stand
    np.testing.assert_array_equal(proba.argmax(axis=1), column)
    np.testing.assert_array_equal(estimator.predict(X), np.arange(60) % 3)
