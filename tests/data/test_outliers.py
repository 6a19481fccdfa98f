"""Values far beyond those of all other samples are clipped, heavy tails are not."""

import re

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from pnl_sklearn.data._inputs import Inputs
from pnl_sklearn.data._outliers import clip_outliers
from pnl_sklearn.data._sources import make_source

FAR = "far beyond"
random = np.random.default_rng(0)
HEAVY_TAILS = {
    "Pareto": lambda n: random.pareto(1.5, size=(n, 200)),
    "two-sided Pareto": lambda n: (
        random.pareto(1.5, size=(n, 200)) * random.choice([-1, 1], size=(n, 200))
    ),
    "log-normal": lambda n: random.lognormal(sigma=3, size=(n, 200)),
    "Student t": lambda n: random.standard_t(1.5, size=(n, 200)),
    "counts": lambda n: random.negative_binomial(0.05, 0.01, size=(n, 200)),
    "Zipf": lambda n: random.zipf(2.5, size=(n, 200)),
    "one-hot": lambda n: random.random((n, 200)) < random.random(200) ** 8,
    "mostly zero": lambda n: (
        random.lognormal(sigma=2, size=(n, 200))
        * (random.random((n, 200)) < random.random(200) ** 4)
    ),
    "normal": lambda n: random.normal(1e4, 1, size=(n, 200)),
    "constant": lambda n: np.full((n, 200), 0.1),
}


def clip(X, names=None):
    """Return X as the source streams it after clipping."""
    inputs = Inputs(X, (X.shape[1],))
    source = clip_outliers(make_source(inputs, "cpu", None), inputs, names)
    return next(source.stream([np.arange(X.shape[0])])).numpy()


def clipped_to_others(X, samples):
    """Return X with some samples clipped to the range of all others."""
    others = np.delete(X, samples, 0)
    return X.clip(others.min(axis=0), others.max(axis=0)).astype(np.float32)


@pytest.mark.parametrize("n_samples", [3, 15, 30, 300, 3000, 12_000])
@pytest.mark.parametrize("name", HEAVY_TAILS)
def test_heavy_tails_and_rare_values_are_unchanged(name, n_samples):
    X = HEAVY_TAILS[name](n_samples).astype(np.float32)
    inputs = Inputs(X, (200,))
    source = make_source(inputs, "cpu", None)
    assert clip_outliers(source, inputs) is source


@pytest.mark.parametrize(
    "load", [load_breast_cancer, load_digits, load_iris, load_wine]
)
def test_data_of_scikit_learn_are_unchanged(load):
    X = load(return_X_y=True)[0]
    np.testing.assert_array_equal(clip(X), X.astype(np.float32))


@pytest.mark.parametrize("value", [1e9, -1e9, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_far_value_is_clipped_to_the_range_of_the_others(dtype, value):
    X = np.random.default_rng(0).integers(0, 17, size=(200, 3)).astype(dtype)
    broken = X.copy()
    broken[50, 1] = value
    with pytest.warns(UserWarning, match=f"^1 sample has .* feature 1 that .* {FAR}"):
        clipped = clip(broken)
    X[50, 1] = 16 if value > 0 else 0
    np.testing.assert_array_equal(clipped, X)


def test_far_value_of_other_heavy_tails_is_clipped():
    X = np.random.default_rng(0).pareto(1.5, size=(1000, 2)).astype(np.float32)
    broken = X.copy()
    broken[7, 0] = 1e12
    with pytest.warns(UserWarning, match=FAR):
        clipped = clip(broken)
    np.testing.assert_array_equal(clipped, clipped_to_others(broken, 7))


def test_clipped_sample_is_clipped_in_all_features():
    broken = np.random.default_rng(0).normal(size=(100, 3))
    broken[:, 1], broken[:, 2] = 5, np.arange(100) == 8
    broken[30] = 1e9
    with pytest.warns(UserWarning, match="^1 sample has .* feature 0 that"):
        np.testing.assert_array_equal(clip(broken), clipped_to_others(broken, 30))


def test_each_sample_may_have_a_far_value():
    X = np.random.default_rng(0).normal(size=(100, 100))
    broken = np.where(np.eye(100), 1e9, X)
    with pytest.warns(UserWarning, match=f"^100 samples have .* {FAR}"):
        clipped = clip(broken)
    largest = np.where(np.eye(100), -np.inf, X).max(axis=0)
    np.testing.assert_array_equal(clipped, broken.clip(max=largest).astype(np.float32))


def test_several_outliers_of_different_size_are_clipped():
    broken = np.random.default_rng(0).normal(size=(1000, 2))
    broken[[3, 300, 999], 0] = 1e15, -1e7, 1e5
    broken[3, 1] = 1e9
    names = np.array(["age", "height"])
    message = f"^3 samples have .* features 'age', 'height' that .* {FAR}"
    with pytest.warns(UserWarning, match=message):
        clipped = clip(broken, names)
    expected = clipped_to_others(broken, [3, 300, 999])
    np.testing.assert_array_equal(clipped, expected)


def test_only_some_of_many_features_are_named():
    broken = np.random.default_rng(0).normal(size=(100, 8))
    broken[0] = 1e9
    with pytest.warns(UserWarning, match=re.escape("features 0, 1, 2, 3, 4, ... that")):
        clip(broken)


def test_values_of_more_than_one_percent_of_the_samples_are_unchanged():
    X = np.random.default_rng(0).normal(size=(1000, 2))
    X[:20, 0] = 1e9
    np.testing.assert_array_equal(clip(X), X.astype(np.float32))


@pytest.mark.parametrize("density", [0.1, 0.9])
def test_far_value_of_a_sparse_matrix(density):
    X = sparse.random(500, 6, density, format="csr", random_state=0, dtype=np.float32)
    np.testing.assert_array_equal(clip(X), X.toarray())
    broken = X.toarray()
    broken[4, 2] = 1e9
    with pytest.warns(UserWarning, match=f"^1 sample has .* feature 2 that .* {FAR}"):
        clipped = clip(sparse.csr_matrix(broken))
    np.testing.assert_array_equal(clipped, clipped_to_others(broken, 4))


def test_read_only_arrays_are_supported(tmp_path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(100, 2)))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(clip(mapped), mapped.astype(np.float32))


def test_images_and_datasets_are_unchanged():
    images = np.ones((100, 4), dtype=np.float32)
    images[3] = 1e9
    inputs = Inputs(images, (1, 2, 2))
    source = make_source(inputs, "cpu", None)
    assert clip_outliers(source, inputs) is source
