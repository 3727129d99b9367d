"""Restormer (Zamir et al., CVPR 2022, arXiv:2111.09881): an image restoration network with channel
attention.

Layers of the paper; half its width (24 of 48) and one block for two or three.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, BLOCKS, HEADS, REFINEMENT, EXPANSION = 24, (2, 2, 2, 3), (1, 2, 4, 8), 2, 2.66


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Attention(nn.Module):
    """Attention of channels on channels, MDTA (Eq. 1); the arguments and names are the authors'."""

    map_axis = -1
    """Of the softmax of the map of channels on channels."""

    def __init__(self, dim: int, num_heads: int, bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=bias)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv_dwconv(self.qkv(x)).flatten(2).chunk(3, 1)
        query, key, value = (part.unflatten(1, (self.num_heads, -1)) for part in qkv)
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT * self.temperature
        attended = scores.softmax(self.map_axis) @ value
        output: Tensor = self.project_out(attended.flatten(1, 2).unflatten(2, x.shape[2:]))
        return output


class GDFN(nn.Module):
    """The gated feed-forward network (Eq. 2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = int(dim * EXPANSION)
        self.inward = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(
            2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False
        )
        self.outward = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, passed = self.depthwise(self.inward(x)).chunk(2, 1)
        output: Tensor = self.outward(F.gelu(gate) * passed)
        return output


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = ChannelNorm(dim), Attention(dim, heads, False)
        self.norm2, self.ffn = ChannelNorm(dim), GDFN(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


def _blocks(dim: int, heads: int, number: int) -> nn.Sequential:
    return nn.Sequential(*(Block(dim, heads) for _ in range(number)))


class Restormer(nn.Module):
    """(N, 1, H, W) -> the same shape; sides divisible by 8."""

    def __init__(self) -> None:
        super().__init__()
        widths = [WIDTH * 2**level for level in range(4)]
        self.first = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(
            _blocks(*level) for level in zip(widths, HEADS, BLOCKS, strict=True)
        )

        # half the size with twice the channels, and back; skips are joined and reduced again
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, w // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
            for w in widths[:-1]
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, 2 * w, 3, padding=1, bias=False), nn.PixelShuffle(2))
            for w in widths[:0:-1]
        )
        self.reduce = nn.ModuleList(
            nn.Conv2d(2 * w, w, 1, bias=False) for w in (widths[2], widths[1])
        )

        # at full size skip and decoder stay side by side, with the channels of both
        levels = (
            (widths[2], HEADS[2], BLOCKS[2]),
            (widths[1], HEADS[1], BLOCKS[1]),
            (widths[1], HEADS[0], BLOCKS[0]),
        )
        self.decoder = nn.ModuleList(_blocks(*level) for level in levels)
        self.refinement = _blocks(widths[1], HEADS[0], REFINEMENT)
        self.last = nn.Conv2d(widths[1], 1, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = self.encoder[0](self.first(image)), []
        for down, encoder in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(x)
            x = encoder(down(x))
        for level, (up, decoder) in enumerate(zip(self.up, self.decoder, strict=True)):
            x = torch.cat([up(x), skips.pop()], 1)
            if level < len(self.reduce):
                x = self.reduce[level](x)
            x = decoder(x)
        restored: Tensor = self.last(self.refinement(x))
        return restored + image
