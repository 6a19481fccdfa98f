"""Networks that `module` names, and the standardization in front of them."""

import torch
from torch import Tensor, nn

from ._dropout import ReLUDropout


class MLP(nn.Module):
    """Multilayer perceptron for tables: linear layers, ReLU and dropout.

    One wide hidden layer by default: with two of 128 the mean error on ten tables was
    higher by 1.0 points (standard error 0.3, five label draws each). It has no batch
    normalization: with ten labels that doubled the error on breast cancer (12.3 against
    6.3 %, mean of ten label draws, two hidden layers).

    Parameters
    ----------
    n_features : int
        Number of columns.
    n_classes : int
        Number of classes.
    hidden : int, default=512
        Width of each hidden layer.
    n_layers : int, default=1
        Number of hidden layers.
    dropout : float, default=0.2
        Share of hidden units that are zeroed in training.
    """

    def __init__(self, n_features, n_classes, hidden=512, n_layers=1, dropout=0.2):
        super().__init__()
        layers: list[nn.Module] = []
        for width in [n_features] + [hidden] * (n_layers - 1):
            layers += [nn.Linear(width, hidden), ReLUDropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n, n_features) to logits (n, n_classes)."""
        return self.head(self.body(x.flatten(1)))


class _ConvolutionalNetwork(nn.Module):
    """Convolutions, `body`, whose mean over positions feeds the last layer, `head`."""

    body: nn.Module
    head: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """Map images to what the last layer sees, of shape (n, n_features)."""
        x = self.body(x.contiguous(memory_format=torch.channels_last))
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (n, channels, height, width) to logits (n, n_classes)."""
        return self.head(self.features(x))


class SmallCNN(_ConvolutionalNetwork):
    """Small convolutional network, with as many stages as the image size calls for.

    Each stage is a 3x3 convolution, batch normalization and LeakyReLU(0.1), with 2x2
    max pooling between stages. The mean over positions feeds the last layer. Images of
    less than 16 pixels a side get three stages, larger ones four.

    Parameters
    ----------
    image_shape : tuple of int
        (channels, height, width).
    n_classes : int
        Number of classes.
    width : int, default=128
        Channels of the last stage; each earlier one has half as many as the next.
    dropout : float, default=0.0
        Share of features that are zeroed before the last layer in training.
    """

    def __init__(self, image_shape, n_classes, width=128, dropout=0.0):
        super().__init__()
        n_in, size = image_shape[0], min(image_shape[1:])
        n_stages = 3 if size < 16 else 4
        layers: list[nn.Module] = []
        for stage in range(n_stages):
            n_out = max(width // 2 ** (n_stages - 1 - stage), 1)
            convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
            pools = stage < n_stages - 1 and size > 1
            layers += _activated(convolution, pools)
            size //= 1 + pools
            n_in = n_out
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, n_classes))
        # 1.3 to 1.9 times as fast on CPUs, at the sizes of digits and MNIST.
        self.to(memory_format=torch.channels_last)


class CNN13(_ConvolutionalNetwork):
    """The 13-layer network of the paper and of most others on few labeled images.

    Three stages of three convolutions: 128, 128, 128 and 256, 256, 256 channels with
    3x3 kernels, then 512 without padding and 256 and 128 with 1x1 kernels. All have
    weight normalization, batch normalization and LeakyReLU(0.1); 2x2 max pooling and
    dropout stand between stages. The mean over positions feeds the last layer.

    Parameters
    ----------
    image_shape : tuple of int
        (channels, height, width), of at least 12 pixels a side.
    n_classes : int
        Number of classes.
    dropout : float, default=0.5
        Share of features that are zeroed after the first two stages in training.
    noise : float, default=0.0
        Standard deviation of Gaussian noise added to the inputs in training, in
        standard deviations of the inputs. The original has 0.15.
    second_head : bool, default=False
        In training, put out a pair: the logits, and those of a second last layer that
        learns what a companion teaches. A loss ties the two together, 0.01 times their
        mean squared difference; predictions are of the first.

    References
    ----------
    A. Tarvainen and H. Valpola, "Mean teachers are better role models", NIPS 2017,
    Table 5. Weight normalization: T. Salimans and D. Kingma, NIPS 2016.
    """

    def __init__(
        self, image_shape, n_classes, dropout=0.5, noise=0.0, second_head=False
    ):
        super().__init__()
        if min(image_shape[1:]) < 12:
            raise ValueError(
                "The 13-layer network needs images of at least 12 pixels a side, got "
                f"{image_shape[1]} x {image_shape[2]}. Take module='cnn'."
            )
        self.noise = noise
        layers: list[nn.Module] = []
        n_in = image_shape[0]
        for stage, widths in enumerate([(128,) * 3, (256,) * 3, (512, 256, 128)]):
            for i, n_out in enumerate(widths):
                size = 1 if stage == 2 and i else 3
                padding = 1 if stage < 2 else 0
                convolution = _WeightNormConv2d(
                    n_in, n_out, size, padding=padding, bias=False
                )
                layers += _activated(convolution, pools=stage < 2 and i == 2)
                n_in = n_out
            if stage < 2:
                layers.append(nn.Dropout(dropout))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(n_in, n_classes)
        self.second_head = nn.Linear(n_in, n_classes) if second_head else None
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (n, channels, height, width) to logits (n, n_classes)."""
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        features = self.features(x)
        if self.training and self.second_head is not None:
            return self.head(features), self.second_head(features)
        return self.head(features)


def _activated(convolution: nn.Conv2d, pools: bool) -> list[nn.Module]:
    """Batch normalization, 2x2 max pooling if wanted, and LeakyReLU(0.1) behind it.

    The activation is after the pooling, since it leaves the order of values: the
    outcome is the same to the bit, of a quarter of the work.
    """
    normalization = nn.BatchNorm2d(convolution.out_channels)
    pooling = [nn.MaxPool2d(2)] if pools else []
    return [convolution, normalization, *pooling, nn.LeakyReLU(0.1, inplace=True)]


class _WeightNormConv2d(nn.Conv2d):
    """Convolution whose filters have a direction and, apart from it, a length.

    torch's own weight normalization is a parametrization, which cannot be pickled.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.length = nn.Parameter(self.weight.detach().flatten(1).norm(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.length / self.weight.flatten(1).norm(dim=1)
        return self._conv_forward(x, self.weight * scale.view(-1, 1, 1, 1), self.bias)


class WideResNet(_ConvolutionalNetwork):
    """Wide residual network for images of about 32 pixels a side; 28-2 by default.

    A 3x3 convolution and three groups of (depth - 4) / 6 pre-activation blocks, with
    16, 32 and 64 times `widen` channels; the second and third halve the image.

    Parameters
    ----------
    image_shape : tuple of int
        (channels, height, width).
    n_classes : int
        Number of classes.
    depth : int, default=28
        Number of layers: 4 plus a multiple of 6.
    widen : int, default=2
        Factor of the channels.
    dropout : float, default=0.0
        Share of features that are zeroed between the convolutions of a block.

    References
    ----------
    S. Zagoruyko and N. Komodakis, "Wide Residual Networks", BMVC 2016. With
    LeakyReLU(0.1), as in A. Oliver et al., "Realistic Evaluation of Deep
    Semi-Supervised Learning Algorithms", NeurIPS 2018.
    """

    def __init__(self, image_shape, n_classes, depth=28, widen=2, dropout=0.0):
        super().__init__()
        n_blocks, rest = divmod(depth - 4, 6)
        if n_blocks < 1 or rest:
            raise ValueError(f"depth has to be 10, 16, 22, 28, ..., got {depth}.")
        n_in = 16
        layers: list[nn.Module] = [_convolution(image_shape[0], n_in)]
        for group in range(3):
            n_out = 16 * 2**group * widen
            for block in range(n_blocks):
                stride = 2 if group and not block else 1
                layers.append(_WideBlock(n_in, n_out, stride, dropout))
                n_in = n_out
        layers += [nn.BatchNorm2d(n_in), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(n_in, n_classes)
        self.to(memory_format=torch.channels_last)


class _WideBlock(nn.Module):
    """Two 3x3 convolutions, each after its normalization, added to their input."""

    def __init__(self, n_in: int, n_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(n_in), nn.LeakyReLU(0.1))
        self.residual = nn.Sequential(
            _convolution(n_in, n_out, stride=stride),
            nn.BatchNorm2d(n_out),
            nn.LeakyReLU(0.1),
            nn.Dropout(dropout),
            _convolution(n_out, n_out),
        )
        self.shortcut: nn.Module | None = None
        if n_in != n_out or stride != 1:
            self.shortcut = _convolution(n_in, n_out, size=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.activation(x)
        # Where the shape changes, the shortcut too starts from what is normalized.
        skipped = x if self.shortcut is None else self.shortcut(active)
        return skipped + self.residual(active)


def _convolution(n_in: int, n_out: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias that keeps the image size, or halves it."""
    convolution = nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, a=0.1, mode="fan_out")
    return convolution


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


MODULES: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": SmallCNN,
    "cnn13": CNN13,
    "wrn28-2": WideResNet,
}
