"""Convolutional networks for images."""

from typing import ClassVar

import torch
from torch import Tensor, nn


class _ConvolutionalNetwork(nn.Module):
    """Convolutional layers `body`, global average pooling, and last layer `head`."""

    body: nn.Module
    head: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """Map images to the inputs of the last layer.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, n_channels, height, width)
            A batch of images.

        Returns
        -------
        features : Tensor of shape (n_samples, n_features)
            Outputs of the convolutional layers, averaged over the positions.
        """
        x = self.body(x.contiguous(memory_format=torch.channels_last))
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images to logits.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, n_channels, height, width)
            A batch of images.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes)
            Logits of the classes.
        """
        return self.head(self.features(x))


class SmallCNN(_ConvolutionalNetwork):
    """Small convolutional network for images of any size.

    Each stage is a 3x3 convolution, batch normalization and LeakyReLU(0.1), with 2x2
    max pooling between stages. Global average pooling and a linear layer follow. There
    are three stages for images smaller than 16 pixels, and four for larger images.

    Parameters
    ----------
    image_shape : tuple of int
        (n_channels, height, width).
    n_classes : int
        Number of classes.
    width : int, default=128
        Number of channels of the last stage. The number doubles from stage to stage.
    dropout : float, default=0.0
        Probability that an input of the last layer is zeroed in training.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.networks import SmallCNN
    >>> network = SmallCNN(image_shape=(1, 8, 8), n_classes=3)
    >>> network(torch.rand(8, 1, 8, 8)).shape
    torch.Size([8, 3])
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
            pool = stage < n_stages - 1 and size > 1
            layers += _convolution_block(convolution, pool)
            size //= 1 + pool
            n_in = n_out
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, n_classes))
        # This memory format is faster on CPUs, also for small images.
        self.to(memory_format=torch.channels_last)


class CNN13(_ConvolutionalNetwork):
    """13-layer network that is common in semi-supervised image classification.

    It has three stages of three convolutions, listed in the table. Each convolution has
    weight normalization, batch normalization and LeakyReLU(0.1). 2x2 max pooling and
    dropout separate the stages. Global average pooling and a linear layer follow.

    ===== ============= ===========================================
    Stage Channels      Kernels
    ===== ============= ===========================================
    1     128, 128, 128 3x3
    2     256, 256, 256 3x3
    3     512, 256, 128 3x3 without padding, then 1x1 and 1x1
    ===== ============= ===========================================

    Parameters
    ----------
    image_shape : tuple of int
        (n_channels, height, width). Height and width are at least 12.
    n_classes : int
        Number of classes.
    dropout : float, default=0.5
        Probability that an output of the first or the second stage is zeroed in
        training.
    noise : float, default=0.0
        Standard deviation of Gaussian noise that is added to the standardized inputs in
        training. The reference below uses 0.15.
    second_head : bool, default=False
        Whether the network has two last layers and returns the logits of both in
        training. The second one is trained by the consistency loss. Predictions use the
        first one. The mean squared difference between both, times 0.01, is added to the
        loss.

    Raises
    ------
    ValueError
        If the images are smaller than 12 x 12 pixels.

    References
    ----------
    A. Tarvainen and H. Valpola, "Mean teachers are better role models", NIPS 2017,
    Table 5. Weight normalization: T. Salimans and D. Kingma, NIPS 2016.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.networks import CNN13
    >>> network = CNN13(image_shape=(3, 32, 32), n_classes=3)
    >>> network(torch.rand(8, 3, 32, 32)).shape
    torch.Size([8, 3])
    """

    capturable: ClassVar[bool] = True

    def __init__(
        self, image_shape, n_classes, dropout=0.5, noise=0.0, second_head=False
    ):
        super().__init__()
        if min(image_shape[1:]) < 12:
            raise ValueError(
                "The 13-layer network needs images of at least 12 pixels a side, got "
                f"{image_shape[1]} x {image_shape[2]}. Use module='cnn'."
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
                pool = stage < 2 and i == 2
                layers += _convolution_block(convolution, pool)
                n_in = n_out
            if stage < 2:
                layers.append(nn.Dropout(dropout))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(n_in, n_classes)
        self.second_head = nn.Linear(n_in, n_classes) if second_head else None
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images to logits.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, n_channels, height, width)
            A batch of images.

        Returns
        -------
        logits : Tensor of shape (n_samples, n_classes), or a pair of them
            Logits of the classes. If `second_head` is True, both logits are returned in
            training.
        """
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        features = self.features(x)
        if self.training and self.second_head is not None:
            return self.head(features), self.second_head(features)
        return self.head(features)


def _convolution_block(convolution: nn.Conv2d, pool: bool) -> list[nn.Module]:
    """Return a convolution, batch normalization, optional pooling, and LeakyReLU.

    Pooling is done before the activation, which is then faster. The result is the same,
    since the activation is increasing.
    """
    normalization = nn.BatchNorm2d(convolution.out_channels)
    pooling = [nn.MaxPool2d(2)] if pool else []
    return [convolution, normalization, *pooling, nn.LeakyReLU(0.1, inplace=True)]


class _WeightNormConv2d(nn.Conv2d):
    """Convolution with weight normalization: separate norm and direction of filters.

    torch's own weight normalization is a parametrization, which cannot be pickled.

    References
    ----------
    T. Salimans and D. Kingma, "Weight Normalization", NIPS 2016.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.length = nn.Parameter(self.weight.detach().flatten(1).norm(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.length / self.weight.flatten(1).norm(dim=1)
        return self._conv_forward(x, self.weight * scale.view(-1, 1, 1, 1), self.bias)
