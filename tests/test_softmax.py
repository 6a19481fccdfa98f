"""The softmax by columns gives what scipy's gives by rows."""

import pytest
import scipy.special
import torch

from pnl_sklearn import _softmax


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("n_classes", [2, 15, 16, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_those_of_scipy(name, n_classes, dtype):
    torch.manual_seed(0)
    scores = 30 * torch.randn(50, n_classes, dtype=torch.float64).to(dtype)
    made = getattr(_softmax, name)(scores)
    expected = getattr(scipy.special, name)(scores.double().numpy(), axis=1)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        made.double(), torch.from_numpy(expected), rtol=100 * eps, atol=100 * eps
    )
    assert made.dtype == dtype
    assert made.is_contiguous()


@pytest.mark.parametrize("function", [_softmax.softmax, _softmax.log_softmax])
@pytest.mark.parametrize("n_classes", [3, 16])
def test_gradients_are_those_of_differences(function, n_classes):
    torch.manual_seed(0)
    scores = torch.randn(4, n_classes, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, scores)
    assert torch.autograd.gradgradcheck(function, scores)


@pytest.mark.parametrize("function", [_softmax.softmax, _softmax.log_softmax])
def test_no_rows(function):
    assert function(torch.empty(0, 10)).shape == (0, 10)
