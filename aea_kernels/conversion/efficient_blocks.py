"""Blocks with a softmax of k over positions and of q over channels: `efficient_attention`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.dtypes import acc_dtype
from ..families import SoftmaxSummary, attend_softmax, summarize_softmax
from ..summary import count_like
from .map_blocks import MapBlock, Scale
from .replacing import ClassSwap, convolved, pointwise


class EfficientAttention(MapBlock):
    """The linear attention of denoising-diffusion U-Nets (lucidrains), with or without memory keys
    and a norm first.
    """

    def projected(self, x: Tensor) -> list[Scale]:
        norm = getattr(self, "norm", None)
        qkv = convolved(self.to_qkv, x if norm is None else self.normed(norm, x))
        query, key, value = (part.unflatten(1, (self.heads, -1)) for part in qkv.chunk(3, 1))
        return [(query, key, value)]

    def normed(self, norm: Any, x: Tensor) -> Tensor:
        return norm(x)

    def summary(self, query: Tensor, key: Tensor, value: Tensor) -> SoftmaxSummary:
        return summarize_softmax(key, value)

    def attend(self, query: Tensor, value: Tensor, keys: SoftmaxSummary) -> Tensor:
        if hasattr(self, "mem_kv"):  # (2, H, E, R)
            memory_key, memory_value = self.mem_kv.to(query.dtype).mT[:, None]
            keys = keys + summarize_softmax(memory_key, memory_value)
        return attend_softmax(query, keys, scale=self.scale)

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        return self.to_out(attended)


@dataclass(frozen=True)
class CountedSummary(SoftmaxSummary):
    """`SoftmaxSummary`, and of how many positions, ``count`` (B,)."""

    count: Tensor


class DividedEfficientAttention(EfficientAttention):
    """Earlier versions, which also divide the values by the number of positions."""

    def summary(self, query: Tensor, key: Tensor, value: Tensor) -> CountedSummary:
        keys = summarize_softmax(key, value)
        return CountedSummary(keys.sums, keys.maximum, count_like(keys.sums, key.shape[2]))

    def attend(self, query: Tensor, value: Tensor, keys: Any) -> Tensor:
        divided = keys.sums[..., :-1] / keys.count[:, None, None, None].clamp(min=1)
        sums = torch.cat([divided, keys.sums[..., -1:]], -1)
        return super().attend(query, value, SoftmaxSummary(sums, keys.maximum))


class UnitNormedEfficientAttention(EfficientAttention):
    """Where both norms are ``x / |x| * g * sqrt(C)`` over the C channels of a position.

    They are computed here, as PyTorch's norm over an axis that is not the innermost takes longer
    than the attention.
    """

    def normed(self, norm: Any, x: Tensor) -> Tensor:
        factor = norm.g * x.shape[1] ** 0.5
        wide = x.to(acc_dtype(x.dtype))
        squares = wide.square().sum(1, keepdim=True)
        inverse = squares.clamp(min=1e-24).rsqrt()  # as of `torch.nn.functional.normalize`
        return (wide * inverse * factor).to(torch.promote_types(x.dtype, factor.dtype))

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        conv, norm = self.to_out
        return self.normed(norm, convolved(conv, attended))


def swap_efficient(module: Any) -> list[ClassSwap]:
    pointwise("to_qkv", module.to_qkv)
    kinds = [EfficientAttention, DividedEfficientAttention]
    output = module.to_out
    if isinstance(output, nn.Sequential) and len(output) == 2:
        norms = getattr(module, "norm", None), output[1]
        if all(type(norm).__name__ == "RMSNorm" and hasattr(norm, "g") for norm in norms):
            kinds.insert(0, UnitNormedEfficientAttention)
    return [ClassSwap(module, kind) for kind in kinds]
