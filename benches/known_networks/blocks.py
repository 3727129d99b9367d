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
from .restormer import Attention


class XCA(nn.Module):
    """XCiT's cross-covariance attention (El-Nouby et al., NeurIPS 2021, Eq. 3) on tokens (N,
    positions, C); the arguments and names are the authors'.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.attn_drop, self.proj_drop = nn.Dropout(attn_drop), nn.Dropout(proj_drop)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = (
            self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 4, 1)
        )  # (N, H, E, S)
        key = key if mask is None else key * mask
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT * self.temperature
        attended = self.attn_drop(scores.softmax(-1)) @ value
        output: Tensor = self.proj_drop(self.proj(attended.flatten(1, 2).mT))
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


def _non_local() -> nn.Module:
    return NONLocalBlock2D(64, sub_sample=False, bn_layer=False)


BLOCKS = (
    Block("mmcv NonLocal2d", _mmcv, 64, has_map=True),
    Block("NONLocalBlock2D", _non_local, 64, has_map=True),
    Block("EfficientViT LiteMLA", lambda: LiteMLA(64, 64), 64),
    Block("SANA", _sana, 128, tokens=True),
    Block("SANA multiscale", _sana_multiscale, 64),
    Block("denoising-diffusion LinearAttention", lambda: LinearAttention(64), 64),
    Block("Restormer MDTA", lambda: Attention(48, 1, False), 48),
    Block("XCiT XCA", lambda: XCA(128, 8), 128, tokens=True),
)
