"""Networks that `module` names, and the standardization in front of them."""

from ._cnn import CNN13, SmallCNN
from ._mlp import MLP
from ._standardized import Standardized
from ._wide_resnet import WideResNet

__all__ = ["CNN13", "MLP", "SmallCNN", "Standardized", "WideResNet"]
