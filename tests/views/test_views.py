import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.datasets import make_blobs
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from pnl_sklearn import PNLClassifier
from pnl_sklearn.networks._mlp import ReLUDropout
from pnl_sklearn.views import (
    AdversarialView,
    ImageView,
    NeighborView,
    TableView,
    auto_views,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blob(n=1, channels=1, size=17):
    """A smooth image off the center, so that every transform can be told."""
    y, x = np.mgrid[:size, :size]
    image = np.exp(-((x - 10.0) ** 2) / 6 - ((y - 7.0) ** 2) / 12)
    return torch.tensor(image, dtype=torch.float32).expand(n, channels, -1, -1)


def test_no_strength_is_the_identity():
    x = torch.rand(3, 2, 9, 7)
    torch.testing.assert_close(ImageView()(x), x)
    torch.testing.assert_close(ImageView(fill=(0.5, 0.0))(x), x)
    assert torch.equal(TableView()(x), x)


class Draws(ImageView):
    """An ImageView whose parameters are all at one known value of -1 to 1."""

    def __call__(self, x, value):
        matrices = self._matrices(len(x), lambda *shape: torch.full(shape, value))
        grid = torch.nn.functional.affine_grid(matrices, list(x.shape), False)
        return torch.nn.functional.grid_sample(x, grid, align_corners=False)


def test_rotation_against_scipy():
    turned = Draws(rotation=30.0)(blob(), 1.0)[0, 0].numpy()
    # Output to input: our +30 degrees are scipy's affine map by the same matrix.
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    matrix = np.array([[c, s], [-s, c]])  # for (row, column)
    center = np.array([8.0, 8.0])
    expected = ndimage.affine_transform(
        blob()[0, 0].numpy(),
        matrix,
        offset=center - matrix @ center,
        order=1,
        mode="grid-constant",
    )
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_shift_is_a_share_of_the_size():
    moved = Draws(shift=3 / 17)(blob(), 1.0)[0, 0]
    expected = torch.zeros(17, 17)
    expected[:14, :14] = blob()[0, 0, 3:, 3:]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_scale_against_scipy():
    sized = Draws(scale=0.25)(blob(), 1.0)[0, 0].numpy()
    matrix = np.eye(2) * 1.25
    expected = ndimage.affine_transform(
        blob()[0, 0].numpy(),
        matrix,
        offset=8 - matrix @ [8.0, 8.0],
        order=1,
        mode="grid-constant",
    )
    np.testing.assert_allclose(sized, expected, atol=1e-5)


def test_flip_mirrors_columns():
    mirrored = Draws(flip=True)(blob(), -1.0)
    torch.testing.assert_close(mirrored, blob().flip(3), atol=1e-5, rtol=0)


def test_every_image_has_its_own_draw():
    view = ImageView(rotation=20, shift=0.1, erase=0.3, noise=0.1, fill=(0.0,))
    out = view(blob(8), generator=seeded())
    differences = (out[:, None] - out[None]).abs().amax(dim=(2, 3, 4))
    assert (differences + torch.eye(8) > 0.01).all()


def test_shifts_are_uniform_within_their_bounds():
    # Means of the horizontal position, in pixels; the blob stays inside the image.
    view = ImageView(shift=2 / 17, fill=(0.0,))
    out = view(blob(4000), generator=seeded())
    columns = torch.arange(17.0)
    position = (out.sum(dim=2) * columns).sum(dim=2) / out.sum(dim=(2, 3))
    start = (blob().sum(dim=2) * columns).sum() / blob().sum()
    moved = (position - start).flatten()
    assert moved.abs().max() < 2.05
    assert moved.mean().item() == pytest.approx(0, abs=0.08)  # four standard errors
    assert moved.std().item() == pytest.approx(2 / math.sqrt(3), rel=0.05)


def test_what_moves_in_is_the_fill():
    x = torch.full((50, 2, 8, 8), 3.0)
    view = ImageView(shift=0.4, rotation=40, erase=0.5, fill=(3.0, 3.0))
    torch.testing.assert_close(view(x, generator=seeded()), x)


def test_erasing_covers_at_most_its_share():
    x = torch.ones(500, 1, 20, 20)
    erased = ImageView(erase=0.5, fill=(0.0,))(x, generator=seeded()) == 0
    heights = erased.any(dim=3).sum(dim=2)
    assert heights.max() <= 10  # half of 20 pixels
    assert 0.02 < erased.float().mean() < 0.25


def test_noise_is_in_units_of_the_spread():
    x = torch.randn(400, 1, 10, 10, generator=seeded(1)) * 7
    noise = ImageView(noise=0.5)(x, generator=seeded()) - x
    assert noise.std().item() == pytest.approx(3.5, rel=0.05)


def test_corruption_takes_values_of_the_same_column():
    x = torch.arange(60.0).reshape(20, 3)
    out = TableView(corruption=0.5)(x, generator=seeded())
    for column in range(3):
        assert set(out[:, column].tolist()) <= set(x[:, column].tolist())


def test_corruption_replaces_its_share():
    x = torch.arange(100_000.0).reshape(-1, 2)
    out = TableView(corruption=0.3)(x, generator=seeded())
    assert (out != x).float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_every_row_of_the_batch_gives_values_equally_often():
    n, n_columns, share = 10, 50_000, 0.3
    x = torch.arange(float(n))[:, None].expand(n, n_columns)
    out = TableView(corruption=share)(x, generator=seeded())
    counts = torch.stack([torch.bincount(row.long(), minlength=n) for row in out])
    expected = torch.full((n, n), share / n) + (1 - share) * torch.eye(n)
    assert np.allclose(counts / n_columns, expected, atol=0.005)


def test_table_noise_is_in_units_of_each_column():
    x = torch.randn(20_000, 2, generator=seeded(1)) * torch.tensor([1.0, 100.0])
    noise = TableView(noise=0.2)(x, generator=seeded()) - x
    assert noise.std(dim=0).tolist() == pytest.approx([0.2, 20.0], rel=0.05)


@pytest.mark.parametrize("shape", [(0, 3), (0, 1, 8, 8)])
def test_an_empty_batch_stays_empty(shape):
    for view in (ImageView(shift=0.1, noise=0.1), TableView(0.1, 0.1)):
        assert view(torch.zeros(shape)).shape == shape


def test_one_row_is_not_nan():
    assert TableView(0.5, 0.5)(torch.ones(1, 4)).isfinite().all()


def test_auto_views_neither_mirror_digits_nor_erase_parts_of_them():
    weak, strong = auto_views(blob(5))
    assert [weak.flip, strong.flip, strong.erase] == [False, False, 0]
    weak, strong = auto_views(blob(5, channels=3))
    assert weak.flip
    assert strong.flip
    assert strong.erase


@pytest.mark.parametrize("background", [0.0, 255.0])
def test_auto_views_fill_with_the_background(background):
    images = torch.full((10, 1, 12, 12), background)
    images[:, :, 4:8, 4:8] = 128.0
    assert auto_views(images)[1].fill == (background,)


def rows(n=300, d=3, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(n, d))).float()


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_neighbors_are_those_of_scikit_learn(offset):
    """Each is reached along the line to it, and as often as a random part tells."""
    X = rows(60) * torch.tensor([1.0, 10.0, 0.1]) + offset
    scaled = StandardScaler().fit_transform(X.double().numpy())
    expected = NearestNeighbors(n_neighbors=59).fit(scaled).kneighbors()[1]
    for n_neighbors in (1, 4, 9):
        view = NeighborView(X, n_neighbors)
        moves = [(view(X, seeded(seed)) - X).numpy() for seed in range(60)]
        ways = X.numpy()[expected] - X.numpy()[:, None]
        ranks = []
        for move in moves:
            share = (move[:, None] * ways).sum(2) / (ways**2).sum(2)
            off = (move[:, None] - share[..., None] * ways) / X.std(dim=0).numpy()
            rest = np.linalg.norm(off, axis=2)
            assert (rest.min(axis=1) < 0.02).all()
            # A short move tells little about its end.
            far = share[np.arange(60), rest.argmin(axis=1)] > 0.3
            ranks.append(1 + rest.argmin(axis=1)[far])
        ranks = np.concatenate(ranks)
        # Each row is in a part with this chance; the nearest that is, is drawn.
        assert ranks.mean() == pytest.approx((n_neighbors + 1) / 2, rel=0.1)
        assert np.mean(ranks == 1) == pytest.approx(2 / (n_neighbors + 1), abs=0.05)


def test_neighbors_in_given_units():
    # In units of the columns (0, 0) is nearer to (3, 0); as they are, to (0, 1).
    X = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [30.0, 1.0], [-30.0, 0.0]])
    near = NeighborView(X, n_neighbors=1)(X[:1], seeded())
    assert near[0, 0] > 0
    assert near[0, 1] == 0
    near = NeighborView(X, n_neighbors=1, units=torch.ones(2))(X[:1], seeded())
    assert near[0, 0] == 0
    assert near[0, 1] > 0


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1e-2])
def test_neighbors_in_tight_clusters_are_of_the_same_cluster(spread):
    X, y = make_blobs(600, centers=4, n_features=5, cluster_std=spread, random_state=0)
    moved = NeighborView(torch.tensor(X), n_neighbors=6)(torch.tensor(X).float())
    centers = np.stack([X[y == k].mean(axis=0) for k in range(4)])
    distances = np.linalg.norm(moved.numpy()[:, None] - centers, axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), y)
    assert distances.min(axis=1).max() < 10 * spread + 1e-4


def test_the_reach_of_a_neighbor_view():
    X = torch.tensor([[0.0], [1.0]])
    moved = NeighborView(X, n_neighbors=1, reach=0.25)(torch.zeros(1000, 1), seeded())
    assert 0.24 < moved.max() <= 0.25
    assert moved.min() < 0.01
    assert moved.mean() == pytest.approx(0.125, abs=0.01)


@pytest.mark.parametrize("X", [torch.ones(200, 3), torch.ones(1, 3), rows(200)])
def test_neighbor_views_of_odd_tables(X):
    view = NeighborView(X, n_neighbors=5)
    assert view(X[:0]).shape == (0, 3)
    assert view(X).isfinite().all()
    if X.std(correction=0) == 0:
        assert torch.equal(view(X), X)


def test_auto_views_of_tables():
    weak, strong = auto_views(rows(400))
    assert weak.n_neighbors == 4
    assert weak.units is None
    assert isinstance(strong, TableView)
    assert auto_views(rows(100))[0].n_neighbors == 3
    few = rows(99)
    assert torch.equal(auto_views(few)[0](few), few)


def test_auto_views_of_columns_with_a_common_unit():
    ratings = torch.randint(1, 6, (300, 5), generator=seeded()).float()
    assert torch.equal(auto_views(ratings)[0].units, torch.ones(5))
    # The range of one of two columns encloses that of the other, almost always.
    two = rows(300, 2) * torch.tensor([1.0, 1000.0])
    assert auto_views(two)[0].units is None
    mixed = ratings * torch.tensor([1.0, 1.0, 20.0, 300.0, 4000.0])
    assert auto_views(mixed)[0].units is None


def test_auto_views_keep_few_rows_of_wide_tables():
    wide = torch.zeros(1000, 40_000)
    kept = auto_views(wide)[0].reference.untyped_storage()
    assert kept.nbytes() <= 4 * 2**24


def test_the_adversarial_view_is_along_the_weights_of_a_logistic_model():
    # KL between the predictions of a two-class linear model depends on w x alone, so
    # that its gradient, and the worst change, are along the difference of weights.
    torch.manual_seed(0)
    x = rows(50, d=6)
    model = torch.nn.Linear(6, 2)
    change = AdversarialView(size=0.2).perturb(x, model) - x
    # In units of the columns, the gradient is w times the units.
    w = (model.weight[1] - model.weight[0]).detach() * x.var(dim=0, correction=0)
    cosines = (change @ w) / (change.norm(dim=1) * w.norm())
    torch.testing.assert_close(cosines.abs(), torch.ones(50), atol=1e-3, rtol=0)
    assert all(p.grad is None for p in model.parameters())


def test_the_size_of_the_adversarial_change_is_in_units_of_the_columns():
    torch.manual_seed(0)
    scale = torch.tensor([1e-3, 1.0, 50.0, 1e4])
    x = rows(80, d=4)
    model = torch.nn.Linear(4, 3)

    def of_scaled(z):
        return model(z / scale)

    changes = []
    for batch, network in [(x, model), (x * scale, of_scaled)]:
        torch.manual_seed(1)
        changes.append(AdversarialView(size=0.2).perturb(batch, network) - batch)
    plain, scaled = (
        c / b.std(0, correction=0) for c, b in zip(changes, (x, x * scale), strict=True)
    )
    torch.testing.assert_close(plain.square().mean(1).sqrt(), torch.full((80,), 0.2))
    torch.testing.assert_close(scaled, plain, atol=2e-3, rtol=0)
    images = torch.rand(5, 2, 6, 6)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(72, 3))
    change = AdversarialView(size=0.2).perturb(images, flat) - images
    size = change.square().mean(dim=(1, 2, 3)).sqrt() / images.std(correction=0)
    torch.testing.assert_close(size, torch.full((5,), 0.2))


@pytest.mark.parametrize("dropout", [torch.nn.Dropout, ReLUDropout])
def test_both_passes_of_the_adversarial_view_drop_the_same(dropout):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(10, 50), dropout(0.5), torch.nn.Linear(50, 3)
    )
    outputs = []

    def recorded(z):
        outputs.append(model(z))
        return outputs[-1]

    AdversarialView(size=1e-4).perturb(rows(100, d=10), recorded)
    clean, moved = outputs
    assert (clean - moved).abs().max() < 1e-3
    assert (model(rows(100, d=10)) - clean).abs().max() > 0.1


def test_the_adversarial_view_of_a_sure_network_stays_small():
    x = rows(50, d=6)
    model = torch.nn.Linear(6, 2)
    with torch.no_grad():
        model.weight.mul_(200)
    change = AdversarialView(size=0.2).perturb(x, model) - x
    assert (change.square().mean(dim=1).sqrt() < 0.5).all()


def test_the_adversarial_view_misleads_more_than_noise():
    torch.manual_seed(0)
    x = rows(200, d=20)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 50), torch.nn.ReLU(), torch.nn.Linear(50, 4)
    )

    def divergence(moved):
        log_p, log_q = (model(z).log_softmax(dim=1).detach() for z in (x, moved))
        return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()

    perturbed = AdversarialView(size=0.3).perturb(x, model)
    noisy = AdversarialView(noise=0.3)(x, seeded())
    assert (noisy - x).std() / x.std() == pytest.approx(0.3, rel=0.05)
    assert divergence(perturbed) > 4 * divergence(noisy)


def test_the_adversarial_view_of_nothing():
    view = AdversarialView(noise=0.1)
    assert view(torch.zeros(0, 3)).shape == (0, 3)
    assert view.perturb(torch.zeros(0, 3), torch.nn.Linear(3, 2)).shape == (0, 3)
    constant = torch.zeros(4, 3)
    assert view.perturb(constant, torch.nn.Linear(3, 2)).isfinite().all()


@pytest.mark.parametrize("exchange", ["simultaneous", "alternating"])
def test_a_fit_with_the_adversarial_view(exchange):
    X, y = make_blobs(150, centers=3, n_features=4, random_state=0)
    y_few = np.where(np.arange(150) < 15, y, -1)
    fits = [
        PNLClassifier(
            exchange=exchange,
            strong_view=strong,
            max_epochs=2,
            steps_per_epoch=50,
            random_state=0,
        ).fit(X, y_few)
        for strong in [AdversarialView(0.2), AdversarialView(0.2), None]
    ]
    first, again, without = (fit.predict_proba(X) for fit in fits)
    assert fits[0].score(X, y) > 0.9
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, without)


def test_the_adversarial_view_is_no_weak_view():
    with pytest.raises(ValueError, match="Give it as the strong view"):
        PNLClassifier(weak_view=AdversarialView()).fit(np.eye(4), [0, 1, -1, -1])
