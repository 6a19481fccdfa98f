import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch

from pnl_sklearn import PNLClassifier
from pnl_sklearn.networks import CNN13, MLP, SmallCNN, Standardized, WideResNet
from pnl_sklearn.networks._cnn import _WeightNormConv2d


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


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
    assert n_parameters(network) == 9 * (8 + 128 + 512) + 2 * 56 + 165


@pytest.mark.parametrize("network", [CNN13, WideResNet])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (5, 28, 41)])
def test_the_networks_of_the_field_take_images_of_28_pixels_and_more(network, shape):
    assert network(shape, n_classes=4)(torch.rand(2, *shape)).shape == (2, 4)


def test_parameters_of_the_13_layer_network():
    # Table 5 of Tarvainen and Valpola (2017): kernels of 3x3, the last two of 1x1.
    threes = [(3, 128), (128, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    kernels = 9 * sum(a * b for a, b in [*threes, (256, 512)]) + 512 * 256 + 256 * 128
    channels = 3 * 128 + 3 * 256 + 512 + 256 + 128
    # A length, and the scale and shift of batch normalization, for each channel.
    expected = kernels + 3 * channels + 128 * 10 + 10
    assert n_parameters(CNN13((3, 32, 32), n_classes=10)) == expected


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
def test_parameters_of_wide_residual_networks(depth, widen, millions):
    network = WideResNet((3, 32, 32), n_classes=10, depth=depth, widen=widen)
    assert round(n_parameters(network) / 1e6, 1) == millions


def test_a_wide_residual_network_has_the_layers_of_its_name():
    layers = [m for m in WideResNet((3, 32, 32), 10).modules() if hasattr(m, "weight")]
    kernels = [m for m in layers if m.weight.ndim == 4 and m.weight.shape[-1] == 3]
    # In "28" the authors count the shortcuts of 1x1 too, but not the linear layer.
    assert len(kernels) + 3 == 28
    with pytest.raises(ValueError, match="depth has to be 10, 16, 22"):
        WideResNet((3, 32, 32), 10, depth=27)


def test_weight_normalization_is_torchs():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 8)
    ours = _WeightNormConv2d(3, 5, 3, padding=1, bias=False)
    plain = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    plain.load_state_dict({"weight": ours.weight})
    theirs = torch.nn.utils.parametrizations.weight_norm(plain)
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        ours.weight *= 3  # the direction alone counts
        ours.length *= 2
        theirs.parametrizations.weight.original0 *= 2
    torch.testing.assert_close(ours(x), theirs(x))
    for network in (ours, theirs):
        network(x).square().sum().backward()
    lengths = theirs.parametrizations.weight.original0.grad.flatten()
    torch.testing.assert_close(ours.length.grad, lengths)


def test_noise_of_the_13_layer_network_is_for_training():
    x = torch.rand(4, 1, 28, 28)
    network = CNN13((1, 28, 28), 3, dropout=0.0, noise=0.15)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_the_second_head_is_there_in_training_only():
    torch.manual_seed(0)
    network = CNN13((1, 28, 28), 3, dropout=0.0, second_head=True)
    x = torch.rand(4, 1, 28, 28)
    logits, taught = network(x)
    assert logits.shape == taught.shape == (4, 3)
    assert not torch.allclose(logits, taught)
    network.eval()
    torch.testing.assert_close(network(x), network.head(network.features(x)))
    one_head = CNN13((1, 28, 28), 3)
    assert n_parameters(network) == n_parameters(one_head) + 128 * 3 + 3


@pytest.mark.parametrize("name", ["cnn13", "wrn28-2"])
def test_networks_by_name_fit_and_pickle(name):
    rng = np.random.default_rng(0)
    X, y = rng.random((16, 28, 28)), np.r_[0, 1, 0, 1, np.full(12, -1)]
    classifier = PNLClassifier(
        module=name,
        max_epochs=1,
        steps_per_epoch=2,
        batch_size=4,
        labeled_batch_size=4,
        random_state=0,
    ).fit(X, y)
    expected = classifier.predict_proba(X)
    assert expected.shape == (16, 2)
    reloaded = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(reloaded.predict_proba(X), expected)
    with pytest.raises(ValueError, match=f"module='{name}' needs images"):
        PNLClassifier(module=name).fit(X.reshape(16, -1), y)


def test_images_too_small_for_the_13_layer_network():
    with pytest.raises(ValueError, match="at least 12 pixels a side, got 8 x 20"):
        CNN13((1, 8, 20), 3)


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


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1000, 128), (999, 7), (0, 8)])
def test_dropout_zeroes_its_share_and_keeps_the_mean(p, shape):
    torch.manual_seed(0)
    dropout = MLP(shape[1], 3, dropout=p).body[1]
    x = torch.ones(shape, requires_grad=True)
    out = dropout(x)
    if len(x):
        assert (out == 0).float().mean() == pytest.approx(p, abs=0.02)
    assert torch.allclose(out[out > 0], torch.tensor(1 / (1 - p or 1)), rtol=1e-4)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, out)
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hidden_units_are_torchs_relu_times_what_dropout_keeps(p, dtype):
    hidden = MLP(50, 3, dropout=p).body[1]
    x = torch.randn(400, 50, dtype=dtype, requires_grad=True)
    weights = torch.randn(400, 50, dtype=dtype)
    with torch.random.fork_rng():
        kept = hidden(torch.ones_like(x)).detach()
    out = hidden(x)
    expected = x.relu() * kept
    assert torch.equal(out, expected)
    (found,) = torch.autograd.grad((weights * out).sum(), x)
    (gradient,) = torch.autograd.grad((weights * expected).sum(), x)
    rounding = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, gradient, rtol=rounding, atol=0)


def test_copies_of_a_layer_drop_other_units():
    hidden = MLP(50, 3, dropout=0.5).body[1]
    dropped = [layer(torch.ones(1000)) == 0 for layer in (hidden, deepcopy(hidden))]
    agreement = (dropped[0] == dropped[1]).float().mean().item()
    assert agreement == pytest.approx(0.5, abs=0.07)


def test_dropout_draws_from_torchs_generator():
    network = MLP(20, 3, dropout=0.5, n_layers=2)
    x = torch.randn(50, 20)
    with torch.random.fork_rng():
        first = network(x)
    assert torch.equal(network(x), first)
    assert not torch.equal(network(x), first)
