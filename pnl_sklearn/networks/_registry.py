"""Networks that `module` names."""

from torch import nn

from ._cnn import CNN13, SmallCNN
from ._mlp import MLP
from ._wide_resnet import WideResNet

MODULES: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": SmallCNN,
    "cnn13": CNN13,
    "wrn28-2": WideResNet,
}
