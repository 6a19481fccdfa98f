import numpy as np
import pytest
import torch

from pnl_sklearn.views import TableView, auto_views


def normal_table(n_samples, n_features=3):
    rng = np.random.default_rng(0)
    return torch.tensor(rng.normal(size=(n_samples, n_features))).float()


def test_auto_views_neither_mirror_nor_erase_images_of_one_channel():
    weak, strong = auto_views(torch.rand(5, 1, 8, 8))
    assert [weak.flip, strong.flip, strong.erase] == [False, False, 0]
    weak, strong = auto_views(torch.rand(5, 3, 8, 8))
    assert weak.flip
    assert strong.flip
    assert strong.erase


@pytest.mark.parametrize("background", [0.0, 255.0])
def test_auto_views_fill_with_background(background):
    images = torch.full((10, 1, 12, 12), background)
    images[:, :, 4:8, 4:8] = 128.0
    assert auto_views(images)[1].fill == (background,)


def test_auto_views_number_of_neighbors_of_tables():
    weak, strong = auto_views(normal_table(400))
    assert weak.n_neighbors == 4
    assert weak.units is None
    assert isinstance(strong, TableView)
    assert auto_views(normal_table(100))[0].n_neighbors == 3
    few = normal_table(99)
    assert torch.equal(auto_views(few)[0](few), few)


def test_auto_views_common_unit_of_features(generator):
    ratings = torch.randint(1, 6, (300, 5), generator=generator).float()
    assert torch.equal(auto_views(ratings)[0].units, torch.ones(5))
    # The range of one of two features encloses that of the other, almost always.
    two = normal_table(300, 2) * torch.tensor([1.0, 1000.0])
    assert auto_views(two)[0].units is None
    mixed = ratings * torch.tensor([1.0, 1.0, 20.0, 300.0, 4000.0])
    assert auto_views(mixed)[0].units is None


def test_auto_views_keep_few_samples_of_wide_tables():
    wide = torch.zeros(500, 40_000)
    reference = auto_views(wide)[0].reference
    assert len(reference) == 250
    assert reference.untyped_storage().nbytes() <= 4 * 2**24
