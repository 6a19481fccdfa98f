import numpy as np
import pytest
import torch

from pnl_sklearn.networks import MLP, SmallCNN, Standardized


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 3, 5), (1, 8, 8), (3, 15, 40), (1, 28, 28), (4, 64, 64)]
)
def test_the_cnn_takes_images_of_any_size(shape):
    logits = SmallCNN(shape, n_classes=7, width=16)(torch.rand(2, *shape))
    assert logits.shape == (2, 7)


def test_parameters_of_the_cnn():
    # Convolutions without bias 9 (1*8 + 8*16 + 16*32), two of each channel's batch
    # norm 2 (8 + 16 + 32), last layer 32 * 5 + 5.
    network = SmallCNN((1, 8, 8), n_classes=5, width=32)
    n_parameters = sum(p.numel() for p in network.parameters())
    assert n_parameters == 9 * (8 + 128 + 512) + 2 * 56 + 165


def test_the_mlp_has_the_layers_asked_for():
    network = MLP(n_features=5, n_classes=3, hidden=16, n_layers=3)
    widths = [m.out_features for m in network.modules() if hasattr(m, "out_features")]
    assert widths == [16, 16, 16, 3]
    assert network(torch.rand(4, 5)).shape == (4, 3)


def test_standardized_is_numpys_z_score():
    x = np.random.default_rng(0).normal(5, 3, size=(50, 4)).astype(np.float32)
    shift, scale = torch.tensor(x.mean(axis=0)), torch.tensor(1 / x.std(axis=0))
    z = Standardized(torch.nn.Identity(), shift, scale)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(z, (x - x.mean(axis=0)) / x.std(axis=0), rtol=1e-4)
