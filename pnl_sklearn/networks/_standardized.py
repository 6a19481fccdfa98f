"""The standardization in front of a network."""

from torch import Tensor, nn


class Standardized(nn.Module):
    """A network behind (x - shift) * scale, so that its weights are all it needs.

    Parameters
    ----------
    network : nn.Module
        Maps standardized batches to logits.
    shift, scale : Tensor
        Broadcast against a batch; kept as buffers.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map a batch in the units of X to logits."""
        return self.network((x - self.shift) * self.scale)
