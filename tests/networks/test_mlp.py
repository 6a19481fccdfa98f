from copy import deepcopy

import pytest
import torch

from pnl_sklearn.networks import MLP


def test_mlp_number_and_width_of_layers():
    network = MLP(n_features=5, n_classes=3, hidden=16, n_layers=3)
    widths = [m.out_features for m in network.modules() if hasattr(m, "out_features")]
    assert widths == [16, 16, 16, 3]
    assert network(torch.rand(4, 5)).shape == (4, 3)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1000, 128), (999, 7), (0, 8)])
def test_dropout_zeroes_share_and_keeps_mean(p, shape):
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
def test_hidden_units_are_relu_times_dropout_mask(p, dtype):
    hidden = MLP(50, 3, dropout=p).body[1]
    x = torch.randn(400, 50, dtype=dtype, requires_grad=True)
    weights = torch.randn(400, 50, dtype=dtype)
    with torch.random.fork_rng():
        mask = hidden(torch.ones_like(x)).detach()
    out = hidden(x)
    expected = x.relu() * mask
    assert torch.equal(out, expected)
    (gradient,) = torch.autograd.grad((weights * out).sum(), x)
    (expected_gradient,) = torch.autograd.grad((weights * expected).sum(), x)
    rounding = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(gradient, expected_gradient, rtol=rounding, atol=0)


def test_dropout_masks_of_copies_are_independent():
    hidden = MLP(50, 3, dropout=0.5).body[1]
    dropped = [layer(torch.ones(1000)) == 0 for layer in (hidden, deepcopy(hidden))]
    agreement = (dropped[0] == dropped[1]).float().mean().item()
    assert agreement == pytest.approx(0.5, abs=0.07)


def test_dropout_uses_the_random_generator_of_torch():
    hidden = MLP(20, 3, dropout=0.5, n_layers=2).body
    x = torch.randn(50, 20)
    with torch.random.fork_rng():
        first = hidden(x)
    assert torch.equal(hidden(x), first)
    assert not torch.equal(hidden(x), first)


def test_all_classes_are_equally_probable_at_first():
    assert not MLP(20, 3)(torch.randn(50, 20)).any()
