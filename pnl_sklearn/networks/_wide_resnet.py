"""Wide residual network for images."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ._cnn import _ConvolutionalNetwork


class WideResNet(_ConvolutionalNetwork):
    """Wide residual network for images of about 32 x 32 pixels; WRN-28-2 by default.

    A 3x3 convolution is followed by three groups of (depth - 4) / 6 pre-activation
    blocks. The groups have 16, 32 and 64 times `widen` channels. The second and the
    third group each halve the image size.

    Parameters
    ----------
    image_shape : tuple of int
        (n_channels, height, width).
    n_classes : int
        Number of classes.
    depth : int, default=28
        Number of layers: 4 plus a multiple of 6.
    widen : int, default=2
        Factor of the number of channels.
    dropout : float, default=0.0
        Probability that an input of the second convolution of a block is zeroed in
        training.

    Raises
    ------
    ValueError
        If `depth` is not 4 plus a positive multiple of 6.

    References
    ----------
    S. Zagoruyko and N. Komodakis, "Wide Residual Networks", BMVC 2016. LeakyReLU(0.1)
    is that of A. Oliver et al., "Realistic Evaluation of Deep Semi-Supervised Learning
    Algorithms", NeurIPS 2018.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.networks import WideResNet
    >>> network = WideResNet(image_shape=(3, 32, 32), n_classes=3)
    >>> network(torch.rand(8, 3, 32, 32)).shape
    torch.Size([8, 3])
    """

    capturable: ClassVar[bool] = True

    def __init__(self, image_shape, n_classes, depth=28, widen=2, dropout=0.0):
        super().__init__()
        n_blocks, remainder = divmod(depth - 4, 6)
        if n_blocks < 1 or remainder:
            raise ValueError(
                f"depth must be 10, 16, 22, 28, ... (4 plus a multiple of 6), got "
                f"{depth!r}."
            )
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
    """Pre-activation residual block of two 3x3 convolutions."""

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
        activated = self.activation(x)
        # As in the authors' code, the input of a convolution in the shortcut is
        # activated.
        skipped = x if self.shortcut is None else self.shortcut(activated)
        return skipped + self.residual(activated)


def _convolution(n_in: int, n_out: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that divides the image size by `stride`."""
    convolution = nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, a=0.1, mode="fan_out")
    return convolution
