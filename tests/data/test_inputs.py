import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.utils import _safe_indexing
from torch.utils.data import Dataset, TensorDataset

from pnl_sklearn import PNLClassifier


def tiny(**params):
    defaults = {"max_epochs": 2, "steps_per_epoch": 3, "random_state": 0, "graph": None}
    sizes = {"batch_size": 16, "labeled_batch_size": 8}
    return PNLClassifier(**(defaults | sizes | params))


def fit_predict(X, y, **params):
    return tiny(**params).fit(X, y).predict_proba(X)


@pytest.fixture(scope="module")
def table():
    """Sixty samples of whole numbers from 0 to 11, exact in any dtype; 12 labels."""
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
    "every other sample": lambda X: np.repeat(X, 2, axis=0)[::2],
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
def test_fit_gives_same_result_for_all_forms_of_table(form, table, from_table):
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
def test_bool_table(form, table):
    X, y = table
    expected = fit_predict((X > 5).astype(np.float32), y)
    np.testing.assert_array_equal(fit_predict(form(X > 5), y), expected)


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("form", TABLES.values(), ids=TABLES)
def test_predict_gives_same_result_for_all_forms_of_table(
    form, table, fitted, from_table
):
    X, _ = table
    np.testing.assert_array_equal(fitted.predict_proba(form(X)), from_table)


def test_predict_one_sample_with_negative_strides(table, fitted, from_table):
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


GRAPHS = {
    "float64": lambda X: X.astype(float),
    "uint8": lambda X: X.astype(np.uint8),
    "CSR": sparse.csr_matrix,
    "Dataset": lambda X: Items(X, "tensor"),
}


@pytest.fixture(scope="module")
def from_table_with_graph(table):
    p = fit_predict(*table, graph="auto", standardize=False)
    assert not np.array_equal(p, fit_predict(*table, standardize=False))
    return p


@pytest.mark.parametrize("form", GRAPHS.values(), ids=GRAPHS)
def test_fit_with_graph_gives_same_result_for_all_forms(
    form, table, from_table_with_graph
):
    X, y = table
    found = fit_predict(form(X), y, graph="auto", standardize=False)
    np.testing.assert_array_equal(found, from_table_with_graph)


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_is_scaled_without_centering(name, table):
    X, y = table
    estimator = tiny(steps_per_epoch=20).fit(getattr(sparse, name)(X), y)
    network = estimator.submodels_[0].module_
    np.testing.assert_array_equal(network.shift.squeeze(), np.zeros(6))
    np.testing.assert_allclose(network.scale.squeeze(), 1 / X.std(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(estimator.predict(X), np.arange(60) % 3)


def test_sparse_images_with_image_shape(images):
    X, y = images
    flat = X.reshape(30, 64)
    options = {"image_shape": (1, 8, 8), "standardize": False}
    expected = fit_predict(flat, y, **options)
    given = fit_predict(sparse.csr_matrix(flat), y, **options)
    np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize(
    "form", [np.asarray, lambda X: Items(X, "pair")], ids=["array", "Dataset"]
)
def test_standardization_uses_labeled_and_unlabeled_samples(form, table):
    X, y = table
    X = X * np.float32([1, 1000, 1, 1, 0, 1]) + np.float32([0, 0, 5000, 0, 7, 0])
    network = tiny().fit(form(X), y).submodels_[1].module_
    deviation = X.std(axis=0, dtype=float)
    deviation[4] = 1
    np.testing.assert_allclose(network.shift.squeeze(), X.mean(axis=0, dtype=float))
    np.testing.assert_allclose(network.scale.squeeze(), 1 / deviation, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["uint32", "uint64", "object", "longdouble"])
def test_warning_of_other_dtypes_that_vary_too_little_for_float32(dtype, table):
    X, y = (table[0] + 10**9 * (np.arange(6) == 1)).astype(dtype), table[1]
    with pytest.warns(UserWarning, match=r"Features 1 of X vary by less than"):
        tiny().fit(X, y)


def test_warning_names_features_that_vary_too_little_for_float32(table):
    X, y = table[0].astype(float) * np.where(np.arange(6) == 2, 1e-60, 1), table[1]
    with pytest.warns(UserWarning, match=r"Features 'column 2' of X vary.*1e-38"):
        tiny().fit(data_frame(X), y)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_warning_of_features_that_vary_too_little_for_float32(dtype, table):
    X, y = table[0].astype(dtype), table[1]
    with pytest.warns(
        UserWarning, match=r"Features 1, 4 of X vary.*Batches are float32"
    ):
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


def test_dataset_has_transduction_of_array(table):
    X, y = table
    expected = tiny().fit(X, y).transduction_
    np.testing.assert_array_equal(
        tiny().fit(Items(X, "pair"), y).transduction_, expected
    )


SCALES = {
    "divided by 255": lambda X: X / 255,
    "standardized": lambda X: (X - X.mean()) / X.std(),
    "times 255": lambda X: X * 255,
    "Dataset": lambda X: Items(X / 255, "pair"),
}


@pytest.mark.parametrize("form", SCALES.values(), ids=SCALES)
def test_warning_of_images_on_another_scale(form, images):
    X, y = images
    X = 20 * X
    estimator = tiny().fit(X, y)
    with pytest.warns(UserWarning, match="X has values from .* Images must") as record:
        estimator.predict(form(X))
    assert record[0].filename == __file__
    if not isinstance(form(X), Dataset):
        with pytest.warns(UserWarning, match="X_unlabeled has values") as record:
            tiny().fit(X, y, X_unlabeled=form(X)[1:])
        assert record[0].filename == __file__
    with pytest.warns(UserWarning, match="X_val has values") as record:
        tiny().fit(X, y, X_val=form(X), y_val=y)
    assert record[0].filename == __file__


def test_no_warning_of_images_on_the_same_scale(images):
    X, y = images
    estimator = tiny().fit(X.astype(np.uint8), y)
    for same in (X, X / 5, 3 * X, 0 * X, X[:1], Items(X, "pair"), X - 1):
        estimator.predict(same)
    tiny().fit(X.reshape(30, 64), y).predict(X.reshape(30, 64) / 255)  # a table


@pytest.mark.parametrize("n_features", [1000, 1001])
def test_warning_of_sparse_matrix_with_many_features(n_features, table):
    y = table[1]
    X = sparse.random(60, n_features, density=0.1, format="csr", random_state=0)
    if n_features == 1000:
        tiny().fit(X, y)
        return
    with pytest.warns(UserWarning, match=r"1,001 features.*TruncatedSVD") as record:
        tiny().fit(X, y)
    assert record[0].filename == __file__


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
def test_fit_gives_same_result_for_all_forms_of_images(form, images, from_images):
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
def test_flat_images_with_image_shape(form, image_shape, images, from_images):
    X, y = images
    given = fit_predict(form(X.reshape(30, 64)), y, image_shape=image_shape)
    np.testing.assert_array_equal(given, from_images)


@pytest.mark.parametrize("image_shape", [None, (3, 8, 8)])
@pytest.mark.parametrize("form", [np.asarray, lambda X: Items(X, "pair")])
def test_color_images_with_channels_first_or_last(form, image_shape, images):
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
def test_image_shape_resolves_ambiguous_layout(image_shape, images):
    X, y = images
    X = np.random.default_rng(0).random((30, 3, 5, 3), dtype=np.float32)
    with pytest.raises(ValueError, match=r"may be \(n, c, h, w\) or \(n, h, w, c\)"):
        tiny().fit(X, y)
    expected = X if image_shape == (3, 5, 3) else np.moveaxis(X, 3, 1)
    expected = fit_predict(expected, y, image_shape=image_shape)
    np.testing.assert_array_equal(fit_predict(X, y, image_shape=image_shape), expected)


@pytest.mark.parametrize("last", [1, 3])
def test_warning_of_image_shape_with_channels_last(last, images):
    X, y = images
    means = rf"means 8 channels of 8 x {last} pixels.*reshape X to \(n, 8, 8, {last}\)"
    flat = np.repeat(X.reshape(30, 64), last, axis=1)
    with pytest.warns(UserWarning, match=means) as record:
        tiny(image_shape=(8, 8, last)).fit(flat, y)
    assert record[0].filename == __file__


def test_two_channels_need_image_shape(images):
    X, y = images
    X = np.stack([X, -X], axis=1)
    with pytest.raises(ValueError, match=r"image_shape=\(channels, height, width\)"):
        tiny().fit(X, y)
    assert tiny(image_shape=(2, 8, 8)).fit(X, y).input_shape_ == (2, 8, 8)


@pytest.mark.smoke
def test_fit_on_table_is_accurate(table):
    X, y = table
    estimator = tiny(steps_per_epoch=30).fit(X, y)
    np.testing.assert_array_equal(estimator.predict(X), np.arange(60) % 3)


@pytest.mark.smoke
def test_fit_on_images_is_accurate(images):
    X, y = images
    estimator = tiny(steps_per_epoch=15, weak_view=None, strong_view=None).fit(X, y)
    np.testing.assert_array_equal(estimator.predict(X), np.arange(30) % 3)


def test_list_of_tuples_of_arrays_equals_array(images):
    X, y = images
    pairs = list(zip(X, 11 - X, X / 2, strict=True))
    expected = fit_predict(np.stack([X, 11 - X, X / 2], axis=1), y)
    np.testing.assert_array_equal(fit_predict(pairs, y), expected)
    flat = X.reshape(30, 64)
    tuples = [tuple(torch.as_tensor(sample)) for sample in flat]
    np.testing.assert_array_equal(fit_predict(tuples, y), fit_predict(flat, y))


@pytest.mark.parametrize("item", ["pair", "list pair", "array"])
def test_samples_of_dataset_selected_by_scikit_learn(item, table):
    # It selects a list of items, which still have to be the samples of a table.
    X, y = table
    parts = [_safe_indexing(form, list(range(40))) for form in (Items(X, item), X)]
    given, expected = (tiny().fit(part, y[:40]) for part in parts)
    assert given.input_shape_ == (6,)
    for part in parts:
        np.testing.assert_array_equal(
            given.predict_proba(part), expected.predict_proba(parts[1])
        )


@pytest.mark.parametrize("data", ["table", "images"])
def test_default_dtype_of_torch_has_no_effect(data, request):
    X, y = request.getfixturevalue(data)
    expected = request.getfixturevalue(f"from_{data}")
    torch.set_default_dtype(torch.float64)
    try:
        given = fit_predict(X, y)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(given, expected)


def test_predict_one_sample_of_structured_array():
    table = np.zeros(40, dtype=[("values", "f4", (6,)), ("other", "i1")])
    table["values"] = np.random.default_rng(0).random((40, 6))
    y = np.where(np.arange(40) < 10, np.arange(40) % 2, -1)
    classifier = tiny().fit(table["values"], y)
    whole = classifier.predict_proba(table["values"])
    one = classifier.predict_proba(table["values"][:1])
    np.testing.assert_allclose(one, whole[:1], atol=1e-6)
