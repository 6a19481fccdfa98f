"""Dropout whose random numbers are its own, so that networks can be trained at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_local = threading.local()
# Odd, with bits all over: sets apart the draws of fits whose seeds are close.
_FACTOR = 0x9E3779B97F4A7C15


class ReLUDropout(nn.Dropout):
    """ReLU, then dropout of hidden units, on a CPU faster than torch's own.

    Torch's dropout draws one number for each value, which takes longer than the linear
    layer in front; here 64 random bits decide on four values, each kept with a
    probability of whole 65536ths. And one tensor is kept for the gradient, the result,
    where torch keeps those of both layers and the mask.

    On a CPU the numbers do not come from torch's generator, which all threads share,
    but from the seed it was last given and the layer's `position`. It starts anywhere,
    goes on by one with each batch, and is saved with the weights.
    """

    position: Tensor

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.register_buffer("position", torch.empty((), dtype=torch.int64))
        self.start_anew()

    def start_anew(self) -> None:
        """Set the position anywhere, so that copies of a layer draw other numbers."""
        self.position.random_(2**62)

    def forward(self, x: Tensor) -> Tensor:
        """Return kept hidden units, scaled up, and 0 for all others."""
        n_dropped = round(2**16 * self.p)
        if not self.training or not 0 < n_dropped < 2**16 or x.device.type != "cpu":
            return super().forward(x.relu())
        seed = (torch.initial_seed() * _FACTOR + int(self.position)) % 2**63
        generator = torch.Generator().manual_seed(seed)
        if not getattr(_local, "repeats", False):
            self.position += 1
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
        draws.random_(-(2**63), None, generator=generator)
        draws = draws.view(torch.int16)[: x.numel()].view(x.shape)
        factor = 2**16 / (2**16 - n_dropped)
        return _KeptReLU.apply(x, draws, n_dropped - 2**15, factor)


@contextmanager
def draws_kept() -> Iterator[None]:
    """Context after which layers, in this thread, draw what they drew within."""
    _local.repeats = True
    try:
        yield
    finally:
        _local.repeats = False


def start_anew(network: nn.Module) -> None:
    """Have the layers of a copied network draw numbers of their own."""
    for module in network.modules():
        if isinstance(module, ReLUDropout):
            module.start_anew()


class _KeptReLU(torch.autograd.Function):
    """ReLU times a factor where a draw is not below the least; 0 elsewhere."""

    @staticmethod
    def forward(x: Tensor, draws: Tensor, least: int, factor: float) -> Tensor:
        # Compared into numbers at once: making them of booleans takes as long again.
        kept = torch.ge(draws, least, out=torch.empty_like(x))
        return kept.mul_(factor).mul_(x).clamp_min_(0)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(output)
        ctx.factor = inputs[3]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Positive is what was kept and positive before.
        (output,) = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(gradient, output, 0)
        return passed * ctx.factor, None, None, None
