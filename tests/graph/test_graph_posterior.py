"""GraphPosterior: which graph labels propagate on, and when they do not."""

import pickle
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.decomposition import PCA
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsTransformer,
    kneighbors_graph,
)
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

from pnl_sklearn.data._sources import ArraySource, SparseSource
from pnl_sklearn.graph import HOG, GraphPosterior, _neighbors, _posterior
from pnl_sklearn.graph._neighbors import self_tuning_weights
from pnl_sklearn.graph._posterior import is_affordable
from pnl_sklearn.graph._stack import label_posterior
from pnl_sklearn.model_selection import hide_labels


def log_posterior(graph, X, codes, *args, **kwargs):
    source = ArraySource(X.reshape(len(X), -1), X.shape[1:], "cpu")
    n_classes = codes.max() + 1
    found = graph.posterior(source, X.shape[1:], codes, n_classes, *args, **kwargs)
    return None if found is None else np.log(found[0])


def never(X):
    raise AssertionError("nothing to propagate, but neighbors are searched")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X, y = X[:400].reshape(-1, 1, 8, 8).astype(np.float32), y[:400]
    return X, hide_labels(y, 40, random_state=0), y


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(90, centers=[[0, 0], [4, 0], [0, 4]], random_state=0)
    return X.astype(np.float32), hide_labels(y, 12, random_state=0), y


def test_parameters_are_found_cloned_and_pickled():
    graph = GraphPosterior(weight=2.0, features=HOG(6))
    assert clone(graph).get_params() == graph.get_params()
    assert pickle.loads(pickle.dumps(graph)).get_params() == graph.get_params()
    assert graph.set_params(n_neighbors=5).n_neighbors == 5


@pytest.mark.parametrize("weight", [0.5, 1, np.float64(3)])
def test_the_posterior_is_without_the_exponent(weight, blobs):
    X, codes, y = blobs
    # Blobs have as many samples and about the same range: the scale is no matter.
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    distances = kneighbors_graph(scaled, 10, mode="distance")
    expected, _ = label_posterior(self_tuning_weights(distances), codes, 3)
    found = log_posterior(GraphPosterior(weight), X, codes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log(expected), rtol=1e-3, atol=1e-5)
    assert (found.argmax(axis=1) == y).mean() > 0.9


def test_the_class_prior_is_passed_on(monkeypatch, blobs):
    seen = []
    monkeypatch.setattr(
        _posterior, "label_posterior", lambda graph, *given: seen.append(given)
    )
    assert log_posterior(GraphPosterior(), *blobs[:2], "prior", 0.1) is None
    codes, *given = seen[0]
    np.testing.assert_array_equal(codes, blobs[1])
    assert given == [3, "prior", 0.1]


@pytest.mark.parametrize("n_neighbors", [3, 20])
def test_n_neighbors(n_neighbors, monkeypatch, blobs):
    graphs = []
    monkeypatch.setattr(
        _posterior, "label_posterior", lambda graph, *given: graphs.append(graph)
    )
    log_posterior(GraphPosterior(n_neighbors=n_neighbors), *blobs[:2])
    neighbors = KNeighborsTransformer(mode="distance", n_neighbors=n_neighbors)
    log_posterior(GraphPosterior(neighbors=neighbors.fit_transform), *blobs[:2])
    found, expected = (graph.toarray() > 0 for graph in graphs)
    X = (blobs[0] - blobs[0].mean(axis=0)) / blobs[0].std(axis=0)
    expected = kneighbors_graph(X, n_neighbors).toarray() > 0
    np.testing.assert_array_equal(found, expected | expected.T)


def test_sparse_and_dense_tables_have_the_same_posterior():
    X = np.round(np.random.default_rng(0).normal(size=(80, 5)))
    codes = hide_labels((X.sum(axis=1) > 0).astype(int), 12, random_state=0)
    source = SparseSource(sparse.csr_matrix(X), (5,), "cpu")
    found, _ = GraphPosterior().posterior(source, (5,), codes, 2)
    expected = log_posterior(GraphPosterior(), X, codes)
    np.testing.assert_allclose(np.log(found), expected, rtol=1e-5, atol=1e-6)


# Features and neighbors.


def test_posterior_of_features_is_that_of_a_table_of_them(digits):
    X, codes, y = digits
    hog = HOG(6, 4)
    table = hog(torch.from_numpy(X))
    scale = table.std(dim=0, correction=0)
    table = (table / scale).numpy()
    by_features = GraphPosterior(features=lambda x: hog(x) / scale)
    expected = log_posterior(GraphPosterior(), table, codes)
    found = log_posterior(by_features, X, codes)
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-4)
    assert (found.argmax(axis=1) == y)[codes < 0].mean() > 0.7
    # Features that are given are not standardized.
    unscaled = log_posterior(GraphPosterior(features=hog), X, codes)
    assert abs(np.exp(unscaled) - np.exp(expected)).max() > 0.01


def test_features_take_the_place_of_those_of_a_table(digits):
    X, codes, y = digits
    X = X.reshape(400, 64)
    position = {x.tobytes(): i for i, x in enumerate(X)}
    one_hot = 9 * torch.eye(10)[torch.from_numpy(y)]

    def truth(x):
        return one_hot[[position[sample.tobytes()] for sample in x.numpy()]]

    found = log_posterior(GraphPosterior(features=truth), X, codes)
    assert (found.argmax(axis=1) == y).all()


@pytest.mark.parametrize("n_channels", [1, 3])
def test_images_have_hog_features_by_default(n_channels, digits):
    X, codes, y = digits
    X = X.repeat(2, axis=2).repeat(2, axis=3).repeat(n_channels, axis=1)
    # In colors that do not tell the class.
    X *= np.random.default_rng(0).uniform(size=(400, n_channels, 1, 1))
    found = log_posterior(GraphPosterior(), X, codes)
    by_hog = log_posterior(GraphPosterior(features=HOG()), X, codes)
    np.testing.assert_array_equal(found, by_hog)
    assert (found.argmax(axis=1) == y)[codes < 0].mean() > 0.8


def test_neighbors_take_the_place_of_features(digits):
    X, codes, _ = digits
    # Pixels are integers, so that many samples are at the same distance.
    X = X + np.random.default_rng(0).normal(0, 0.01, X.shape).astype(np.float32)

    def search(X):
        assert X.shape == (400, 1, 8, 8)
        return kneighbors_graph(X.reshape(400, -1), 10, mode="distance")

    found = log_posterior(GraphPosterior(neighbors=search), X, codes)
    by_pixels = GraphPosterior(features=lambda x: x.flatten(1))
    expected = log_posterior(by_pixels, X, codes)
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-4)


def test_neighbors_within_a_radius(blobs):
    X, codes, y = blobs

    def search(X):
        nearest = kneighbors_graph(X, 1, mode="distance")
        within = sparse.csr_matrix(np.tril(np.linalg.norm(X[:, None] - X, axis=2) < 1))
        return nearest.maximum(within)

    found = log_posterior(GraphPosterior(neighbors=search), X, codes)
    assert (found.argmax(axis=1) == y).mean() > 0.8


# Large tables.


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(10_500, noise=0.05, random_state=0)
    return X.astype(np.float32), hide_labels(y, 8, random_state=0), y


def test_a_table_above_10_000_samples_has_a_graph_that_helps(moons):
    X, codes, y = moons
    found = log_posterior(GraphPosterior(), X, codes)
    error = (found.argmax(axis=1) != y)[codes < 0].mean()
    nearest_label = KNeighborsClassifier(1).fit(X[codes >= 0], codes[codes >= 0])
    assert error < 0.02
    assert (nearest_label.predict(X) != y)[codes < 0].mean() > 0.05


@pytest.mark.parametrize("has_common_unit", [False, True])
def test_wide_tables_beyond_a_number_of_values_are_reduced(
    has_common_unit, monkeypatch
):
    rng = np.random.default_rng(0)
    X, y = make_blobs(300, 200, centers=4, cluster_std=20, random_state=0)
    X = X.astype(np.float32) * rng.uniform(1, 50, 200)
    X[:, 150:] = X[:, 149:150]
    if has_common_unit:
        X = X.clip(-9, 9)
    codes = hide_labels(y, 20, random_state=0)
    graphs = []
    monkeypatch.setattr(
        _posterior, "label_posterior", lambda graph, *given: graphs.append(graph)
    )
    for most in (299 * 200, 300 * 200):
        monkeypatch.setattr(_posterior, "_MAX_UNREDUCED", most)
        log_posterior(GraphPosterior(), X, codes)
    scaled = X if has_common_unit else StandardScaler().fit_transform(X)
    reduced = PCA(128, svd_solver="full").fit_transform(scaled)
    for found, features in zip(graphs, (reduced, scaled), strict=True):
        expected = self_tuning_weights(kneighbors_graph(features, 10, mode="distance"))
        is_edge = expected.toarray() > 0
        assert ((found.toarray() > 0) == is_edge).mean() > 0.999
        weights = found.toarray()[is_edge], expected.toarray()[is_edge]
        assert np.median(abs(weights[0] - weights[1])) < 1e-4
    assert (graphs[0] != graphs[1]).nnz


def test_samples_beyond_the_exact_search_have_neighbors_by_faiss(monkeypatch, moons):
    pytest.importorskip("faiss")
    X, codes, _ = (part[:2000] for part in moons)
    codes = np.where(np.arange(2000) < 40, moons[2][:2000], codes)
    for graph in (GraphPosterior(), GraphPosterior(features=lambda x: x)):
        monkeypatch.setattr(_neighbors, "_EXACT_SAMPLES", 2000)
        expected = log_posterior(graph, X, codes)
        monkeypatch.setattr(_neighbors, "_EXACT_SAMPLES", 1999)
        found = log_posterior(graph, X, codes)
        np.testing.assert_array_equal(found, log_posterior(graph, X, codes))
        agreement = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        assert agreement > 0.99


def test_samples_beyond_the_exact_search_without_faiss(monkeypatch, capsys, blobs):
    monkeypatch.setitem(sys.modules, "faiss", None)
    X, codes, y = blobs
    expected = log_posterior(GraphPosterior(), X, codes)
    monkeypatch.setattr(_neighbors, "_EXACT_SAMPLES", 90)
    np.testing.assert_array_equal(log_posterior(GraphPosterior(), X, codes), expected)
    monkeypatch.setattr(_neighbors, "_EXACT_SAMPLES", 89)
    assert log_posterior(GraphPosterior(), X, codes) is None
    assert not capsys.readouterr().out
    assert log_posterior(GraphPosterior(), X, codes, verbose=True) is None
    assert "pip install faiss-cpu" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"features=.* of 90 samples need faiss"):
        log_posterior(GraphPosterior(features=lambda x: x), X, codes)
    # Neighbors that are given need no search.
    search = GraphPosterior(
        neighbors=lambda X: kneighbors_graph(X, 10, mode="distance")
    )
    assert (log_posterior(search, X, codes).argmax(axis=1) == y).mean() > 0.9


# Parameters that are invalid.


@pytest.mark.parametrize(
    "params",
    [
        {"weight": -1},
        {"weight": "auto"},
        {"features": "hog"},
        {"features": None},
        {"neighbors": 10},
        {"n_neighbors": 0},
        {"n_neighbors": 2.5},
    ],
)
def test_invalid_parameters_raise(params, blobs):
    (name,) = params
    message = f"The '{name}' parameter of GraphPosterior must be"
    with pytest.raises(InvalidParameterError, match=message):
        log_posterior(GraphPosterior(**params), *blobs[:2])


@pytest.mark.parametrize("name", ["features", "neighbors"])
def test_a_class_in_the_place_of_an_object_raises(name, blobs):
    message = rf"{name}=.* is a class.*{name}=HOG\(\)"
    with pytest.raises(ValueError, match=message):
        log_posterior(GraphPosterior(**{name: HOG}), *blobs[:2])


def test_features_and_neighbors_exclude_each_other(blobs):
    graph = GraphPosterior(features=HOG(), neighbors=never)
    with pytest.raises(ValueError, match=r"features=HOG.* and neighbors=.* exclude"):
        log_posterior(graph, *blobs[:2])


# Nothing to propagate.


def test_no_weight_no_unlabeled_samples_or_no_second_label(blobs):
    X, codes, y = blobs
    one_each = np.full(90, -1)
    one_each[np.unique(y, return_index=True)[1]] = [0, 1, 2]
    search = GraphPosterior(neighbors=never)
    assert log_posterior(clone(search).set_params(weight=0), X, codes) is None
    assert log_posterior(search, X, y) is None
    assert log_posterior(search, X, one_each) is None
    with pytest.raises(AssertionError, match="searched"):
        log_posterior(search, X, codes)


def test_no_more_samples_than_neighbors(blobs):
    codes = np.where(np.arange(90) < 6, np.arange(90) % 2, -1)
    for n_samples in (9, 10, 11):
        for graph in (GraphPosterior(), GraphPosterior(features=lambda x: x)):
            found = log_posterior(graph, blobs[0][:n_samples], codes[:n_samples])
            assert (found is None) == (n_samples <= 10)
    fewer = GraphPosterior(n_neighbors=3)
    assert log_posterior(fewer, blobs[0][:9], codes[:9]).shape == (9, 2)
    search = GraphPosterior(neighbors=lambda X: kneighbors_graph(X, 3, mode="distance"))
    assert log_posterior(search, blobs[0][:9], codes[:9]).shape == (9, 2)


@pytest.mark.parametrize(
    ("shape", "most"),
    [
        ((4,), 1_000_000),
        ((134,), 1_000_000),
        ((1600,), 83_886),
        ((1, 16, 28), 299_593),
        ((1, 256, 256), 2**11),
        ((3, 32, 32), 43_690),
        ((1, 28, 15), 0),
        ((1, 16, 257), 0),
        ((3, 8, 8), 0),
    ],
)
def test_up_to_how_many_samples_data_have_an_automatic_graph(shape, most):
    assert is_affordable(most, 2, shape) or not most
    assert not is_affordable(most + 1, 2, shape)
    # Nothing is read of data without a graph.
    codes = np.where(np.arange(most + 11) < 4, np.arange(most + 11) % 2, -1)
    assert GraphPosterior().posterior(None, shape, codes, 2) is None


@pytest.mark.parametrize("shape", [(4,), (1, 16, 16)])
def test_up_to_how_many_classes_data_have_an_automatic_graph(shape):
    assert is_affordable(10_000, 1677, shape)
    assert not is_affordable(10_000, 1678, shape)
    codes = np.concatenate([np.arange(1678).repeat(2), np.full(10_000, -1)])
    assert GraphPosterior().posterior(None, shape, codes[:10_000], 1678) is None


@pytest.mark.parametrize("params", [{"features": HOG()}, {"neighbors": never}])
def test_too_many_samples_or_classes_for_what_is_given_raise(params):
    graph, shape = GraphPosterior(**params), (1, 8, 8)
    codes = np.full(1_000_001, -1)
    codes[:300] = np.arange(300) % 2
    message = r"up to 1,000,000 samples.*there are 1,000,001 samples and 2 classes"
    with pytest.raises(ValueError, match=message):
        graph.posterior(None, shape, codes, 2)
    codes[:300] = np.arange(300) % 17
    message = r"16,777,216 for samples times classes; there are 1,000,000 samples and"
    with pytest.raises(ValueError, match=message):
        graph.posterior(None, shape, codes[:1_000_000], 17)


@pytest.mark.parametrize("n_samples", [10_000, 10_001])
@pytest.mark.parametrize("verbose", [False, True])
def test_a_long_search_is_announced(monkeypatch, capsys, n_samples, verbose):
    monkeypatch.setattr(_posterior, "label_posterior", lambda *given: None)
    X = np.linspace(0, 1, n_samples, dtype=np.float32)[:, None]
    codes = np.where(np.arange(n_samples) < 4, np.arange(n_samples) % 2, -1)
    graph = GraphPosterior(features=lambda x: x, n_neighbors=2)
    log_posterior(graph, X, codes, verbose=verbose)
    is_long = verbose and n_samples > 10_000
    printed = "Searching the neighbors of 10,001 samples.\n" if is_long else ""
    assert capsys.readouterr().out == printed
