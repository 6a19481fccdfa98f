import pytest
import torch

from pnl_sklearn.networks import WideResNet


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 32), (5, 28, 41)])
def test_wide_resnet_takes_images_of_different_sizes(shape):
    assert WideResNet(shape, n_classes=4)(torch.rand(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize(
    ("depth", "widen", "millions"),
    [
        # Zagoruyko and Komodakis (2016), networks for CIFAR.
        (40, 1, 0.6),
        (40, 2, 2.2),
        (40, 4, 8.9),
        (16, 8, 11.0),
        (22, 8, 17.2),
        # Oliver et al. (2018).
        (28, 2, 1.5),
    ],
)
def test_wide_resnet_number_of_parameters(depth, widen, millions):
    with torch.device("meta"):  # no weights are needed
        network = WideResNet((3, 32, 32), n_classes=10, depth=depth, widen=widen)
    n_parameters = sum(p.numel() for p in network.parameters())
    assert round(n_parameters / 1e6, 1) == millions


def test_wide_resnet_number_of_layers():
    layers = [m for m in WideResNet((3, 32, 32), 10).modules() if hasattr(m, "weight")]
    kernels = [m for m in layers if m.weight.ndim == 4 and m.weight.shape[-1] == 3]
    # The authors count the three 1x1 shortcuts too, but not the linear layer.
    assert len(kernels) + 3 == 28


def test_wide_resnet_rejects_other_depths():
    with pytest.raises(ValueError, match="depth must be 10, 16, 22"):
        WideResNet((3, 32, 32), 10, depth=27)
