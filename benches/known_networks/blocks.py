"""One block of each kind that `aea_kernels.convert` replaces with the same results, as its library
has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import foreign
from .diffusion import LinearAttention
from .efficientvit import LiteMLA
from .nonlocal_block import NONLocalBlock2D
from .restormer import MDTA


class XCA(nn.Module):
    """XCiT's cross-covariance attention (El-Nouby et al., NeurIPS 2021, Eq. 3) on tokens (N,
    positions, C).
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 4, 1)
        )  # (N, H, E, S)
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT * self.temperature
        output: Tensor = self.proj((scores.softmax(-1) @ value).flatten(1, 2).mT)
        return output


@dataclass(frozen=True)
class Block:
    """One block and its input: a map of 1 image, or tokens."""

    name: str
    build: Callable[[], nn.Module]
    channels: int
    tokens: bool = False
    has_map: bool = False
    """It forms the map of scores, of positions by positions."""

    def shape(self, side: int) -> tuple[int, ...]:
        return (1, side * side, self.channels) if self.tokens else (1, self.channels, side, side)


def _mmcv() -> nn.Module:
    block: nn.Module = foreign("mmcv.cnn").NonLocal2d(64, mode="dot_product")
    return block


def _sana() -> nn.Module:
    module = foreign("diffusers.models.attention_processor")
    block: nn.Module = module.Attention(
        128, heads=4, dim_head=32, processor=module.SanaLinearAttnProcessor2_0()
    )
    return block


def _sana_multiscale() -> nn.Module:
    module = foreign("diffusers.models.attention_processor")
    block: nn.Module = module.SanaMultiscaleLinearAttention(64, 64, attention_head_dim=32)
    return block


BLOCKS = (
    Block("mmcv NonLocal2d", _mmcv, 64, has_map=True),
    Block("NONLocalBlock2D", lambda: NONLocalBlock2D(64), 64, has_map=True),
    Block("EfficientViT LiteMLA", lambda: LiteMLA(64), 64),
    Block("SANA", _sana, 128, tokens=True),
    Block("SANA multiscale", _sana_multiscale, 64),
    Block("denoising-diffusion LinearAttention", lambda: LinearAttention(64), 64),
    Block("Restormer MDTA", lambda: MDTA(48, 1), 48),
    Block("XCiT XCA", lambda: XCA(128, 8), 128, tokens=True),
)
