"""Blocks whose scores are divided by their sum, queries and keys through ReLU, on several scales:
`relu_linear_attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..families import ReluSummary, attend_relu, summarize_relu
from .map_blocks import MapBlock, Scale
from .nonlocal_blocks import folded_output, folds
from .replacing import ClassSwap, LeftAloneError, convolved, over_channels, pointwise, project


class ReluBlock(MapBlock):
    """Queries, keys and values of several scales of a map."""

    def summary(self, query: Tensor, key: Tensor, value: Tensor) -> ReluSummary:
        return summarize_relu(key, value)

    def joined(self, summaries: list[ReluSummary]) -> ReluSummary:
        return ReluSummary(torch.cat([summary.sums for summary in summaries], 1))

    def split(self, summary: ReluSummary, scales: int) -> list[ReluSummary]:
        return [ReluSummary(sums) for sums in summary.sums.chunk(scales, 1)]

    def attend(self, query: Tensor, value: Tensor, keys: ReluSummary) -> Tensor:
        return attend_relu(query, keys, eps=self.eps)


def _by_heads(qkv: Tensor, width: int) -> Scale:
    """(N, H * 3 * E, *spatial), of each head its query, key and value, with E = `width`."""
    query, key, value = qkv.unflatten(1, (-1, 3, width)).unbind(2)
    return query, key, value


class LiteMLA(ReluBlock):
    """EfficientViT's multi-scale linear attention (Cai et al., ICCV 2023), as its authors and timm
    have it.
    """

    def projected(self, x: Tensor) -> list[Scale]:
        conv, *rest = [*self.qkv.children()] or [self.qkv]
        alone = all(isinstance(part, nn.Identity) for part in rest)
        qkv = convolved(conv if alone else self.qkv, x)
        maps = [qkv, *(convolved(aggregate, qkv) for aggregate in self.aggreg)]
        return [_by_heads(scale, self.dim) for scale in maps]

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        """In prediction the BN after the projection is part of it."""
        norm, act = getattr(self.proj, "norm", None), getattr(self.proj, "act", None)
        if folds(norm) and (act is None or isinstance(act, nn.Identity)):
            weight, bias = (t.to(attended.dtype) for t in folded_output(self.proj.conv, norm))
            return project(attended, weight, bias)
        return self.proj(attended)


class SanaMultiscale(ReluBlock):
    """The same in diffusers' DC autoencoder."""

    def projected(self, x: Tensor) -> list[Scale]:
        linear = (self.to_q, self.to_k, self.to_v)
        qkv = torch.cat([over_channels(layer, x) for layer in linear], 1)
        wider = [
            convolved(scale.proj_out, convolved(scale.proj_in, qkv))
            for scale in self.to_qkv_multiscale
        ]
        return [_by_heads(scale, self.attention_head_dim) for scale in (qkv, *wider)]

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        y, norm = over_channels(self.to_out, attended), self.norm_out
        y = norm(y.movedim(1, -1)).movedim(-1, 1) if self.norm_type == "rms_norm" else norm(y)
        return y + x if self.residual_connection else y


def swap_lite_mla(module: Any) -> list[ClassSwap]:
    _check_relu(module.kernel_func)
    pointwise("proj", getattr(module.proj, "conv", None))
    return [ClassSwap(module, LiteMLA)]


def swap_sana_multiscale(module: Any) -> list[ClassSwap]:
    processor = type(module.processor).__name__
    if processor != "SanaMultiscaleAttnProcessor2_0":
        raise LeftAloneError(f"its processor is {processor}")
    _check_relu(module.nonlinearity)
    return [ClassSwap(module, SanaMultiscale)]


def _check_relu(function: Any) -> None:
    if not isinstance(function, nn.ReLU):
        raise LeftAloneError(f"queries and keys go through {type(function).__name__}, not ReLU")
