"""The image distortion model of the benchmarks against a formula in numpy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.datasets import load_digits

from examples.benchmarks.deformable import DeformableNeighbors
from pnl_sklearn import GraphPosterior, PNLClassifier
from pnl_sklearn.data._sources import ArraySource
from pnl_sklearn.graph import HOG
from pnl_sklearn.graph._hog import deskewed


def gradients(image):
    """Of the channel with the largest, in units of the largest of the image."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    horizontal = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    vertical = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    channel = np.hypot(horizontal, vertical).argmax(axis=0)[None]
    both = [np.take_along_axis(v, channel, 0)[0] for v in (horizontal, vertical)]
    return np.stack(both) / np.abs(both).max()


def distortion(one, other, reach, context):
    """Root of the sum of the least squares over all displacements within reach."""
    _, height, width = one.shape
    down, across = reach
    padded = np.pad(other, ((0, 0), (down, down), (across, across)))
    squares = [
        convolve(
            ((one - padded[:, i : i + height, j : j + width]) ** 2).sum(axis=0),
            np.ones((context, context)),
            mode="constant",
        )
        for i in range(2 * down + 1)
        for j in range(2 * across + 1)
    ]
    return np.sqrt(np.min(squares, axis=0).sum())


@pytest.mark.parametrize(
    ("shape", "reach", "scale"),
    [((1, 28, 16), (2, 1), 1), ((3, 12, 8), (1, 1), 1), ((1, 28, 16), (2, 1), 2)],
)
def test_neighbors_are_the_nearest_candidates_by_brute_force(shape, reach, scale):
    """Also if images are larger than 28 pixels, and reduced for the gradients."""
    images = np.random.default_rng(0).normal(size=(9, *shape)).astype(np.float32)
    large = images.repeat(scale, axis=2).repeat(scale, axis=3)
    search = DeformableNeighbors(4, 4, n_neighbors=3, n_candidates=5, max_side=28)
    found = search(large)
    features = HOG(4, 4)(torch.from_numpy(large)).numpy()
    histograms = features.reshape(9, 4, 3, 3)
    of_pixels = [gradients(image) for image in images]
    euclidean = cdist(features, features)
    np.fill_diagonal(euclidean, np.inf)
    for i in range(9):
        candidates = np.argsort(euclidean[i])[:5]
        distances = {
            j: np.sqrt(
                distortion(of_pixels[i], of_pixels[j], reach, 3)
                * distortion(histograms[i], histograms[j], (1, 1), 1)
            )
            for j in candidates
        }
        neighbors = found[i].indices
        assert set(neighbors) < set(candidates)
        # In half precision, in which two of about the same distance may swap.
        expected = [distances[j] for j in neighbors]
        np.testing.assert_allclose(found[i].data, expected, rtol=2e-3)
        nearest = np.sort(list(distances.values()))[:3]
        np.testing.assert_allclose(found[i].data, nearest, rtol=2e-3)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:200].reshape(-1, 1, 8, 8).astype(np.float32), y[:200]


def test_candidates_are_the_nearest_by_principal_components(digits):
    X, _ = digits
    features = HOG(6, 4)(torch.from_numpy(X)).numpy()
    centered = features - features.mean(axis=0)
    components = np.linalg.svd(centered, full_matrices=False)[2][:5]
    distances = cdist(centered @ components.T, centered @ components.T)
    np.fill_diagonal(distances, np.inf)
    expected = np.sort(np.argsort(distances)[:, :10])
    search = DeformableNeighbors(6, 4, n_candidates=10, n_components=5)
    found = np.sort(search(X).indices.reshape(200, 10))
    # Other than exact distances, those of scikit-learn may swap equal ones.
    assert (found == expected).mean() > 0.99


def test_images_are_deskewed_first(digits):
    X, _ = digits
    found = DeformableNeighbors(6, 4, deskew=True)(X)
    expected = DeformableNeighbors(6, 4)(deskewed(torch.from_numpy(X)).numpy())
    np.testing.assert_allclose(found.toarray(), expected.toarray(), rtol=1e-4)
    assert abs(found - DeformableNeighbors(6, 4)(X)).max() > 0.1


def test_a_bent_stroke_is_nearer_than_another_one():
    """By HOG features both are about as near."""
    X = np.zeros((3, 1, 28, 28), dtype=np.float32)
    X[0, 0, 4:24, 13:15] = 1
    X[1, 0, 4:14, 12:14] = X[1, 0, 14:24, 14:16] = 1
    X[2, 0, 4:24, 13:15] = X[2, 0, 4:6, 13:19] = 1
    _, bent, other = DeformableNeighbors()(X).toarray()[0]
    assert bent < other / 2
    _, bent, other = cdist(*2 * [HOG()(torch.from_numpy(X)).numpy()])[0]
    assert bent > other / 2


@pytest.mark.parametrize("n_samples", [2, 11, 12, 41])
def test_few_images(n_samples, digits):
    found = DeformableNeighbors(6, 4)(digits[0][:n_samples])
    n_neighbors = min(10, n_samples - 1)
    np.testing.assert_array_equal(np.diff(found.indptr), n_neighbors)
    assert (found.diagonal() == 0).all()


def test_equal_images_are_neighbors_at_distance_0(digits):
    X = digits[0][[0, 0, 1, 2]]
    found = DeformableNeighbors(6, 4, n_neighbors=1)(X)
    assert found.indices[:2].tolist() == [1, 0]
    np.testing.assert_array_equal(found.data[:2], 0)


def test_labels_propagate_along_deformable_neighbors(digits):
    X, y = digits
    codes = np.where(np.arange(200) < 40, y, -1)
    source = ArraySource(X.reshape(200, 64), (1, 8, 8), "cpu")
    graph = GraphPosterior(neighbors=DeformableNeighbors(6, 4))
    first, second = (
        clone(graph).posterior(source, (1, 8, 8), codes, 10)[0] for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first.argmax(axis=1) == y)[40:].mean() > 0.8


def test_fits_with_deformable_neighbors(digits):
    X, y = digits[0], np.where(np.arange(200) < 40, digits[1], -1)
    graph = GraphPosterior(neighbors=DeformableNeighbors(6, 4))
    fits = [
        PNLClassifier(graph=g, max_epochs=1, steps_per_epoch=3, random_state=0)
        for g in (graph, graph, None)
    ]
    first, second, without = (fit.fit(X, y).predict_proba(X) for fit in fits)
    np.testing.assert_array_equal(first, second)
    assert abs(first - without).max() > 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_distances_on_a_gpu_are_those_of_the_cpu(digits):
    on_cpu, on_gpu = (
        DeformableNeighbors(6, 4, device=device)(digits[0]).toarray()
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-2)
