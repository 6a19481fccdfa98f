"""Features against a numpy formula, pixel by pixel, and in fits."""

import math
import pickle

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch.utils.data import TensorDataset

from pnl_sklearn import PNLClassifier
from pnl_sklearn.data._sources import ArraySource
from pnl_sklearn.estimator import _trainer
from pnl_sklearn.graph import HOG, DeformableHOG
from pnl_sklearn.graph import _beliefs as beliefs_module
from pnl_sklearn.graph import _neighbors as graph_module
from pnl_sklearn.graph._beliefs import class_beliefs
from pnl_sklearn.graph._neighbors import neighbor_graph
from pnl_sklearn.model_selection import hide_labels

TURN = 2 * math.pi


def histograms(image, n_orientations, n_cells):
    """The features of an image of shape (c, h, w), whose sides are multiples of cells.

    Pixel by pixel; of the definition alone.
    """
    _, height, width = image.shape
    cells = np.zeros((n_orientations, n_cells, n_cells))
    for i in range(height):
        for j in range(width):
            best = 0.0, 0.0
            for channel in image:
                right = channel[i, min(j + 1, width - 1)]
                left = channel[i, max(j - 1, 0)]
                below = channel[min(i + 1, height - 1), j]
                above = channel[max(i - 1, 0), j]
                size = math.hypot(right - left, below - above)
                if size > best[0]:
                    best = size, math.atan2(below - above, right - left) % TURN
            place = best[1] / TURN * n_orientations
            k, share = int(place), place - int(place)
            where = i * n_cells // height, j * n_cells // width
            cells[(k % n_orientations, *where)] += best[0] * (1 - share)
            cells[((k + 1) % n_orientations, *where)] += best[0] * share
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
    for row, image in zip(found, images, strict=True):
        np.testing.assert_allclose(row, histograms(image, n_orientations, n_cells))


def inverted(features):
    """What HOG() makes of negatives, by what it makes of images: edges turn around."""
    bins = features.reshape(len(features), 12, -1)
    return bins.roll(6, dims=1).flatten(1)


def test_hog_does_not_see_contrast_brightness_and_blank_images():
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
def test_deskewing_shears_and_centers_what_is_slanted(shape):
    images = [blob(shape, s, x, y) for s, x, y in [(0.5, 0, 0), (-0.4, 3, -2)]]
    upright = torch.from_numpy(blob(shape, 0, 0, 0))[None]
    x = torch.from_numpy(np.stack(images))
    found = HOG(deskew=True)(x)
    expected = HOG()(upright).expand(2, -1)
    assert (found - expected).norm() < 0.1 * (HOG()(x) - expected).norm()
    # Of little contrast, too, and in a color, and dark on bright.
    for changed in (50 + 3 * x, 1e-12 * x, x * torch.tensor([0, 1, 0])[:, None, None]):
        torch.testing.assert_close(HOG(deskew=True)(changed), found)
    torch.testing.assert_close(HOG(deskew=True)(50 - 3 * x), inverted(found))
    blank = torch.full((2, 1, *shape), 7.0)
    assert (HOG(deskew=True)(blank) == 0).all()
    assert HOG(deskew=True)(blank[:0]).shape == (0, 972)


def test_deskewing_leaves_a_stroke_along_a_row_whole():
    x = torch.zeros(2, 1, 28, 28)
    x[0, 0, 5, 3:12] = x[1, 0, 20, 10:19] = 1
    # In the middle, which is between pixels.
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


def test_hog_of_a_table_tells_of_image_shape():
    X, y = load_digits(return_X_y=True)
    model = PNLClassifier(graph_features=HOG(), max_epochs=1, steps_per_epoch=2)
    with pytest.raises(ValueError, match=r"takes images.*image_shape=\(channels"):
        model.fit(X[:100], np.where(np.arange(100) < 40, y[:100], -1))


# In fits.


@pytest.fixture(scope="module")
def digits():
    X, truth = load_digits(return_X_y=True)
    X, truth = X[:400].reshape(-1, 8, 8).astype(np.float32), truth[:400]
    return X, hide_labels(truth, 40, random_state=0), truth


def beliefs(X, codes, features):
    rows = ArraySource(X.reshape(len(X), -1), (1, 8, 8), "cpu")
    return class_beliefs(rows, (1, 8, 8), codes, 10, features)


def test_beliefs_are_those_of_the_table_of_features(digits):
    X, codes, truth = digits
    hog = HOG(6, 4)
    table = hog(torch.from_numpy(X[:, None]))
    spread = table.std(dim=0, correction=0)
    table = (table / spread).numpy()

    def scaled(x):
        return hog(x) / spread

    as_table = class_beliefs(ArraySource(table, (54,), "cpu"), (54,), codes, 10)
    np.testing.assert_allclose(beliefs(X, codes, scaled), as_table, atol=1e-4)
    assert (as_table.argmax(axis=1) == truth)[codes < 0].mean() > 0.7
    # Distances are of the features as they are, not in standard deviations.
    assert abs(beliefs(X, codes, hog) - as_table).max() > 0.01


@pytest.mark.parametrize("n_sample", [200, 400])
def test_of_many_features_principal_components_are_compared(
    n_sample, monkeypatch, digits
):
    X, codes, truth = digits
    evenly = np.linspace(0, 399, n_sample).astype(int)
    few = PCA(20).fit(X.reshape(400, 64)[evenly])

    def components(x):
        return torch.from_numpy(few.transform(x.flatten(1).numpy()))

    monkeypatch.setattr(graph_module, "_N_SAMPLE", n_sample)
    expected = beliefs(X, codes, components)
    monkeypatch.setattr(graph_module, "_N_COMPONENTS", 20)
    found = beliefs(X, codes, lambda x: x.flatten(1))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.argmax(axis=1) == truth)[codes < 0].mean() > 0.7


@pytest.mark.parametrize("n_components", [20, 128])
def test_size_and_origin_of_features_change_nothing(n_components, monkeypatch, digits):
    X, codes, _ = digits
    monkeypatch.setattr(graph_module, "_N_COMPONENTS", n_components)
    expected = beliefs(X, codes, lambda x: x.flatten(1))
    for size, origin in [(1e19, 0), (1e-22, 0), (2.0**-4, 100)]:
        found = beliefs(X, codes, lambda x, a=size, b=origin: a * x.flatten(1) + b)
        # But for neighbors that are as far, of which rounding chooses one.
        assert abs(found - expected).mean() < 1e-3


def test_constant_features_do_no_harm(digits):
    X, codes, _ = digits
    found = beliefs(X, codes, lambda x: torch.ones(len(x), 130))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_principal_components_are_reproducible_and_of_few_rows_as_many(digits):
    X, codes, _ = digits
    for n_rows in (60, 400):
        first, second = (beliefs(X[:n_rows], codes[:n_rows], HOG()) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-5)


def model(**params):
    settings = {"max_epochs": 1, "steps_per_epoch": 2, "random_state": 0}
    return PNLClassifier(**settings | params)


def test_fit_asks_for_beliefs_by_the_features(monkeypatch, digits):
    asked = []

    def stub(rows, shape, codes, n_classes, features, *further):
        asked.append((shape, features))

    monkeypatch.setattr(_trainer, "class_beliefs", stub)
    X, y, truth = digits
    hog = HOG()
    model(graph_features=hog).fit(X, y)
    assert asked == [((1, 8, 8), hog)]
    model(graph_features=hog, graph_weight=0).fit(X, y)
    model(graph_features=hog).fit(X, truth)
    model().fit(X, y)
    assert len(asked) == 1
    model().fit(X.reshape(400, 64), y)
    model().fit(doubled(X), y)
    model().fit(np.stack([doubled(X)] * 3, axis=1), y)
    assert asked[1:] == [((64,), None), ((1, 16, 16), None)]


def doubled(X):
    """Images of 16 by 16 pixels."""
    return X.repeat(2, axis=1).repeat(2, axis=2)


def test_large_images_of_one_channel_have_automatic_features(digits):
    X, codes, truth = digits
    large = doubled(X).reshape(400, -1)

    def by(features, shape=(1, 16, 16)):
        return class_beliefs(
            ArraySource(large, shape, "cpu"), shape, codes, 10, features
        )

    found = by(None)
    np.testing.assert_array_equal(found, by(HOG()))
    assert (found.argmax(axis=1) == truth)[codes < 0].mean() > 0.8
    assert abs(found - by(lambda x: x.flatten(1))).max() > 0.1


FORMS = {
    "channels first": lambda X: X[:, None],
    "channels last": lambda X: X[..., None],
    "bytes": lambda X: (10 * X).astype(np.uint8),
    "flat": lambda X: X.reshape(len(X), -1),
    "sparse": lambda X: sparse.csr_matrix(X.reshape(len(X), -1)),
    "dataset": lambda X: TensorDataset(torch.from_numpy(X)),
}


@pytest.mark.parametrize("form", FORMS)
def test_automatic_features_are_of_images_of_any_form(form, monkeypatch, digits):
    found = []

    def kept(*given):
        found.append(class_beliefs(*given))
        return found[-1]

    monkeypatch.setattr(_trainer, "class_beliefs", kept)
    images = doubled(digits[0])
    shape = (1, 16, 16) if form in ("flat", "sparse") else None
    model().fit(images, digits[1])
    model(image_shape=shape).fit(FORMS[form](images), digits[1])
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


def test_too_many_rows_have_no_automatic_features(monkeypatch, digits):
    X, codes, _ = digits
    X = doubled(X)
    for name, limit in [("_N_WITH_FEATURES", 399), ("_N_PAIRS_WITH_FEATURES", 15_999)]:
        with monkeypatch.context() as patch:
            patch.setattr(beliefs_module, name, limit)
            model().fit(X, codes)
            rows, shape = (
                ArraySource(X.reshape(400, -1), (1, 16, 16), "cpu"),
                (1, 16, 16),
            )
            assert class_beliefs(rows, shape, codes, 10) is None
            with pytest.raises(ValueError, match="are for"):
                model(graph_features=HOG()).fit(X, codes)


def test_features_of_a_table_take_the_place_of_its_columns(digits):
    X, y, truth = digits
    X = X.reshape(400, 64)

    def told(x):
        return answers[[places[row.tobytes()] for row in x.numpy()]]

    places = {row.tobytes(): k for k, row in enumerate(X)}
    answers = 9 * torch.eye(10)[torch.from_numpy(truth)]
    found = class_beliefs(ArraySource(X, (64,), "cpu"), (64,), y, 10, told)
    assert (found.argmax(axis=1) == truth).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (HOG, r"graph_features=.* is a class.*graph_features=HOG\(\)"),
        (lambda x: x, r"makes \(400, 1, 8, 8\) of a batch.*\(n_rows, n_features\)"),
        (lambda x: x[1:, 0, 0], r"makes \(399, 8\) of a batch"),
        (lambda x: x[:, 0, 0].numpy(), r"makes \(400, 8\) of a batch"),
        (lambda x: x[:, 0, 0] / 0, "NaN or infinite"),
    ],
)
def test_features_that_are_none_are_refused(features, message, digits):
    X, y, _ = digits
    with pytest.raises(ValueError, match=message):
        model(graph_features=features).fit(X, y)


def test_too_many_rows_for_features_are_refused(monkeypatch, digits):
    X, y, _ = digits
    monkeypatch.setattr(beliefs_module, "_N_WITH_FEATURES", 399)
    with pytest.raises(ValueError, match=r"399 rows at most.*there are 400"):
        model(graph_features=HOG()).fit(X, y)


def test_too_many_labels_for_features_are_refused(monkeypatch, digits):
    X, y, _ = digits
    monkeypatch.setattr(beliefs_module, "_N_PAIRS_WITH_FEATURES", 400 * 40 - 1)
    with pytest.raises(ValueError, match=r"15,999 pairs.*400 rows and 40 labels"):
        model(graph_features=HOG()).fit(X, y)


def test_features_may_write_to_the_batch(digits):
    X, y, _ = digits
    kept = X.copy()
    model(graph_features=lambda x: x.mul_(2).flatten(1)).fit(X, y)
    np.testing.assert_array_equal(X, kept)


def test_a_module_makes_features_in_evaluation_mode(digits):
    X, y, _ = digits
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(64))
    fitted = model(graph_features=body).fit(X, y)
    assert body.training
    assert body[1].num_batches_tracked == 0
    expected = model(graph_features=lambda x: x.flatten(1) / (1 + 1e-5) ** 0.5)
    np.testing.assert_allclose(
        fitted.predict_proba(X), expected.fit(X, y).predict_proba(X), rtol=1e-3
    )


@pytest.mark.parametrize("hog", [HOG(n_cells=1), HOG(n_orientations=0)])
def test_hog_needs_cells_and_orientations(hog):
    with pytest.raises(ValueError, match="two cells at least, and one orientation"):
        hog(torch.zeros(2, 1, 8, 8))


def test_features_have_no_gradient(digits):
    X, y, _ = digits
    body = torch.nn.Linear(64, 130)

    def features(x):
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            return body(x.flatten(1))

    model(graph_features=features).fit(X, y)
    assert body.weight.grad is None


def test_features_are_cloned_and_pickled(digits):
    X, y, _ = digits
    fitted = model(graph_features=HOG(6)).fit(X, y)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert loaded.graph_features == clone(fitted).graph_features == HOG(6)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_neighbors_in_features_are_of_a_class_more_often(digits):
    """Of shifted digits, whose pixels tell less."""
    X, _, truth = digits
    X = np.pad(X, ((0, 0), (10, 10), (10, 10)))
    shifts = np.random.default_rng(0).integers(-2, 3, size=(len(X), 2))
    X = np.stack([np.roll(x, s, (0, 1)) for x, s in zip(X, shifts, strict=True)])
    shares = []
    for values in (X.reshape(len(X), -1), HOG()(torch.from_numpy(X[:, None]))):
        graph = neighbor_graph(values, 10, weighted=False).tocoo()
        shares.append((truth[graph.row] == truth[graph.col]).mean())
    assert shares[1] > shares[0]


def moved_squares(one, other, reach, context):
    """Sum over places of the least squared difference in reach, place by place."""
    _, height, width = one.shape
    total = 0.0

    def at(image, i, j):
        inside = 0 <= i < height and 0 <= j < width
        return image[:, i, j] if inside else np.zeros(len(image))

    for i in range(height):
        for j in range(width):
            squares = []
            for down in range(-reach[0], reach[0] + 1):
                for across in range(-reach[1], reach[1] + 1):
                    square = 0.0
                    for a in range(max(i - context, 0), min(i + context + 1, height)):
                        for b in range(
                            max(j - context, 0), min(j + context + 1, width)
                        ):
                            difference = one[:, a, b] - at(other, a + down, b + across)
                            square += (difference**2).sum()
                    squares.append(square)
            total += min(squares)
    return total


def gradients_in_numpy(image):
    """Of the channel with the largest, in units of the largest of the image."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    channel = np.hypot(across, down).argmax(axis=0)[None]
    both = [np.take_along_axis(v, channel, 0)[0] for v in (across, down)]
    return np.stack(both) / np.abs(both).max()


@pytest.mark.parametrize("shape", [(1, 28, 16), (3, 12, 8)])
def test_distances_against_a_formula_for_each_place(shape):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, *shape))
    compare = DeformableHOG(4, 4)
    parts = compare.parts(torch.from_numpy(images))
    ones = [part[:2] for part in parts]
    others = [part[torch.tensor([[1, 2], [0, 2]])] for part in parts]
    found = compare.distances(ones, others)
    assert found.dtype == torch.float32
    reach = max(1, round(shape[1] / 14)), max(1, round(shape[2] / 14))
    gradients = [gradients_in_numpy(image) for image in images]
    features = [histograms(image, 4, 4).reshape(4, 3, 3) for image in images]
    for row, near in enumerate([[1, 2], [0, 2]]):
        for column, k in enumerate(near):
            a = moved_squares(gradients[row], gradients[k], reach, 1)
            b = moved_squares(features[row], features[k], (1, 1), 0)
            expected = (a * b) ** 0.25  # the geometric mean of two roots
            assert found[row, column].item() == pytest.approx(expected, rel=2e-3)


def test_a_bent_stroke_is_near_to_itself():
    """Nearer than by histograms alone, where another stroke is as near."""
    x = torch.zeros(3, 1, 28, 28)
    x[0, 0, 4:24, 13:15] = 1
    x[1, 0, 4:14, 12:14] = x[1, 0, 14:24, 14:16] = 1
    x[2, 0, 4:24, 13:15] = x[2, 0, 4:6, 13:19] = 1
    compare = DeformableHOG()
    one, bent, other = ([p[i : i + 1] for p in compare.parts(x)] for i in range(3))
    distance = {
        name: compare.distances(one, [p[:, None] for p in second]).item()
        for name, second in [("itself", one), ("bent", bent), ("other", other)]
    }
    assert distance["itself"] == 0
    assert distance["bent"] < distance["other"] / 2
    features = compare(x)
    torch.testing.assert_close(features, HOG()(x))
    assert (features[0] - features[1]).norm() > (features[0] - features[2]).norm() / 2


def test_large_images_are_reduced_before_pixels_are_compared():
    gradients, blocks = DeformableHOG().parts(torch.rand(2, 3, 64, 20))
    assert gradients.shape == (2, 2, 32, 10)
    assert blocks.shape == (2, 12, 9, 9)
    assert gradients.dtype == blocks.dtype == torch.float16


class Own:
    """A distance of one's own: that of the features, or what is made of it."""

    def __init__(self, made=lambda d: d, parts=lambda x: [x.flatten(1)]):
        self.made, self.parts_of = made, parts

    def __call__(self, x):
        return x.flatten(1)

    def parts(self, x):
        assert not torch.is_grad_enabled()
        return self.parts_of(x)

    def distances(self, ones, others):
        assert not torch.is_grad_enabled()
        return self.made((ones[0][:, None] - others[0]).double().norm(dim=2))


@pytest.mark.parametrize("n_compared", [1, 10**6])
def test_the_distance_of_features_changes_no_neighbor(n_compared, monkeypatch, digits):
    X, codes, _ = digits
    expected = beliefs(X, codes, lambda x: x.flatten(1))
    monkeypatch.setattr(graph_module, "_N_COMPARED", n_compared)
    few = lambda index, _: [index[i : i + 70] for i in range(0, len(index), 70)]  # noqa: E731
    monkeypatch.setattr(graph_module, "chunks", few)
    np.testing.assert_allclose(beliefs(X, codes, Own()), expected, atol=1e-3)


@pytest.mark.parametrize("unit", [1e-200, 1e-20, 1e20, 1e200])
def test_distances_are_in_any_unit(unit, digits):
    X, codes, _ = digits
    found = beliefs(X, codes, Own(made=lambda d: unit * d))
    np.testing.assert_allclose(found, beliefs(X, codes, Own()), atol=1e-5)


@pytest.mark.parametrize("n_rows", [11, 12, 41])
def test_of_few_rows_all_are_candidates(n_rows, digits):
    X, codes, truth = digits
    codes = np.where(np.arange(n_rows) < 10, truth[:n_rows] % 2, -1)
    found = beliefs(X[:n_rows], codes, DeformableHOG(6, 4))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_the_nearest_of_four_times_as_many_are_neighbors():
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    seen = []

    def distances(candidates):
        seen.append(candidates.copy())
        return np.abs(X[:, None, 0] - X[candidates, 0])

    found = neighbor_graph(X, 5, weighted=True, standardize=False, distances=distances)
    (candidates,) = seen
    direct = np.linalg.norm(X[:, None] - X, axis=2)
    np.fill_diagonal(direct, np.inf)
    expected = np.zeros((60, 60))
    last = np.zeros(60)
    for i in range(60):
        near = np.argsort(direct[i])[:20]
        assert set(candidates[i]) == set(near)
        kept = near[np.argsort(np.abs(X[near, 0] - X[i, 0]))[:5]]
        expected[i, kept] = np.abs(X[kept, 0] - X[i, 0])
        last[i] = expected[i].max()
    squares = expected**2 / np.outer(last, last)
    weights = np.where(expected > 0, np.exp(-squares.clip(max=30)), 0)
    np.testing.assert_allclose(found.toarray(), weights + weights.T, rtol=1e-4)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda d: d[:, 1:], r"distances \(.*, 39\) of rows and others.*\(.*, 40\)"),
        (lambda d: d.numpy(), r"distances \(.*, 40\) of rows and others"),
        (lambda d: d / 0, "NaN or infinite"),
        (lambda d: d * torch.nan, "NaN or infinite"),
        (lambda d: -d, "negative"),
    ],
)
def test_distances_that_are_none_are_refused(made, message, digits):
    X, y, _ = digits
    with pytest.raises(ValueError, match=message):
        model(graph_features=Own(made=made)).fit(X, y)


@pytest.mark.parametrize(
    "parts", [lambda x: x, lambda x: [], lambda x: [torch.eye(64)], lambda x: [3]]
)
def test_parts_that_are_none_are_refused(parts, digits):
    X, y, _ = digits
    with pytest.raises(ValueError, match="list of Tensors, each of as many rows"):
        model(graph_features=Own(parts=parts)).fit(X, y)


def test_a_module_compares_in_evaluation_mode(digits):
    class Module(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)

        def parts(self, x):
            assert not self.training
            return [x.flatten(1)]

        def distances(self, ones, others):
            assert not self.training
            return (ones[0][:, None] - others[0]).norm(dim=2)

    X, codes, _ = digits
    module = Module()
    expected = beliefs(X, codes, Own())
    np.testing.assert_allclose(beliefs(X, codes, module), expected, atol=1e-5)
    assert module.training


def test_deformable_histograms_in_a_fit(digits):
    X, y, _ = digits
    fitted = [model(graph_features=DeformableHOG(6, 4)).fit(X, y) for _ in range(2)]
    first, second = (m.predict_proba(X) for m in fitted)
    np.testing.assert_array_equal(first, second)
    without = model(graph_features=HOG(6, 4)).fit(X, y).predict_proba(X)
    assert abs(first - without).max() > 1e-4
    assert clone(fitted[0]).graph_features == DeformableHOG(6, 4) != HOG(6, 4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_distances_on_a_gpu_are_those_of_the_cpu(digits):
    X, codes, _ = digits
    rows = ArraySource(X.reshape(400, 64), (1, 8, 8), "cuda")
    compare = DeformableHOG(6, 4)
    found = class_beliefs(rows, (1, 8, 8), codes, 10, compare)
    np.testing.assert_allclose(found, beliefs(X, codes, compare), atol=1e-2)
