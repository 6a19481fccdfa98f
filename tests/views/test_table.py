import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from pnl_sklearn.views import NeighborView, TableView


def normal_table(n_samples, n_features=3):
    rng = np.random.default_rng(0)
    return torch.tensor(rng.normal(size=(n_samples, n_features))).float()


def test_table_view_without_strength_is_identity():
    x = normal_table(5)
    assert torch.equal(TableView()(x), x)


def test_table_view_of_empty_batch():
    assert TableView(0.1, 0.1)(torch.zeros(0, 3)).shape == (0, 3)


def test_table_view_of_one_sample_is_finite():
    assert TableView(0.5, 0.5)(torch.ones(1, 4)).isfinite().all()


def test_corruption_keeps_features_apart(generator):
    x = torch.arange(60.0).reshape(20, 3)
    out = TableView(corruption=0.5)(x, generator=generator)
    for feature in range(3):
        assert set(out[:, feature].tolist()) <= set(x[:, feature].tolist())


def test_corruption_is_share_of_replaced_entries(generator):
    x = torch.arange(100_000.0).reshape(-1, 2)
    out = TableView(corruption=0.3)(x, generator=generator)
    assert (out != x).float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_corruption_copies_all_samples_equally_often(generator):
    n, n_features, corruption = 10, 50_000, 0.3
    x = torch.arange(float(n))[:, None].expand(n, n_features)
    out = TableView(corruption=corruption)(x, generator=generator)
    counts = torch.stack([torch.bincount(row.long(), minlength=n) for row in out])
    expected = torch.full((n, n), corruption / n) + (1 - corruption) * torch.eye(n)
    assert np.allclose(counts / n_features, expected, atol=0.005)


def test_table_noise_is_in_standard_deviations_of_each_feature(generator):
    x = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1))
    x = x * torch.tensor([1.0, 100.0])
    noise = TableView(noise=0.2)(x, generator=generator) - x
    assert noise.std(dim=0).tolist() == pytest.approx([0.2, 20.0], rel=0.05)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_neighbors_match_scikit_learn(offset):
    """Samples move toward each neighbor as often as the random subset implies."""
    X = normal_table(60) * torch.tensor([1.0, 10.0, 0.1]) + offset
    scaled = StandardScaler().fit_transform(X.double().numpy())
    neighbors = NearestNeighbors(n_neighbors=59).fit(scaled).kneighbors()[1]
    to_neighbors = X.numpy()[neighbors] - X.numpy()[:, None]
    for n_neighbors in (1, 4, 9):
        view = NeighborView(X, n_neighbors)
        ranks = []
        for seed in range(60):
            move = (view(X, torch.Generator().manual_seed(seed)) - X).numpy()
            fraction = (move[:, None] * to_neighbors).sum(2) / (to_neighbors**2).sum(2)
            residual = move[:, None] - fraction[..., None] * to_neighbors
            distance = np.linalg.norm(residual / X.std(dim=0).numpy(), axis=2)
            assert (distance.min(axis=1) < 0.02).all()
            # After a short move, the neighbor is hard to tell.
            nearest = distance.argmin(axis=1)
            ranks.append(1 + nearest[fraction[np.arange(60), nearest] > 0.3])
        ranks = np.concatenate(ranks)
        # Each sample is in the subset with probability 2 / (n_neighbors + 1).
        assert ranks.mean() == pytest.approx((n_neighbors + 1) / 2, rel=0.1)
        assert np.mean(ranks == 1) == pytest.approx(2 / (n_neighbors + 1), abs=0.05)


def test_neighbor_view_units_scale_the_distance(generator):
    # In standard deviations (0, 0) is nearer to (3, 0); in equal units, to (0, 1).
    X = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [30.0, 1.0], [-30.0, 0.0]])
    moved = NeighborView(X, n_neighbors=1)(X[:1], generator)
    assert moved[0, 0] > 0
    assert moved[0, 1] == 0
    moved = NeighborView(X, n_neighbors=1, units=torch.ones(2))(X[:1], generator)
    assert moved[0, 0] == 0
    assert moved[0, 1] > 0


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1e-2])
def test_neighbor_view_stays_within_tight_clusters(spread):
    X, y = make_blobs(600, centers=4, n_features=5, cluster_std=spread, random_state=0)
    moved = NeighborView(torch.tensor(X), n_neighbors=6)(torch.tensor(X).float())
    centers = np.stack([X[y == k].mean(axis=0) for k in range(4)])
    distances = np.linalg.norm(moved.numpy()[:, None] - centers, axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), y)
    assert distances.min(axis=1).max() < 10 * spread + 1e-4


def test_neighbor_view_reach_is_largest_fraction(generator):
    X = torch.tensor([[0.0], [1.0]])
    moved = NeighborView(X, n_neighbors=1, reach=0.25)(torch.zeros(1000, 1), generator)
    assert 0.24 < moved.max() <= 0.25
    assert moved.min() < 0.01
    assert moved.mean() == pytest.approx(0.125, abs=0.01)


@pytest.mark.parametrize(
    "X",
    [torch.ones(200, 3), torch.ones(1, 3), normal_table(200)],
    ids=["constant", "one sample", "normal"],
)
def test_neighbor_view_of_constant_and_empty_tables(X):
    view = NeighborView(X, n_neighbors=5)
    assert view(X[:0]).shape == (0, 3)
    assert view(X).isfinite().all()
    if X.std(correction=0) == 0:
        assert torch.equal(view(X), X)


def test_pickled_neighbor_view_is_the_same():
    x = normal_table(60)
    view = NeighborView(x, n_neighbors=3)
    views = [view, pickle.loads(pickle.dumps(view))]
    first, second = (v(x, torch.Generator().manual_seed(0)) for v in views)
    assert torch.equal(first, second)
