"""Histograms of oriented gradients against a numpy formula, pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from pnl_sklearn.graph import HOG

TURN = 2 * math.pi


def histograms(image, n_orientations, n_cells):
    """HOG features of an image (c, h, w) whose sides are multiples of n_cells."""
    _, height, width = image.shape
    cells = np.zeros((n_orientations, n_cells, n_cells))
    for i in range(height):
        for j in range(width):
            magnitude, angle = 0.0, 0.0
            for channel in image:
                right = channel[i, min(j + 1, width - 1)]
                left = channel[i, max(j - 1, 0)]
                below = channel[min(i + 1, height - 1), j]
                above = channel[max(i - 1, 0), j]
                size = math.hypot(right - left, below - above)
                if size > magnitude:
                    magnitude = size
                    angle = math.atan2(below - above, right - left) % TURN
            position = angle / TURN * n_orientations
            k, share = int(position), position - int(position)
            cell = i * n_cells // height, j * n_cells // width
            cells[(k % n_orientations, *cell)] += magnitude * (1 - share)
            cells[((k + 1) % n_orientations, *cell)] += magnitude * share
    cells /= height * width / n_cells**2
    blocks = cells[:, :-1, :-1] + cells[:, 1:, :-1] + cells[:, :-1, 1:]
    blocks = (blocks + cells[:, 1:, 1:]) / 4
    lengths = np.sqrt((blocks**2).sum(axis=0))
    return np.sqrt(blocks / (lengths + 2 * lengths.mean())).ravel()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 8)])
@pytest.mark.parametrize("n_orientations", [4, 9])
def test_hog_against_a_formula_for_each_pixel(shape, n_orientations):
    n_cells = 7 if shape[1] == 28 else 4
    images = np.random.default_rng(0).normal(size=(3, *shape))
    found = HOG(n_orientations, n_cells)(torch.from_numpy(images)).numpy()
    assert found.shape == (3, n_orientations * (n_cells - 1) ** 2)
    expected = [histograms(image, n_orientations, n_cells) for image in images]
    np.testing.assert_allclose(found, expected)


def inverted(features):
    """Return the HOG() features of the negatives, on which gradients turn around."""
    bins = features.reshape(len(features), 12, -1)
    return bins.roll(6, dims=1).flatten(1)


def test_hog_is_invariant_to_contrast_and_brightness():
    x = torch.rand(4, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(HOG()(50 + 3 * x), HOG()(x))
    torch.testing.assert_close(HOG()(50 - 3 * x), inverted(HOG()(x)))
    assert (HOG()(torch.full((2, 1, 28, 28), 7.0)) == 0).all()
    for size in (1e-25, 1e20):
        torch.testing.assert_close(HOG()(size * x.float()), HOG()(x.float()))


def blob(shape, slant, x, y):
    """An image of a normal density, in pixels from the middle; (1, height, width)."""
    i, j = np.indices(shape)
    i = i - (shape[0] - 1) / 2 - y
    j = j - (shape[1] - 1) / 2 - x
    return np.exp(-(i**2) / 40 - (j - slant * i) ** 2 / 10)[None]


@pytest.mark.parametrize("shape", [(28, 28), (32, 44)])
def test_deskewed_images_are_upright_and_centered(shape):
    images = [blob(shape, s, x, y) for s, x, y in [(0.5, 0, 0), (-0.4, 3, -2)]]
    upright = torch.from_numpy(blob(shape, 0, 0, 0))[None]
    x = torch.from_numpy(np.stack(images))
    found = HOG(deskew=True)(x)
    expected = HOG()(upright).expand(2, -1)
    assert (found - expected).norm() < 0.1 * (HOG()(x) - expected).norm()
    # Also with little contrast, in one color, and dark on bright.
    for changed in (50 + 3 * x, 1e-12 * x, x * torch.tensor([0, 1, 0])[:, None, None]):
        torch.testing.assert_close(HOG(deskew=True)(changed), found)
    torch.testing.assert_close(HOG(deskew=True)(50 - 3 * x), inverted(found))
    blank = torch.full((2, 1, *shape), 7.0)
    assert (HOG(deskew=True)(blank) == 0).all()
    assert HOG(deskew=True)(blank[:0]).shape == (0, 972)


def test_deskewing_does_not_shear_a_horizontal_stroke():
    x = torch.zeros(2, 1, 28, 28)
    x[0, 0, 5, 3:12] = x[1, 0, 20, 10:19] = 1
    # The center of the image lies between pixels.
    upright = torch.zeros(1, 1, 28, 28)
    upright[0, 0, 13:15, 9:18] += 0.25
    upright[0, 0, 13:15, 10:19] += 0.25
    found = HOG(deskew=True)(x)
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[:1], HOG()(upright), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("angle", "k"), [(0, 0), (90, 1), (180, 2), (270, 3)])
def test_hog_of_a_ramp_is_one_orientation(angle, k):
    i, j = np.indices((8, 8))
    radians = math.radians(angle)
    ramp = j * math.cos(radians) + i * math.sin(radians)
    inner = HOG(4, 8)(torch.tensor(ramp)[None, None]).reshape(4, 7, 7)[:, 1:-1, 1:-1]
    assert (inner.argmax(dim=0) == k).all()
    np.testing.assert_allclose(inner.sum(dim=0), inner[k], atol=1e-6)


@pytest.mark.parametrize("hog", [HOG(n_cells=1), HOG(n_orientations=0)])
def test_hog_needs_cells_and_orientations(hog):
    with pytest.raises(ValueError, match="n_cells must be at least 2"):
        hog(torch.zeros(2, 1, 8, 8))


def test_hog_of_a_table_raises():
    with pytest.raises(ValueError, match=r"takes images.*image_shape=\(channels"):
        HOG()(torch.zeros(5, 64))


def test_neighbors_by_hog_share_the_class_more_often_than_by_pixels():
    """On shifted digits, whose pixels do not match."""
    X, y = load_digits(return_X_y=True)
    X = np.pad(X[:400].reshape(-1, 8, 8), ((0, 0), (10, 10), (10, 10)))
    shifts = np.random.default_rng(0).integers(-2, 3, size=(len(X), 2))
    X = np.stack([np.roll(x, s, (0, 1)) for x, s in zip(X, shifts, strict=True)])
    shares = []
    for features in (X.reshape(len(X), -1), HOG()(torch.from_numpy(X[:, None]))):
        neighbors = KNeighborsClassifier(10).fit(features, y[:400])
        near = neighbors.kneighbors(return_distance=False)
        shares.append((y[near] == y[:400, None]).mean())
    assert shares[1] > shares[0] + 0.05
