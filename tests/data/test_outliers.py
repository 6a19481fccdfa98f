"""Values far beyond those of all other samples are clipped, heavy tails are not."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from pnl_sklearn.data._inputs import Inputs
from pnl_sklearn.data._outliers import clip_outliers
from pnl_sklearn.data._sources import make_source

rng = np.random.default_rng(0)
NORMAL = rng.normal(size=(1000, 3))
UNCHANGED = {
    "log-normal": rng.lognormal(size=(12_000, 50)),
    "Student t": rng.standard_t(3, size=(12_000, 50)),
    "counts": rng.negative_binomial(0.5, 0.05, size=(12_000, 50)),
    "one-hot": rng.random((12_000, 50)) < rng.random(50) ** 8,
    "zero-inflated": rng.lognormal(size=(12_000, 50))
    * (rng.random((12_000, 50)) < 0.01),
    "little variation": rng.normal(1e4, 1, size=(12_000, 50)),
    "constant": np.full((12_000, 2), 0.1),
    "breast cancer": load_breast_cancer().data,
}


def clip(X, names=None, **params):
    """Return X as the source streams it after clipping."""
    inputs = Inputs(X, (X.shape[1],), (X.min(), X.max()))
    source = clip_outliers(make_source(inputs, "cpu", None), inputs, names, **params)
    return next(source.stream([np.arange(len(X))])).numpy()


def clipped_to_others(X, samples):
    others = np.delete(X, samples, 0)
    return X.clip(others.min(axis=0), others.max(axis=0)).astype(np.float32)


@pytest.mark.parametrize("n_samples", [1, 2, 20, 300, 12_000])
@pytest.mark.parametrize("name", UNCHANGED)
def test_samples_without_errors_are_unchanged(name, n_samples):
    X = UNCHANGED[name][:n_samples]
    np.testing.assert_array_equal(clip(X), X.astype(np.float32))


def test_far_values_of_more_than_one_percent_of_the_samples_are_unchanged():
    X = NORMAL.copy()
    X[:4, 0] = X[4:8, 1] = X[8:11, 2] = 1e9
    np.testing.assert_array_equal(clip(X), X.astype(np.float32))
    X[10, 2] = 0
    with pytest.warns(UserWarning, match="^10 samples have"):
        np.testing.assert_array_equal(clip(X), clipped_to_others(X, range(10)))


@pytest.mark.parametrize("value", [1e9, -1e9, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_far_value_is_clipped_to_the_range_of_the_others(dtype, value):
    X = np.random.default_rng(0).integers(0, 17, size=(60, 3)).astype(dtype)
    X[50, 1] = value
    with pytest.warns(UserWarning, match=r"^1 sample has values of feature 1 that are"):
        np.testing.assert_array_equal(clip(X), clipped_to_others(X, 50))


def test_sample_is_clipped_in_all_features():
    X = NORMAL.copy()
    X[:, 1], X[:, 2], X[30] = 5, np.arange(1000) == 8, 1e9
    with pytest.warns(UserWarning, match="of feature 0 that"):
        np.testing.assert_array_equal(clip(X), clipped_to_others(X, 30))


def test_warning_names_at_most_five_features():
    X = np.random.default_rng(0).normal(size=(100, 8))
    X[0, :2] = 1e9
    with pytest.warns(UserWarning, match="of features 'a', 'b' that"):
        clip(X, np.array(list("abcdefgh")))
    X[0] = 1e9
    with pytest.warns(UserWarning, match=r"of features 0, 1, 2, 3, 4, \.\.\. that"):
        clip(X)


def test_n_spreads():
    X = NORMAL.copy()
    X[5, 0] = 100
    np.testing.assert_array_equal(clip(X), X.astype(np.float32))
    with pytest.warns(UserWarning, match="feature 0"):
        np.testing.assert_array_equal(clip(X, n_spreads=50), clipped_to_others(X, 5))
