"""A U-Net on a quarter of the positions, for restoration out of the box: no norm, so grey levels
pass unchanged.

An LR image interpolated to the grid of HR holds no more than its own pixels, so a 2 x 2 block of it
becomes four channels of one position (`nn.PixelUnshuffle`) without loss, as in FFDNet (Zhang, Zuo &
Zhang 2018). The network then costs a quarter and sees twice as far. Without a norm, as in DRUNet
(Zhang et al. 2021), it can tell a noisy image from a clean one by the strength of its features.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aea_kernels as aea
from aeanet.errors import ModelError
from aeanet.networks.base import Network, check_images
from aeanet.networks.layers import to_channels_last

AttentionAt = Literal["none", "bottom", "all"]


class PlainBlock(nn.Module):
    """Conv3x3-ReLU-conv3x3 added to the input, at first the identity: (N, C, H, W) -> the same
    shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x), inplace=True)).add_(x)


KNOTS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""log2 of the magnifications between which scales and shifts are interpolated."""
_HIDDEN = 32  # features of the noise, from which its scales and shifts follow
_LEAST_NOISE = 0.001  # of the range: weaker noise counts as none


class ShuffledUNet(Network):
    """The network of the shipped model. It learns what to add to the image, at first nothing.

    It is told the magnification: interpolated noise at 4x looks like fine structure at 1x, and only
    that tells them apart. The channels of each level are scaled and shifted by numbers that are
    linear in log2 of the magnification between `KNOTS`. It is `magnification`, 2 where that is
    None, or, in training, that of each image in `scales`.

    With `told_noise` it is also told how strong and how smooth the noise is, since smooth noise
    looks like structure: to these scales and shifts are added others, from a network with one
    hidden layer, that depend on `noise` and the magnification. Where the noise is not known,
    nothing is added.

    Input and output are grey images (N, 1, H, W) of any size. If a side is no multiple of
    `unshuffle` times 2 ** (levels - 1), the last row or column is repeated, and the result is cut
    back.

    Args:
        widths: channels of each level, each at half the resolution of the one before.
        blocks: residual blocks of each level; all but the lowest have them on the way down and on
            the way up.
        unshuffle: side of the square of pixels that becomes the channels of one position.
        attention: "bottom" adds an attention block to the lowest level, "all" one to each level, on
            the way up.
        references: number of learnable references of each attention block.
        told_noise: whether it is told the noise.

    Attributes:
        scales: in training, the magnification of each image, (N,).

    Raises:
        ModelError: widths and blocks differ in length, or a value is out of its range.
    """

    flips = 4
    residual = True

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (2, 2, 2),
        unshuffle: int = 2,
        attention: AttentionAt = "none",
        references: int = 0,
        told_noise: bool = False,
    ) -> None:
        # the registry checks switches and whole numbers alone, so lists and words are checked here
        if len(widths) != len(blocks) or not widths:
            raise ModelError(
                f"widths are {list(widths)} and blocks {list(blocks)}, wanted as many of both."
            )
        if min(*widths, *blocks, unshuffle) < 1:
            raise ModelError(
                f"widths, blocks and unshuffle are {widths}, {blocks}, {unshuffle}: wanted 1 or "
                "more."
            )
        if attention not in get_args(AttentionAt):
            wanted = " or ".join(map(repr, get_args(AttentionAt)))
            raise ModelError(f"attention is {attention!r}, wanted {wanted}.")

        # the switch is named only where it is on, so models without it need not know of it
        config: dict[str, Any] = {
            "name": "shuffled",
            "widths": list(widths),
            "blocks": list(blocks),
            "unshuffle": unshuffle,
            "attention": attention,
            "references": references,
        }
        super().__init__(config | ({"told_noise": True} if told_noise else {}))
        self.told_noise = told_noise
        self.scales: Tensor | None = None

        # a padded side is a multiple of this, so that each level halves the sides exactly
        self.step = unshuffle * 2 ** (len(widths) - 1)
        self.unshuffle = nn.PixelUnshuffle(unshuffle)
        self.shuffle = nn.PixelShuffle(unshuffle)
        self.first = nn.Conv2d(unshuffle**2, widths[0], 3, padding=1)
        self.last = nn.Conv2d(widths[0], unshuffle**2, 3, padding=1)

        # scales and shifts of each level at the knots, and those that the noise adds: at first zero
        self.tables = nn.ParameterList(torch.zeros(len(KNOTS), 2 * width) for width in widths)
        if told_noise:
            self.noise_weight = nn.Parameter(torch.empty(5, _HIDDEN))
            self.noise_bias = nn.Parameter(torch.zeros(_HIDDEN))
            self.noise_tables = nn.ParameterList(torch.zeros(_HIDDEN, 2 * w) for w in widths)

        def level(index: int, *, with_attention: bool) -> nn.Sequential:
            width = widths[index]
            parts: list[nn.Module] = [PlainBlock(width) for _ in range(blocks[index])]
            if with_attention:
                # Each image attends to itself, in training as in prediction: a batch mixes noises
                # and magnifications.
                block = aea.AugmentedAttention(
                    width, heads=2, references=references, batch_aware=False
                )
                parts.insert(len(parts) // 2, block)
            return nn.Sequential(*parts)

        # the upper levels have blocks on both ways, attention only on the way up
        *upper, lowest = range(len(widths))
        self.encoders = nn.ModuleList(level(i, with_attention=False) for i in upper)
        self.downs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in upper)
        self.bottom = level(lowest, with_attention=attention != "none")
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2) for i in upper
        )
        self.decoders = nn.ModuleList(level(i, with_attention=attention == "all") for i in upper)
        self._initialise()
        to_channels_last(self)

    def _initialise(self) -> None:
        """He et al. (2015), but zero where a block or the network adds to its input: at first all
        are the identity.
        """
        # He for all convolutions, and a list of those whose result is added to something
        added: list[nn.Conv2d | nn.Linear] = [self.last]
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            if isinstance(module, PlainBlock):
                added.append(module.conv2)
            if isinstance(module, aea.AugmentedAttention):
                added.append(module.output)

        # last, since these were drawn too
        for layer in added:
            nn.init.zeros_(layer.weight)

        # a matrix from the right: what PyTorch calls fan_out are its inputs
        if self.told_noise:
            nn.init.kaiming_normal_(self.noise_weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        return image + self.shuffle(self.last(self.features(image)))[:, :, :height, :width]

    def features(self, image: Tensor) -> Tensor:
        """What the last layer is given, (N, widths[0], H', W'), a position for each square of
        `unshuffle` pixels of the padded image.
        """
        # one position for each square of pixels; the first scale and shift are of its level
        check_images(image)
        changes = self._scales_and_shifts(image)
        x = self.unshuffle(self.padded(image)).contiguous(memory_format=torch.channels_last)
        x = _modulated(self.first(x), changes[0])

        # Down: each encoder's result is added on the way up.
        skips = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(x)
            skips.append(x)
            x = _modulated(self.downs[level](x), changes[level + 1])
        x = self.bottom(x)
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            x = decoder(up(x).add_(skips.pop()))
        return x

    def padded(self, image: Tensor) -> Tensor:
        """The image with the last row and column repeated up to multiples of `step`."""
        height, width = image.shape[2:]
        if not height % self.step and not width % self.step:
            return image
        return F.pad(image, (0, -width % self.step, 0, -height % self.step), mode="replicate")

    def tell(self, scales: Tensor | None, noise: Tensor | None) -> None:
        self.scales, self.noise = scales, noise

    def _scales_and_shifts(self, image: Tensor) -> list[Tensor]:
        """What each level is scaled and shifted by, (N or 1, 2 C)."""
        # in training each image has a magnification of its own, in use the model has one for all
        if self.training and self.scales is not None:
            given = self.scales.to(image)
        else:
            given = image.new_tensor([self.magnification or 2.0])

        # linear interpolation as a product: hat functions of the knots, (N or 1, knots), by tables
        place = given.log2().clamp(KNOTS[0], KNOTS[-1])
        step = KNOTS[1] - KNOTS[0]
        weights = (1 - (place[:, None] - image.new_tensor(KNOTS)).abs() / step).clamp(min=0)
        changes = [weights @ table for table in self.tables]
        if not self.told_noise or self.noise is None:
            return changes

        # The numbers of the noise, each of about the size of one.
        fine, coarse, along, across = self.noise.to(image).unbind(1)
        numbers = [(sd + _LEAST_NOISE).log() + 3.5 for sd in (fine, coarse)]
        numbers += [4 * along - 1, 4 * across - 1, place - 1]
        known = torch.stack(torch.broadcast_tensors(*numbers), 1)
        told = known.isfinite().all(1, keepdim=True)
        hidden = F.relu(known.nan_to_num() @ self.noise_weight + self.noise_bias) * told
        return [
            change + hidden @ table
            for change, table in zip(changes, self.noise_tables, strict=True)
        ]


def _modulated(x: Tensor, change: Tensor) -> Tensor:
    """x (N, C, H, W) scaled and shifted by the numbers (N or 1, 2 C)."""
    scale, shift = change.to(x.dtype)[:, :, None, None].chunk(2, dim=1)
    return torch.addcmul(shift, x, 1 + scale)


def telling_noise(model: Network) -> ShuffledUNet:
    """A network that is told the noise and, at first, computes what `model` does.

    Raises:
        ModelError: another network than shuffled.
    """
    if not isinstance(model, ShuffledUNet):
        raise ModelError("only the network shuffled can be told the noise.")
    return _extended(model, told_noise=True)


def deepened(model: Network, blocks: Sequence[int]) -> ShuffledUNet:
    """A network with `blocks` residual blocks a level that computes what `model` does: those added
    are the identity.

    Raises:
        ModelError: another network, fewer blocks than before, or a model with attention, whose
            place in its level depends on their number.
    """
    if not isinstance(model, ShuffledUNet) or model.config["attention"] != "none":
        raise ModelError("only the network shuffled without attention can get more blocks.")
    before = model.config["blocks"]
    pairs = zip(blocks, before, strict=False)
    if len(blocks) != len(before) or any(new < old for new, old in pairs):
        raise ModelError(
            f"blocks are {list(blocks)}, wanted {len(before)} numbers, none below those of "
            f"{before}."
        )
    return _extended(model, blocks=list(blocks))


def _extended(model: ShuffledUNet, **changes: Any) -> ShuffledUNet:
    """A network with other options that has the weights of `model` where it has them."""
    options = {name: value for name, value in model.config.items() if name != "name"}
    extended = ShuffledUNet(**options | changes)
    extended.load_state_dict(extended.state_dict() | model.state_dict())
    extended.magnification = model.magnification
    return extended
