"""The U-Net family of the paper: AEANet, GVTNet and the plain U-Net.

The three share a pre-activation U-Net of depth 3 with widths 32, 64 and 128. They differ in the
block at its bottom: augmented equivariant attention (AEANet), attention within the image (GVTNet),
a residual block (U-Net). As in the paper's implementation, convolutions have no bias and start
Glorot-uniform, and batch norm has eps 1.001e-5 and momentum 0.003.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aea_kernels as aea
from aeanet.networks.base import Network, check_images
from aeanet.networks.layers import (
    Down,
    ResidualBlock,
    Up,
    activate,
    batch_norm,
    conv,
    to_channels_last,
)

WIDTHS = (32, 64, 128)


class UShape(Network):
    """The U-Net that the three networks share. `bottom` is its lowest block, (N, 128, H / 4, W / 4)
    -> the same shape.

    Input and output are grey images (N, 1, H, W) of any size. If a side is no multiple of 4, the
    last row or column is repeated, and the result is cut back.

    With `residual` the network learns what to add to the image, at first nothing, instead of the
    image (as VDSR does, Kim et al. 2016). This is not in the paper; it makes short trainings much
    better.
    """

    def __init__(self, bottom: nn.Module, config: dict[str, Any], *, residual: bool) -> None:
        super().__init__(config | ({"residual": True} if residual else {}))
        self.residual = residual

        # skips are concatenated, so each decoder takes twice the channels of its level
        narrow, middle, wide = WIDTHS
        self.first = conv(1, narrow, 3)
        self.encoder1 = ResidualBlock(narrow, narrow)
        self.down1 = Down(narrow, middle)
        self.encoder2 = ResidualBlock(middle, middle)
        self.down2 = Down(middle, wide)
        self.bottom = bottom
        self.up2 = Up(wide, middle)
        self.decoder2 = ResidualBlock(2 * middle, middle)
        self.up1 = Up(middle, narrow)
        self.decoder1 = ResidualBlock(2 * narrow, narrow)
        self.norm = batch_norm(narrow)
        self.last = conv(narrow, 1, 1)

        # Glorot as in the paper's implementation; with `residual` it begins as the identity
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
        if residual:
            nn.init.zeros_(self.last.weight)
        to_channels_last(self)

    def forward(self, image: Tensor) -> Tensor:
        # the sides are halved twice, so they are padded to multiples of 4
        check_images(image)
        height, width = image.shape[2:]
        x = image
        exporting = torch.compiler.is_exporting()  # an exported network takes every size
        if exporting or height % 4 or width % 4:
            x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")

        # skip 1 has all positions, skip 2 a quarter of them, the bottom a sixteenth
        skip1 = self.encoder1(self.first(x))
        skip2 = self.encoder2(self.down1(skip1))
        x = self.bottom(self.down2(skip2))
        x = self.decoder2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.decoder1(torch.cat([self.up1(x), skip1], dim=1))

        # what was padded is cut off; a network with `residual` has computed a difference
        result = self.last(activate(self.norm, x))[:, :, :height, :width]
        return image + result if self.residual else result


class AEANet(UShape):
    """The paper's network: 572,480 parameters with 64 references.

    In training mode, each of the first floor(N / 2) images of a batch attends to itself and the
    references (Eq. 4), the others attend to one another (Eq. 5). In evaluation mode each image
    attends to itself and the references.

    Args:
        references: number of learnable references, 128 numbers each, which all images share.
        batch_aware: whether the second half of a training batch attends to one another.
        residual: learn what to add to the image instead of the image; not in the paper.

    The network takes grey images (N, 1, H, W) of any size, 0 black and 1 white, and gives the same
    shape.
    """

    bottom: aea.AugmentedAttention

    def __init__(
        self, references: int = 64, batch_aware: bool = True, residual: bool = False
    ) -> None:
        bottom = aea.AugmentedAttention(
            WIDTHS[-1], heads=2, references=references, batch_aware=batch_aware
        )
        config = {"name": "aeanet", "references": references, "batch_aware": batch_aware}
        super().__init__(bottom, config, residual=residual)


class GVTNet(UShape):
    """The predecessor of AEANet, 564,288 parameters: each image attends to itself alone, also in
    training.
    """

    def __init__(self, residual: bool = False) -> None:
        bottom = aea.AugmentedAttention(WIDTHS[-1], heads=2, references=0, batch_aware=False)
        super().__init__(bottom, {"name": "gvtnet"}, residual=residual)


class UNet(UShape):
    """A residual block at the bottom instead of attention: 793,408 parameters."""

    def __init__(self, residual: bool = False) -> None:
        super().__init__(ResidualBlock(WIDTHS[-1], WIDTHS[-1]), {"name": "unet"}, residual=residual)
