"""Convolutional networks for images."""

from typing import ClassVar

import torch
from torch import Tensor, nn


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

    capturable: ClassVar[bool] = True

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

    capturable: ClassVar[bool] = True

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
