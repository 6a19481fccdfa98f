"""Standardization of the inputs of a network."""

from torch import Tensor, nn


class Standardized(nn.Module):
    """Network with standardized inputs: it computes network((x - shift) * scale).

    The standardization is saved and copied together with the weights.

    Parameters
    ----------
    network : nn.Module
        Maps a standardized batch to logits.
    shift, scale : Tensor
        Tensors that broadcast against a batch, for instance of shape (n_features,) or
        (n_channels, 1, 1). They are buffers of the module.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map a batch to logits.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
            A batch in the units of X.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes), or a pair of them
            The output of `network`.
        """
        return self.network((x - self.shift) * self.scale)
