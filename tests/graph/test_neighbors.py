"""The graph of nearest neighbors against scikit-learn and dense formulas of numpy."""

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsTransformer, NearestNeighbors, kneighbors_graph
from sklearn.preprocessing import StandardScaler

from pnl_sklearn.data._sources import ArraySource
from pnl_sklearn.graph._neighbors import (
    approximate_distances,
    nearest_distances,
    neighbor_graph,
    reduced_features,
    search_neighbors,
    self_tuning_weights,
    standardization,
)


def dense_graph(X, k):
    """Weights exp(-d^2 / (s t)) of nearest neighbors, sample by sample."""
    distances, near = NearestNeighbors(n_neighbors=k).fit(X).kneighbors()
    graph = np.zeros((len(X), len(X)))
    for i in range(len(X)):
        for d, j in zip(distances[i], near[i], strict=True):
            weight = np.exp(-(d**2) / (distances[i, -1] * distances[j, -1]))
            graph[i, j] += weight
            graph[j, i] += weight
    return graph


def test_weights_are_those_of_a_dense_formula():
    X = (make_moons(80, noise=0.1, random_state=0)[0] * [1, 100]).astype(np.float32)
    found = neighbor_graph(X, 10, weighted=True).toarray()
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(found, dense_graph(scaled, 10), rtol=1e-4)
    ones = neighbor_graph(X, 10, weighted=False).toarray()
    np.testing.assert_array_equal(ones, found > 0)
    unscaled = neighbor_graph(X, 10, weighted=True, standardize=False).toarray()
    np.testing.assert_allclose(unscaled, dense_graph(X, 10), rtol=1e-4)


def test_sparse_features_are_scaled_without_centering():
    X = np.random.default_rng(0).normal(size=(60, 4)) * [1, 5, 5, 20]
    found = neighbor_graph(sparse.csr_matrix(X), 8, weighted=True).toarray()
    expected = dense_graph(StandardScaler(with_mean=False).fit_transform(X), 8)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_far_and_equal_samples_have_neighbors():
    X = np.random.default_rng(0).normal(size=(60, 2))
    X[0] = 1e4
    X[1:30] = X[1]
    weights = neighbor_graph(X, 10, weighted=True)
    assert np.isfinite(weights.data).all()
    assert (weights.sum(axis=1) > 0).all()


@pytest.mark.parametrize("n_samples", [2, 10])
def test_of_few_samples_all_others_are_neighbors(n_samples):
    X = np.arange(n_samples, dtype=float)[:, None]
    graph = neighbor_graph(X, 10, weighted=False).toarray()
    np.testing.assert_array_equal(graph, 1 - np.eye(n_samples))


def test_self_tuning_weights_of_rows_with_different_numbers_of_entries():
    distances = np.array([[0, 2, 0, 0], [2, 0, 4, 0], [0, 4, 0, 1], [3, 0, 1, 0.0]])
    scale = distances.max(axis=1)
    weights = np.exp(-(distances**2) / np.outer(scale, scale)) * (distances > 0)
    found = self_tuning_weights(sparse.csr_matrix(distances))
    np.testing.assert_allclose(found.toarray(), weights + weights.T)


def test_neighbors_of_many_samples_are_exact():
    X = np.random.default_rng(0).normal(size=(10_001, 11)).astype(np.float32)
    found = nearest_distances(X, 10)
    some = np.arange(0, 10_001, 100)
    distances = np.linalg.norm(X[some, None].astype(float) - X, axis=2)
    distances[np.arange(len(some)), some] = np.inf
    near = distances.argsort(axis=1)[:, :10]
    np.testing.assert_array_equal(found[some].indices.reshape(-1, 10), near)
    expected = np.take_along_axis(distances, near, axis=1)
    np.testing.assert_allclose(found[some].data.reshape(-1, 10), expected, rtol=1e-4)


# The approximate search.


def test_approximate_neighbors_are_mostly_the_exact_ones():
    pytest.importorskip("faiss")
    X, _ = make_blobs(5000, 10, centers=20, random_state=0)
    exact = kneighbors_graph(X, 10, mode="distance")
    found = approximate_distances(X, 10)
    again = approximate_distances(X, 10)
    np.testing.assert_array_equal(again.indices, found.indices)
    np.testing.assert_array_equal(again.data, found.data)
    is_both = (exact > 0).multiply(found > 0)
    assert is_both.sum() >= 0.99 * exact.nnz
    difference = abs(found - exact).multiply(is_both)
    assert difference.max() < 1e-4 * exact.max()
    assert (np.diff(found.indptr) == 10).all()


@pytest.mark.parametrize(
    "params", [{}, {"n_links": 2, "n_candidates": (2, 11)}], ids=["default", "few"]
)
@pytest.mark.parametrize("unit", [1e-25, 1.0, 1e25])
def test_each_sample_has_approximate_neighbors_other_than_itself(unit, params):
    """Also if many samples are equal, and if the index is not connected."""
    pytest.importorskip("faiss")
    X = np.random.default_rng(0).normal(size=(2000, 3)).round()
    X[:300] = 50.0
    found = approximate_distances((unit * X).astype(np.float32), 10, **params)
    start = np.arange(2000).repeat(10)
    assert (np.diff(found.indptr) == 10).all()
    assert (found.indices != start).all()
    expected = np.linalg.norm(X[start] - X[found.indices], axis=1)
    np.testing.assert_allclose(found.data / unit, expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(self_tuning_weights(found).data).all()


def test_faiss_keeps_its_number_of_threads():
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    approximate_distances(np.random.default_rng(0).normal(size=(50, 3)), 5)
    assert faiss.omp_get_max_threads() == 2
    faiss.omp_set_num_threads(before)


# The search for neighbors.


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


def searched(search, X):
    source = ArraySource(X.reshape(len(X), -1), X.shape[1:], "cpu")
    return search_neighbors(search, source, len(X), X.shape[1:])


@pytest.mark.parametrize(
    "search",
    [
        KNeighborsTransformer(mode="distance", n_neighbors=10).fit_transform,
        lambda X: kneighbors_graph(X, 10, mode="distance"),
        lambda X: kneighbors_graph(X, 10, mode="distance", include_self=True).tocoo(),
        lambda X: sparse.csc_array(kneighbors_graph(X, 10, mode="distance")),
        lambda X: kneighbors_graph(X, 10, mode="distance").astype(np.float32),
        lambda X: 1e200 * kneighbors_graph(X, 10, mode="distance"),
        lambda X: 1e-200 * kneighbors_graph(X, 10, mode="distance"),
    ],
)
def test_matrices_of_any_format_and_unit(search, table):
    n_neighbors = np.diff(searched(search, table).indptr)
    assert (n_neighbors == n_neighbors[0]).all()
    found = self_tuning_weights(searched(search, table)).toarray()
    expected = dense_graph(table, n_neighbors[0])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_explicit_zeros_are_neighbors_but_for_the_diagonal(table):
    table[1:20] = table[0]

    def search(X):
        return kneighbors_graph(X, 5, mode="distance", include_self=True)

    found = searched(search, table).tocoo()
    expected = search(table).tocoo()
    edges = set(zip(expected.row, expected.col, strict=True))
    assert (expected.data == 0).sum() > 60
    edges -= {(i, i) for i in range(50)}
    assert set(zip(found.row, found.col, strict=True)) == edges
    weights = self_tuning_weights(found.tocsr())
    assert np.isfinite(weights.data).all()


def test_a_search_is_called_with_samples_in_their_shape_that_it_may_change():
    X = np.random.default_rng(0).normal(size=(30, 1, 4, 5)).astype(np.float32)
    kept, seen = X.copy(), []

    def search(X):
        seen.append(X.copy())
        X *= 0
        return kneighbors_graph(kept.reshape(30, -1), 3, mode="distance")

    searched(search, X)
    np.testing.assert_array_equal(seen[0], kept)
    np.testing.assert_array_equal(X, kept)
    assert seen[0].dtype == np.float32


def with_value(value):
    def search(X):
        graph = kneighbors_graph(X, 3, mode="distance")
        graph.data[7] = value
        return graph

    return search


def without_neighbors_of_4(X):
    graph = kneighbors_graph(X, 3, mode="distance").tolil()
    graph[4] = 0
    graph[4, 4] = 1
    return graph


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (lambda X: X, r"a ndarray of shape \(50, 3\) for 50 samples.*NeighborSearch"),
        (lambda X: None, r"a NoneType for 50 samples"),
        (lambda X: sparse.eye(49), r"of shape \(49, 49\) for 50 samples"),
        (with_value(-1), "negative, NaN or infinite"),
        (with_value(np.nan), "negative, NaN or infinite"),
        (with_value(np.inf), "negative, NaN or infinite"),
        (without_neighbors_of_4, "no neighbor of sample 4"),
    ],
)
def test_invalid_results_of_a_search_raise(search, message, table):
    with pytest.raises(ValueError, match=r"^neighbors=.*" + message):
        searched(search, table)


# Features.


def test_standardization_is_that_of_scikit_learn():
    X = np.random.default_rng(0).normal(size=(3000, 4)) * [1, 5, 5, 20] + 7
    X = np.column_stack([X, np.full(3000, 0.1)]).astype(np.float32)
    for table, expected in [
        (X, StandardScaler().fit_transform(X.astype(float))),
        (X.clip(-0.1, 0.1), X.clip(-0.1, 0.1)),
    ]:
        function = standardization(ArraySource(table, (5,), "cpu"), 3000, (5,))
        found = function(torch.from_numpy(table)).numpy()
        found, expected = (values - values[0] for values in (found, expected))
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:400].reshape(-1, 1, 8, 8).astype(np.float32)


def reduced(features, X, **params):
    source = ArraySource(X.reshape(len(X), -1), X.shape[1:], "cpu")
    return reduced_features(features, source, len(X), X.shape[1:], **params).numpy()


def flat(x):
    return x.flatten(1)


def relative_distances(X):
    return pdist(X) / pdist(X).max()


@pytest.mark.parametrize("n_fit", [200, 400])
def test_many_features_are_reduced_by_pca(n_fit, digits):
    found = reduced(flat, digits, n_components=20, n_fit=n_fit)
    assert found.shape == (400, 20)
    X = digits.reshape(400, 64).astype(float)
    evenly = np.linspace(0, 399, n_fit).astype(int)
    expected = PCA(20, svd_solver="full").fit(X[evenly]).transform(X)
    expected = relative_distances(expected)
    np.testing.assert_allclose(relative_distances(found), expected, atol=1e-5)
    few = relative_distances(reduced(flat, digits, n_fit=n_fit))
    np.testing.assert_allclose(few, relative_distances(X), atol=1e-5)


@pytest.mark.parametrize("n_components", [20, 128])
@pytest.mark.parametrize(("size", "origin"), [(1e19, 0), (1e-22, 0), (2.0**-4, 100)])
def test_unit_and_origin_of_features_change_no_distance(
    size, origin, n_components, digits
):
    expected = reduced(flat, digits, n_components=n_components)
    found = reduced(
        lambda x: size * x.flatten(1) + origin, digits, n_components=n_components
    )
    expected = relative_distances(expected)
    np.testing.assert_allclose(relative_distances(found), expected, atol=1e-5)


def test_constant_features_have_a_graph(digits):
    X = reduced(lambda x: torch.ones(len(x), 130), digits)
    graph = neighbor_graph(X, 10, weighted=True, standardize=False)
    assert np.isfinite(graph.data).all()
    assert (graph.sum(axis=1) > 0).all()


def test_pca_is_reproducible_and_of_fewer_samples_than_components(digits):
    def features(x):
        return torch.cat([x.flatten(1)] * 3, dim=1).sqrt()

    for n_samples, n_components in [(60, 60), (400, 128)]:
        first, second = (reduced(features, digits[:n_samples]) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape == (n_samples, n_components)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda x: x, r"a Tensor of shape \(400, 1, 8, 8\).*\(n_samples, n_features\)"),
        (lambda x: x[1:, 0, 0], r"\(399, 8\) for a batch of shape \(400, 1, 8, 8\)"),
        (lambda x: x[:, 0, 0].numpy(), r"a ndarray of shape \(400, 8\)"),
        (lambda x: None, r"a NoneType for a batch.*A FeatureFunction"),
        (lambda x: x[:, 0, 0] / 0, "NaN or infinite"),
        (lambda x: 1e300 * x[:, 0, 0].double(), "beyond the range of float32"),
    ],
)
def test_invalid_features_raise(features, message, digits):
    with pytest.raises(ValueError, match=r"^features=.*" + message):
        reduced(features, digits)


def test_a_feature_function_may_change_the_batch(digits):
    kept = digits.copy()
    reduced(lambda x: x.mul_(2).flatten(1), digits)
    np.testing.assert_array_equal(digits, kept)


def test_a_module_is_called_in_evaluation_mode(digits):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(64))
    found = reduced(module, digits)
    assert module.training
    assert module[1].num_batches_tracked == 0
    np.testing.assert_allclose(found, reduced(flat, digits), rtol=1e-5, atol=1e-6)


def test_features_are_made_without_gradient(digits):
    layer = torch.nn.Linear(64, 130)

    def features(x):
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            return layer(x.flatten(1))

    reduced(features, digits)
    assert layer.weight.grad is None
