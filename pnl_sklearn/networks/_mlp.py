"""Multilayer perceptron for tables."""

from typing import ClassVar

import torch
from torch import Tensor, nn


class ReLUDropout(nn.Dropout):
    """ReLU, then dropout.

    On a CPU it uses 16 random bits for each unit, which is faster than the random
    floats of torch's dropout.

    Parameters
    ----------
    p : float, default=0.5
        Probability that a unit is zeroed in training.
    inplace : bool, default=False
        Passed to :class:`torch.nn.Dropout`, which is used on other devices.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply ReLU, set random units to zero and scale the other units.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_units)
            Outputs of a linear layer.

        Returns
        -------
        units : Tensor of shape (n_samples, n_units)
            Units divided by 1 - p, or zeros. In evaluation mode only ReLU is applied.
        """
        x, n_dropped = x.relu(), round(2**16 * self.p)
        if not self.training or not 0 < n_dropped < 2**16 or not x.is_cpu:
            return super().forward(x)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(
            -(2**63), None
        )
        bits = bits.view(torch.int16)[: x.numel()].view(x.shape)
        # With float output, since the conversion of booleans takes as long.
        kept = torch.ge(bits, n_dropped - 2**15, out=torch.empty_like(x))
        return x * kept.mul_(2**16 / (2**16 - n_dropped))


class MLP(nn.Module):
    """Multilayer perceptron for tables.

    Each hidden layer is a linear layer, ReLU and dropout. With few labels, one wide
    hidden layer is usually better than several narrow ones. The weights of the output
    layer are initially 0, so that all classes are equally probable at first.

    Parameters
    ----------
    n_features : int
        Number of features.
    n_classes : int
        Number of classes.
    hidden : int, default=512
        Number of units of each hidden layer.
    n_layers : int, default=1
        Number of hidden layers.
    dropout : float, default=0.2
        Probability that a hidden unit is zeroed in training.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.networks import MLP
    >>> network = MLP(n_features=4, n_classes=3)
    >>> network(torch.rand(8, 4)).shape
    torch.Size([8, 3])
    """

    capturable: ClassVar[bool] = True

    def __init__(self, n_features, n_classes, hidden=512, n_layers=1, dropout=0.2):
        super().__init__()
        layers: list[nn.Module] = []
        for width in [n_features] + [hidden] * (n_layers - 1):
            layers += [nn.Linear(width, hidden), ReLUDropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to logits.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, n_features)
            A batch of a table. Further axes are flattened.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Logits of the classes.
        """
        return self.head(self.body(x.flatten(1)))
