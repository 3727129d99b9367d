"""Blocks of the other families of attention whose keys enter by a sum: `relu_linear_attention`,
`efficient_attention` and `channel_attention`.

Parameters are the original's own, and so are most modules; between them q, k and v are read where
they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.dtypes import acc_dtype, without_autocast
from ..families import (
    ChannelSummary,
    ReluSummary,
    SoftmaxSummary,
    attend_relu,
    attend_softmax,
    channel_map,
    summarize_channels,
    summarize_relu,
    summarize_softmax,
)
from ..functional import apply_matrix
from ..summary import count_like, sum_over_processes
from .nonlocal_blocks import folded_output, folds
from .replacing import (
    ClassSwap,
    Converted,
    LeftAloneError,
    as_map,
    convolved,
    is_only,
    over_channels,
    pointwise,
    project,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def reach_of_convolutions(module: nn.Module) -> int:
    """The sum over all convolutions without stride in a module: of parallel ones an upper bound."""
    convs = [
        part for part in module.modules() if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    return sum(conv.dilation[-1] * (conv.kernel_size[-1] - 1) // 2 for conv in convs)


class MapBlock(Converted):
    """A block on feature maps (N, C, *spatial), whose sums over positions also add over the tiles
    of an image.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Other arguments go to the original's forward."""
        if args or kwargs:
            return super().forward(x, *args, **kwargs)
        query, key, value = (part.flatten(3).mT for part in self.projected(x))
        keys = (
            self.cast_keys(query) if self._attends_elsewhere() else self.summary(query, key, value)
        )
        return self.finish(as_map(self.attend(query, value, keys), x), x)

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> Any:
        """The keys of x (N, C, *spatial), or of the rows and columns `core` of it: what adds over
        tiles.
        """
        projected = self.projected(x)
        if core is not None:
            projected = tuple(part[..., core[0], core[1]] for part in projected)
        return self.summary(*(part.flatten(3).mT for part in projected))

    @property
    def reach(self) -> int:
        """How many positions in each direction its convolutions look."""
        return reach_of_convolutions(self)

    def projected(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, (N, H, E, *spatial) each."""
        raise NotImplementedError

    def summary(self, query: Tensor, key: Tensor, value: Tensor) -> Any:
        raise NotImplementedError

    def attend(self, query: Tensor, value: Tensor, keys: Any) -> Tensor:
        raise NotImplementedError

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        """What comes after the attention, (N, H * D, *spatial) -> the block's result."""
        raise NotImplementedError


# ---- divided by the sum of the scores, queries and keys through ReLU -----------------------------


class ReluBlock(Converted):
    """Queries, keys and values of several scales of a map: each scale has heads of its own and is
    read where it is.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Other arguments go to the original's forward."""
        if args or kwargs:
            return super().forward(x, *args, **kwargs)
        this: Any = self
        scales = self.scales(x)
        keys = (
            self.cast_keys(x).sums.chunk(len(scales), 1)
            if self._attends_elsewhere()
            else [None] * len(scales)
        )
        attended = []
        for (query, key, value), sums in zip(scales, keys, strict=True):
            summary = summarize_relu(key, value) if sums is None else ReluSummary(sums)
            attended.append(as_map(attend_relu(query, summary, eps=this.eps), x))
        return self.finish(torch.cat(attended, 1), x)

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> ReluSummary:
        """The keys of x (N, C, H, W), or of the rows and columns `core` of it: what adds over
        tiles.
        """
        scales = self.scales(x, core)
        return ReluSummary(
            torch.cat([summarize_relu(key, value).sums for _, key, value in scales], 1)
        )

    def scales(
        self, x: Tensor, core: tuple[slice, slice] | None = None
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Queries, keys and values, (N, H, positions, E) each, at every scale of the map or of its
        part `core`.
        """
        width = self.width
        parts = []
        for qkv in self.projected(x):
            inside = qkv if core is None else qkv[(..., *core)]
            query, key, value = inside.flatten(2).unflatten(1, (-1, 3, width)).unbind(2)
            parts.append((query.mT, key.mT, value.mT))
        return parts

    @property
    def width(self) -> int:
        """E, the channels of a head."""
        raise NotImplementedError

    @property
    def reach(self) -> int:
        """How many positions in each direction its convolutions look."""
        return reach_of_convolutions(self)

    def projected(self, x: Tensor) -> list[Tensor]:
        """Query, key and value of each head together, (N, H * 3 * E, H, W), at every scale."""
        raise NotImplementedError

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        """What comes after the attention."""
        raise NotImplementedError


class LiteMLA(ReluBlock):
    """EfficientViT's multi-scale linear attention (Cai et al., ICCV 2023), as its authors and timm
    have it.
    """

    @property
    def width(self) -> int:
        this: Any = self
        return this.dim

    def projected(self, x: Tensor) -> list[Tensor]:
        this: Any = self
        conv, *rest = [*this.qkv.children()] or [this.qkv]
        alone = all(isinstance(part, nn.Identity) for part in rest)
        qkv = convolved(conv if alone else this.qkv, x)
        return [qkv, *(convolved(aggregate, qkv) for aggregate in this.aggreg)]

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        """In prediction the BN after the projection is part of it."""
        this: Any = self
        norm, act = getattr(this.proj, "norm", None), getattr(this.proj, "act", None)
        if folds(norm) and (act is None or isinstance(act, nn.Identity)):
            weight, bias = (t.to(attended.dtype) for t in folded_output(this.proj.conv, norm))
            return project(attended, weight, bias)
        return this.proj(attended)


class SanaMultiscale(ReluBlock):
    """The same in diffusers' DC autoencoder."""

    @property
    def width(self) -> int:
        this: Any = self
        return this.attention_head_dim

    def projected(self, x: Tensor) -> list[Tensor]:
        this: Any = self
        qkv = torch.cat(
            [over_channels(linear, x) for linear in (this.to_q, this.to_k, this.to_v)], 1
        )
        scales = this.to_qkv_multiscale
        return [
            qkv,
            *(convolved(scale.proj_out, convolved(scale.proj_in, qkv)) for scale in scales),
        ]

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        this: Any = self
        y, norm = over_channels(this.to_out, attended), this.norm_out
        y = norm(y.movedim(1, -1)).movedim(-1, 1) if this.norm_type == "rms_norm" else norm(y)
        return y + x if this.residual_connection else y


def swap_lite_mla(module: Any) -> list[ClassSwap]:
    return _swap_relu(module, module.kernel_func, LiteMLA)


def swap_sana_multiscale(module: Any) -> list[ClassSwap]:
    processor = type(module.processor).__name__
    if processor != "SanaMultiscaleAttnProcessor2_0":
        raise LeftAloneError(f"its processor is {processor}")
    return _swap_relu(module, module.nonlinearity, SanaMultiscale)


def _swap_relu(module: Any, function: Any, replacement: type[ReluBlock]) -> list[ClassSwap]:
    if not isinstance(function, nn.ReLU):
        raise LeftAloneError(f"queries and keys go through {type(function).__name__}, not ReLU")
    if replacement is LiteMLA:
        pointwise("proj", getattr(module.proj, "conv", None))
    return [ClassSwap(module, replacement)]


# ---- softmax of k over positions, of q over channels ---------------------------------------------


class EfficientAttention(MapBlock):
    """The linear attention of denoising-diffusion U-Nets (lucidrains), with or without memory keys
    and a norm first.
    """

    def projected(self, x: Tensor) -> tuple[Tensor, ...]:
        this: Any = self
        norm = getattr(this, "norm", None)
        qkv = convolved(this.to_qkv, x if norm is None else self.normed(norm, x))
        return tuple(part.unflatten(1, (this.heads, -1)) for part in qkv.chunk(3, 1))

    def normed(self, norm: Any, x: Tensor) -> Tensor:
        y: Tensor = norm(x)
        return y

    def summary(self, query: Tensor, key: Tensor, value: Tensor) -> SoftmaxSummary:
        return summarize_softmax(key, value)

    def attend(self, query: Tensor, value: Tensor, keys: SoftmaxSummary) -> Tensor:
        this: Any = self
        if hasattr(this, "mem_kv"):  # (2, H, E, R)
            key, value = this.mem_kv.to(query.dtype).mT[:, None]
            keys = keys + summarize_softmax(key, value)
        return attend_softmax(query, keys, scale=this.scale)

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        this: Any = self
        return this.to_out(attended)


@dataclass(frozen=True)
class DividedSummary(SoftmaxSummary):
    """`SoftmaxSummary`, and of how many positions, ``count`` (B,)."""

    count: Tensor

    def __add__(self, other: SoftmaxSummary) -> SoftmaxSummary:
        if not isinstance(other, DividedSummary):
            return NotImplemented
        joined = super().__add__(other)
        return DividedSummary(joined.sums, joined.maximum, self.count + other.count)

    def sum_over_batch(self) -> DividedSummary:
        joined = super().sum_over_batch()
        return DividedSummary(joined.sums, joined.maximum, self.count.sum(0, keepdim=True))

    def all_reduce(self, group: ProcessGroup | None = None) -> DividedSummary:
        joined = super().all_reduce(group)
        return DividedSummary(joined.sums, joined.maximum, sum_over_processes(self.count, group))


class DividedEfficientAttention(EfficientAttention):
    """Earlier versions, which also divide the values by the number of positions."""

    def summary(self, query: Tensor, key: Tensor, value: Tensor) -> DividedSummary:
        keys = summarize_softmax(key, value)
        return DividedSummary(keys.sums, keys.maximum, count_like(keys.sums, key.shape[2]))

    def attend(self, query: Tensor, value: Tensor, keys: Any) -> Tensor:
        divided = keys.sums[..., :-1] / keys.count[:, None, None, None].clamp(min=1)
        return super().attend(
            query,
            value,
            SoftmaxSummary(torch.cat([divided, keys.sums[..., -1:]], -1), keys.maximum),
        )


class UnitNormedEfficientAttention(EfficientAttention):
    """Where both norms are ``x / |x| * g * sqrt(C)`` over the C channels of a position.

    They are computed here, as PyTorch's norm over an axis that is not the innermost takes longer
    than the attention.
    """

    def normed(self, norm: Any, x: Tensor) -> Tensor:
        factor = norm.g * x.shape[1] ** 0.5
        wide = x.to(acc_dtype(x.dtype))
        inverse = (
            wide.square().sum(1, keepdim=True).clamp(min=1e-24).rsqrt()
        )  # as of `torch.nn.functional.normalize`
        return (wide * inverse * factor).to(torch.promote_types(x.dtype, factor.dtype))

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        this: Any = self
        conv, norm = this.to_out
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


# ---- channels on channels ------------------------------------------------------------------------


class TransposedAttention(MapBlock):
    """Restormer's multi-Dconv head transposed attention, MDTA (Zamir et al., CVPR 2022)."""

    def projected(self, x: Tensor) -> tuple[Tensor, ...]:
        this: Any = self
        qkv = this.qkv_dwconv(convolved(this.qkv, x))
        return tuple(part.unflatten(1, (this.num_heads, -1)) for part in qkv.chunk(3, 1))

    def summary(self, query: Tensor, key: Tensor, value: Tensor) -> ChannelSummary:
        return summarize_channels(query, key)

    def attend(self, query: Tensor, value: Tensor, keys: ChannelSummary) -> Tensor:
        """With the output projection: it and the maps of all heads are one matrix, applied once at
        each position.
        """
        this: Any = self
        weight = this.project_out.weight.flatten(1)
        with without_autocast(value.device):
            maps = channel_map(keys, this.temperature.flatten())  # (N, H, E, E)
            matrix = projected_maps(weight, maps)
        return apply_matrix(value.mT.flatten(1, 2).mT[:, None], matrix[:, None])

    def finish(self, attended: Tensor, x: Tensor) -> Tensor:
        this: Any = self
        bias = this.project_out.bias
        return attended if bias is None else attended + bias.to(attended.dtype)[:, None, None]


class CrossCovariance(Converted):
    """XCiT's cross-covariance attention, XCA (El-Nouby et al., NeurIPS 2021): tokens (N, positions,
    C).
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Other arguments go to the original's forward."""
        if args or kwargs:
            return super().forward(x, *args, **kwargs)
        this: Any = self
        query, key, value = this.qkv(x).chunk(3, 2)
        heads = (part.unflatten(2, (this.num_heads, -1)).transpose(1, 2) for part in (query, key))
        with without_autocast(x.device):
            maps = channel_map(summarize_channels(*heads), this.temperature.flatten())
            linear = is_only(this.proj, nn.Linear)
            weight = (
                this.proj.weight
                if linear
                else torch.eye(value.shape[2], dtype=maps.dtype, device=maps.device)
            )
            matrix = projected_maps(weight, maps).to(value.dtype).mT
        bias = this.proj.bias if linear else None
        y = torch.bmm(value, matrix) if bias is None else torch.baddbmm(bias, value, matrix)
        y = y if linear else this.proj(y)
        return this.proj_drop(y) if hasattr(this, "proj_drop") else y


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


def no_dropout(name: str, dropout: Any) -> None:
    """Raise LeftAloneError for dropout on the scores, which are never formed."""
    rate = getattr(dropout, "p", dropout)
    if isinstance(rate, int | float) and rate > 0:
        raise LeftAloneError(
            f"{name} drops {rate:g} of the scores in training, which are never formed here"
        )


# ---- to try them on ------------------------------------------------------------------------------


def probe_map(module: Any) -> tuple[Tensor]:
    """A small feature map for the first convolution or linear layer of the module."""
    first = next(
        part
        for part in module.modules()
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    )
    channels = first.in_features if isinstance(first, nn.Linear) else first.in_channels
    spatial = (
        (7,)
        if isinstance(first, nn.Conv1d)
        else (2, 3, 4)
        if isinstance(first, nn.Conv3d)
        else (5, 6)
    )
    return (torch.randn(2, channels, *spatial, dtype=torch.float64),)


def probe_tokens(module: Any) -> tuple[Tensor]:
    return (torch.randn(2, 7, module.qkv.in_features, dtype=torch.float64),)
