"""Blocks that attend with channels to channels: `channel_attention`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.dtypes import without_autocast
from ..families import ChannelSummary, channel_map, summarize_channels
from ..functional import apply_matrix
from .map_blocks import MapBlock, Scale
from .replacing import (
    ClassSwap,
    Converted,
    LeftAloneError,
    convolved,
    is_only,
    no_dropout,
    pointwise,
)


class TransposedAttention(MapBlock):
    """Restormer's multi-Dconv head transposed attention, MDTA (Zamir et al., CVPR 2022)."""

    def projected(self, x: Tensor) -> list[Scale]:
        qkv = self.qkv_dwconv(convolved(self.qkv, x))
        query, key, value = (part.unflatten(1, (self.num_heads, -1)) for part in qkv.chunk(3, 1))
        return [(query, key, value)]

    def summary(self, query: Tensor, key: Tensor, value: Tensor) -> ChannelSummary:
        return summarize_channels(query, key)

    def attend(self, query: Tensor, value: Tensor, keys: ChannelSummary) -> Tensor:
        """With the output projection: it and the maps of all heads are one matrix, applied once at
        each position.
        """
        weight = self.project_out.weight.flatten(1)
        with without_autocast(value.device):
            maps = channel_map(keys, self.temperature.flatten())  # (N, H, E, E)
            matrix = projected_maps(weight, maps)
        return apply_matrix(value.mT.flatten(1, 2).mT[:, None], matrix[:, None])

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        bias = self.project_out.bias
        return attended if bias is None else attended + bias.to(attended.dtype)[:, None, None]


class CrossCovariance(Converted):
    """XCiT's cross-covariance attention, XCA (El-Nouby et al., NeurIPS 2021): tokens (N, positions,
    C).
    """

    def compute(self, x: Tensor) -> Tensor:
        # queries and keys by heads, (N, H, positions, E); values of all heads stay side by side
        query, key, value = self.qkv(x).chunk(3, 2)
        heads = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in (query, key))

        # a plain output projection becomes part of the map
        plain = is_only(self.proj, nn.Linear)
        with without_autocast(x.device):
            maps = channel_map(summarize_channels(*heads), self.temperature.flatten())
            if plain:
                weight = self.proj.weight
            else:
                weight = torch.eye(value.shape[2], dtype=maps.dtype, device=maps.device)
            matrix = projected_maps(weight, maps).to(value.dtype).mT

        # values (N, positions, H * E) times one matrix an image, for all heads at once
        if plain and self.proj.bias is not None:
            y = torch.baddbmm(self.proj.bias, value, matrix)
        else:
            y = torch.bmm(value, matrix)
        y = y if plain else self.proj(y)
        return self.proj_drop(y) if hasattr(self, "proj_drop") else y


def projected_maps(weight: Tensor, maps: Tensor) -> Tensor:
    """The output projection (C, H * E) after the maps of all heads (N, H, E, E): one matrix an
    image, (N, C, H * E).
    """
    heads = weight.to(maps.dtype).unflatten(1, maps.shape[1:3]).transpose(0, 1)  # (H, C, E)
    return (heads @ maps).transpose(1, 2).flatten(2)


def swap_transposed(module: Any) -> list[ClassSwap]:
    conv = module.qkv_dwconv
    if not isinstance(conv, nn.Conv2d) or conv.stride != (1, 1):
        raise LeftAloneError("qkv_dwconv is no convolution without stride")
    pointwise("project_out", module.project_out)
    return [ClassSwap(module, TransposedAttention)]


def swap_cross_covariance(module: Any) -> list[ClassSwap]:
    no_dropout("attn_drop", getattr(module, "attn_drop", None))
    return [ClassSwap(module, CrossCovariance)]
