"""Networks for tables and images.

A network is a :class:`torch.nn.Module` that maps a batch to logits of shape
(n_samples, n_classes). Tables have shape (n_samples, n_features), images
(n_samples, n_channels, height, width).

To add a network to this package, write it in a module of its own and name it in
`MODULES`. The estimator sets the constructor parameters `n_features`, `n_channels`,
`image_shape` and `n_classes`, if there are any. All other parameters need a default.
"""

from torch import nn

from ._base import ResettableHead
from ._cnn import CNN13, SmallCNN
from ._mlp import MLP
from ._standardized import Standardized
from ._wide_resnet import WideResNet

__all__ = [
    "CNN13",
    "MLP",
    "MODULES",
    "ResettableHead",
    "SmallCNN",
    "Standardized",
    "WideResNet",
]

MODULES: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": SmallCNN,
    "cnn13": CNN13,
    "wrn28-2": WideResNet,
}
"""Networks by their names, the values of `module`."""
