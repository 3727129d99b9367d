"""VDSR, EDSR and RCAN at the size of their input, as in the paper, which gives them LR on the grid
of HR.

The upsampling layers of EDSR and RCAN are left out, and so are their fixed shifts of the mean
colour.
"""

from torch import Tensor, nn

from aeanet.networks.base import Network, check_images
from aeanet.networks.layers import to_channels_last

WIDTH = 64
REDUCTION = 16  # of the channels within channel attention


class Residual(nn.Sequential):
    """Layers whose result is added to their input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)  # under autocast, the image keeps its wider type


class ChannelAttention(nn.Module):
    """Each channel times a weight in (0, 1), a function of the means of all channels: (N, 64, H, W)
    -> same shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(WIDTH, WIDTH // REDUCTION, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(WIDTH // REDUCTION, WIDTH, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)


def _conv(in_channels: int = WIDTH, out_channels: int = WIDTH, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)


class _Layers(Network):
    """A network that is a sequence of layers."""

    def __init__(self, name: str, *layers: nn.Module) -> None:
        super().__init__({"name": name})
        self.layers = nn.Sequential(*layers)
        to_channels_last(self)

    def forward(self, images: Tensor) -> Tensor:
        check_images(images)
        return self.layers(images)


class VDSR(_Layers):
    """Twenty 3x3 convolutions with ReLU between them, added to the input: 664,704 parameters.

    Kim, Lee & Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR
    2016. Initialised as theirs (He et al. 2015).
    """

    residual = True

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for channels in (*[WIDTH] * 18, 1):
            layers += [nn.ReLU(inplace=True), _conv(WIDTH, channels, bias=False)]
        super().__init__("vdsr", Residual(_conv(1, WIDTH, bias=False), *layers))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


class EDSR(_Layers):
    """Sixteen residual blocks without batch norm under a long skip: 1,219,841 parameters.

    Lim, Son, Kim, Nah & Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
    CVPRW 2017; their baseline model.
    """

    def __init__(self) -> None:
        blocks = [Residual(_conv(), nn.ReLU(inplace=True), _conv()) for _ in range(16)]
        super().__init__("edsr", _conv(1), Residual(*blocks, _conv()), _conv(WIDTH, 1))


class RCAN(_Layers):
    """Ten groups of twenty channel-attention blocks, skips around blocks, groups and all:
    15,294,625 parameters.

    Zhang, Li, Li, Wang, Zhong & Fu, "Image Super-Resolution Using Very Deep Residual Channel
    Attention Networks", ECCV 2018. Channel attention averages over the whole image, so there are no
    exact tiles for it.
    """

    def __init__(self) -> None:
        def block() -> Residual:
            return Residual(_conv(), nn.ReLU(inplace=True), _conv(), ChannelAttention())

        groups = [Residual(*(block() for _ in range(20)), _conv()) for _ in range(10)]
        super().__init__("rcan", _conv(1), Residual(*groups, _conv()), _conv(WIDTH, 1))
