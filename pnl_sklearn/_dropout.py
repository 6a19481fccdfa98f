"""Dropout that takes half the time of torch's on a CPU."""

import torch
from torch import Tensor, nn


class ReLUDropout(nn.Dropout):
    """ReLU, then dropout; on a CPU 16 random bits decide on each unit.

    torch's own dropout draws a float for each unit, which takes longer than the linear
    layer in front of it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return kept hidden units, scaled up, and 0 for all others."""
        x, n_dropped = x.relu(), round(2**16 * self.p)
        if not self.training or not 0 < n_dropped < 2**16 or not x.is_cpu:
            return super().forward(x)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(
            -(2**63), None
        )
        bits = bits.view(torch.int16)[: x.numel()].view(x.shape)
        # Compared into floats at once: to convert booleans takes as long again.
        kept = torch.ge(bits, n_dropped - 2**15, out=torch.empty_like(x))
        return x * kept.mul_(2**16 / (2**16 - n_dropped))
