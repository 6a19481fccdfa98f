"""Standardization of the inputs of a network, and a linear classifier beside it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
    linear : tuple of Tensor, default=None
        Coefficients, of shape (n_classes, n_features), and intercepts of a linear
        classifier of standardized samples. Its logits are added to those of the
        network. They are buffers, too: they are not trained.
    """

    shift: Tensor
    scale: Tensor
    coef: Tensor
    intercept: Tensor

    def __init__(
        self,
        network: nn.Module,
        shift: Tensor,
        scale: Tensor,
        linear: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.is_linear = linear is not None
        if linear is not None:
            self.register_buffer("coef", linear[0])
            self.register_buffer("intercept", linear[1])
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
        x = (x - self.shift) * self.scale
        logits = self.network(x)
        if not self.is_linear:
            return logits
        with torch.autocast(x.device.type, enabled=False):
            added = F.linear(x.flatten(1), self.coef, self.intercept)
        if isinstance(logits, tuple):
            return tuple(head + added for head in logits)
        return logits + added
