"""The U-Net of denoising diffusion models (Ho et al., NeurIPS 2020), with linear attention at every
level.

As in the widespread implementation in PyTorch: two residual blocks and an attention at each level,
softmax attention at the lowest. 32 channels where papers have 64 or 128.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (32, 64, 128, 256)
HEADS, HEAD_WIDTH, MEMORIES = 4, 32, 4


class RMSNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.g * x.shape[1] ** 0.5


class ResidualBlock(nn.Module):
    """Two convolutions, the first scaled and shifted by the time step."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.time = nn.Linear(time_width, 2 * outputs)
        self.first, self.second = (
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.norm1, self.norm2 = RMSNorm(outputs), RMSNorm(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(F.silu(time))[..., None, None].chunk(2, 1)
        y = F.silu(self.norm1(self.first(x)) * (scale + 1) + shift)
        shortcut: Tensor = self.shortcut(x)
        return F.silu(self.norm2(self.second(y))) + shortcut


class LinearAttention(nn.Module):
    """Softmax of k over positions and memory keys, of q over channels; the arguments and names are
    those of denoising-diffusion-pytorch.
    """

    query_axis = 2
    """Of the softmax of q (N, H, E, S)."""

    def __init__(
        self,
        dim: int,
        heads: int = HEADS,
        dim_head: int = HEAD_WIDTH,
        num_mem_kv: int = MEMORIES,
    ) -> None:
        super().__init__()
        self.heads, self.scale = heads, dim_head**-0.5
        self.norm = RMSNorm(dim)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, dim_head, num_mem_kv))
        self.to_qkv = nn.Conv2d(dim, 3 * heads * dim_head, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * dim_head, dim, 1), RMSNorm(dim))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x)).flatten(2).chunk(3, 1)
        query, key, value = (part.unflatten(1, (self.heads, -1)) for part in qkv)  # (N, H, E, S)
        memory_key, memory_value = self.mem_kv[:, None].expand(-1, len(x), -1, -1, -1)
        key, value = torch.cat([memory_key, key], 3), torch.cat([memory_value, value], 3)
        context = key.softmax(3) @ value.mT  # (N, H, E, E)
        attended = context.mT @ (query.softmax(self.query_axis) * self.scale)
        output: Tensor = self.to_out(attended.flatten(1, 2).unflatten(2, x.shape[2:]))
        return output


class SoftmaxAttention(nn.Module):
    """Softmax attention, fused: at the lowest level only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)
        self.to_qkv = nn.Conv2d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.to_out = nn.Conv2d(HEADS * HEAD_WIDTH, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x)).flatten(2).chunk(3, 1)
        query, key, value = (part.unflatten(1, (HEADS, -1)).mT for part in qkv)
        attended = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.to_out(attended.mT.flatten(1, 2).unflatten(2, x.shape[2:]))
        return output


class Level(nn.Module):
    """Two residual blocks, and attention added to the second's result."""

    def __init__(
        self, inputs: tuple[int, int], outputs: int, time_width: int, attention: nn.Module
    ) -> None:
        super().__init__()
        self.block1 = ResidualBlock(inputs[0], outputs, time_width)
        self.block2 = ResidualBlock(outputs + inputs[1], outputs, time_width)
        self.attention = attention

    def forward(
        self, x: Tensor, time: Tensor, skips: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        if skips:
            x = torch.cat([x, skips[1]], 1)
        between = self.block1(x, time)
        x = self.block2(torch.cat([between, skips[0]], 1) if skips else between, time)
        return between, x + self.attention(x)


class DiffusionUNet(nn.Module):
    """(N, 1, H, W) -> the same shape; sides divisible by 8."""

    def __init__(self) -> None:
        # the time step goes through a network of its own, whose result each block is given
        super().__init__()
        time_width = 4 * WIDTHS[0]
        self.time = nn.Sequential(
            nn.Linear(WIDTHS[0], time_width), nn.GELU(), nn.Linear(time_width, time_width)
        )
        self.first = nn.Conv2d(1, WIDTHS[0], 7, padding=3)

        # channels of each level and of the next; the last level keeps its size
        pairs = list(zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False))
        self.down = nn.ModuleList(
            Level((w, 0), w, time_width, LinearAttention(w)) for w, _ in pairs
        )
        self.downsample = nn.ModuleList(
            nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * inputs, outputs, 1))
            for inputs, outputs in pairs[:-1]
        ).append(nn.Conv2d(*pairs[-1], 3, padding=1))

        # upwards each level also takes what both of its blocks gave on the way down
        self.middle = Level((WIDTHS[-1], 0), WIDTHS[-1], time_width, SoftmaxAttention(WIDTHS[-1]))
        self.up = nn.ModuleList(
            Level((wide + narrow, narrow), wide, time_width, LinearAttention(wide))
            for narrow, wide in pairs[::-1]
        )
        self.upsample = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1))
            for narrow, wide in pairs[:0:-1]
        ).append(nn.Conv2d(*pairs[0][::-1], 3, padding=1))
        self.last = ResidualBlock(2 * WIDTHS[0], WIDTHS[0], time_width)
        self.to_image = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        # step 0 as sines and cosines: the network is timed, not used
        half = WIDTHS[0] // 2
        step = x.new_zeros(len(x), 1) * torch.logspace(0, -4, half, device=x.device, dtype=x.dtype)
        time = self.time(torch.cat([step.sin(), step.cos()], 1))

        # both blocks of each level leave a skip, taken in the other order on the way up
        x = first = self.first(x)
        skips: list[tuple[Tensor, Tensor]] = []
        for level, downsample in zip(self.down, self.downsample, strict=True):
            skips.append(level(x, time))
            x = downsample(skips[-1][1])
        x = self.middle(x, time)[1]
        for level, upsample in zip(self.up, self.upsample, strict=True):
            x = upsample(level(x, time, skips.pop())[1])
        image: Tensor = self.to_image(self.last(torch.cat([x, first], 1), time))
        return image
