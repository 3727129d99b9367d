"""The primitives of `eager.py` as Triton kernels: the same names, arguments and results.

Runs on CUDA tensors, and on CPU tensors where TRITON_INTERPRET=1 was set before Triton was imported.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .kernels import apply_kernel, backward_kernel, outer_kernel, statistics_kernel
from .tiles import Tiles, spans_for, tiles_for

Norm = tuple[Tensor, Tensor] | None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DTYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}
_PRECISIONS = {"highest": "ieee", "high": "tf32x3", "medium": "tf32"}
"""`torch.get_float32_matmul_precision()` -> the `input_precision` of every `tl.dot`; only float32 heeds it."""


class _Maps:
    """How feature maps (batch, heads, C, n0, n1, n2) of equal batch and spatial shape are addressed and tiled."""

    def __init__(self, *maps: Tensor) -> None:
        merged = [_merge_spatial(x) for x in maps]
        self.flat = all(x is not None for x in merged)
        self.maps = [x for x in merged if x is not None] if self.flat else list(maps)
        batch, self.heads, _, *self.spatial = self.maps[0].shape
        self.images, self.positions = batch * self.heads, math.prod(self.spatial)
        self.dtype = maps[0].dtype
        self.accumulation = torch.float64 if self.dtype == torch.float64 else torch.float32
        extents = [sum((n - 1) * abs(st) for n, st in zip(x.shape, x.stride(), strict=True)) for x in self.maps]
        self.wide = max(extents) + max(x.shape[2] for x in self.maps) * 1024 >= 2**31

    def tiles(self, channels: int) -> Tiles:
        return tiles_for(channels, self.dtype)

    def strides(self, i: int) -> tuple[int, ...]:
        return self.maps[i].stride()

    @property
    def inner(self) -> tuple[int, int]:
        return self.spatial[1], self.spatial[2]

    @property
    def constants(self) -> dict[str, Any]:
        return {"FLAT": self.flat, "WIDE": self.wide, "ACC": _DTYPES[self.accumulation]}

    @property
    def arithmetic(self) -> dict[str, Any]:
        precision = _PRECISIONS[torch.get_float32_matmul_precision()] if self.dtype == torch.float32 else "ieee"
        # the interpreter multiplies the bits of bfloat16 as if they were integers
        exact = torch.float32 if INTERPRETED and self.dtype == torch.bfloat16 else self.dtype
        return {"ROUNDED": _DTYPES[self.dtype], "OPERAND": _DTYPES[exact], "PRECISION": precision}


def _feature_map(x: Tensor) -> Tensor:
    """(B, C, *spatial) -> (B, 1, C, n0, n1, n2), a view."""
    x = x.unsqueeze(1)
    while x.dim() < 6:
        x = x.unsqueeze(3)
    return x


def _operator_map(x: Tensor) -> Tensor:
    """(B, H, N, E) -> (B, H, E, 1, 1, N), a view."""
    return x.mT.unsqueeze(3).unsqueeze(3)


def _merge_spatial(x: Tensor) -> Tensor | None:
    """The three spatial axes as one, (..., 1, 1, S), where that is a view."""
    try:
        return x.view(*x.shape[:3], 1, 1, math.prod(x.shape[3:]))
    except RuntimeError:
        return None


def _contiguous_norm(norm: Norm, like: Tensor) -> tuple[Tensor, Tensor]:
    return (like, like) if norm is None else (norm[0].contiguous(), norm[1].contiguous())


# ---- the block's primitives: feature maps x (B, C, *spatial) --------------------------------------------------------


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over batch and space, (C,) each, float64: one read of x."""
    maps = _Maps(_feature_map(x))
    channels, tiles = x.shape[1], maps.tiles(x.shape[1])
    if maps.images * maps.positions == 0:
        return x.new_zeros(channels, dtype=torch.float64), x.new_zeros(channels, dtype=torch.float64)
    columns = triton.cdiv(channels, tiles.channels)
    spans, span = spans_for(maps.images, columns, maps.positions, tiles.positions)
    partial = x.new_empty(maps.images, spans, 2, channels, dtype=maps.accumulation)
    b, _, c, *space = maps.strides(0)
    statistics_kernel[(maps.images * spans * columns,)](
        maps.maps[0], partial, channels, maps.positions, spans, span, *maps.inner, b, c, *space, **maps.constants,
        BLOCK_C=tiles.channels, BLOCK_S=tiles.positions, num_warps=tiles.warps,
    )  # fmt: skip
    ends = torch.arange(1, spans + 1, device=x.device) * span
    number = (ends.clamp(max=maps.positions) - (ends - span)).clamp(min=0).double()[:, None]  # (spans, 1)
    means, squares = partial.double().unbind(2)  # (images, spans, C)
    total = maps.images * maps.positions
    mean = (number * means).sum((0, 1)) / total
    return mean, (squares + number * (means - mean) ** 2).sum((0, 1)) / total


def moments(x: Tensor, norm: Norm) -> Tensor:
    """Sum over positions of zh zh^T, (B, C+1, C+1): one read of x."""
    outer = _outer(_feature_map(x), _feature_map(x), norm, gram=True, homogeneous=True)  # (B, C, C+1)
    count = outer.new_full((len(x), 1, 1), math.prod(x.shape[2:]))
    return torch.cat([outer, torch.cat([outer[..., -1:].mT, count], 2)], 1)


def outer_with_features(a: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Sum over positions of a zh^T, (B, A, C+1), for a (B, A, *spatial): one read of a and of x."""
    return _outer(_feature_map(a), _feature_map(x), norm, gram=False, homogeneous=True)


def apply_to_features(x: Tensor, norm: Norm, matrix: Tensor, *, residual: bool) -> Tensor:
    """M zh at every position, plus x if `residual`: one read of x, one write."""
    y = torch.empty_like(x) if matrix.shape[1] == x.shape[1] else x.new_empty(len(x), matrix.shape[1], *x.shape[2:])
    _apply(_feature_map(x), _feature_map(y), norm, matrix, homogeneous=True, residual=residual)
    return y


def features_backward(
    dy: Tensor,
    x: Tensor,
    norm: Norm,
    matrix: Tensor,
    pull: Tensor,
    *,
    centre: Tensor | None,
    through_statistics: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None,
) -> tuple[Tensor, Norm]:
    """Gradients of ``x + M zh`` as in `eager.features_backward`: two reads and one write, four with batch statistics.

    What BN's statistics send back needs sums over all positions first: dz is computed twice rather than stored.
    """
    dx = torch.empty_like(x)
    if through_statistics is None:
        sums = _backward(dy, x, norm, matrix, pull, dx, centre=centre, sums=norm is not None)
        return dx, None if sums is None else (sums[0], sums[1])
    sums = _backward(dy, x, norm, matrix, pull, dx, centre=centre, sums=True, write=False)
    assert sums is not None
    affine = through_statistics(sums[0], sums[1])
    _backward(dy, x, norm, matrix, pull, dx, centre=centre, sums=False, affine=affine)
    return dx, (sums[0], sums[1])


# ---- the operators' primitives: a (B, H, N, A), positions before channels -------------------------------------------


def outer_sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum over positions of a b^T, (B, H, A, E), for b (B, H, N, E): one read of each."""
    outer = _outer(_operator_map(a), _operator_map(b), None, gram=False, homogeneous=False)
    return outer.unflatten(0, a.shape[:2])


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    """M a at every position, (B, H, N, O), for matrix (B, H, O, A): one read, one write, in a's layout and dtype."""
    inner_positions = a.stride(2) == 1 and a.stride(3) != 1
    batch, heads, positions, _ = a.shape
    outputs = matrix.shape[2]
    y = a.new_empty(batch, heads, outputs, positions).mT if inner_positions else a.new_empty(*a.shape[:3], outputs)
    _apply(_operator_map(a), _operator_map(y), None, matrix.flatten(0, 1), homogeneous=False, residual=False)
    return y


def apply_matrix_backward(dy: Tensor, a: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `apply_matrix`: M^T dy, and the sum over positions of dy a^T."""
    return apply_matrix(dy, matrix.mT), outer_sum(dy, a)


# ---- launches -------------------------------------------------------------------------------------------------------


def _outer(a: Tensor, x: Tensor, norm: Norm, *, gram: bool, homogeneous: bool) -> Tensor:
    """(images, A, C), or (images, A, C+1) with the sums of a as last column."""
    maps = _Maps(a, x)
    rows, columns = a.shape[2], x.shape[2]
    width = columns + homogeneous
    if maps.images * maps.positions * rows * columns == 0:
        return x.new_zeros(maps.images, rows, width, dtype=maps.accumulation)
    left, right = maps.tiles(rows), maps.tiles(columns)
    block = min(left.positions, right.positions)
    tiles = triton.cdiv(rows, left.channels) * triton.cdiv(columns, right.channels)
    spans, span = spans_for(maps.images, tiles, maps.positions, block)
    partial = x.new_empty(maps.images, spans, rows, width, dtype=maps.accumulation)
    outer_kernel[(maps.images * spans * tiles,)](
        maps.maps[0], maps.maps[1], *_contiguous_norm(norm, partial), partial,
        rows, columns, maps.positions, maps.heads, spans, span, *maps.inner, *maps.strides(0), *maps.strides(1),
        NORM=norm is not None, GRAM=gram, HOMOGENEOUS=homogeneous, **maps.constants, **maps.arithmetic,
        TILES=triton.cdiv(columns, right.channels), BLOCK_A=left.channels, BLOCK_C=right.channels, BLOCK_S=block,
        num_warps=max(left.warps, right.warps), num_stages=right.stages,
    )  # fmt: skip
    return partial.sum(1)


def _apply(x: Tensor, y: Tensor, norm: Norm, matrix: Tensor, *, homogeneous: bool, residual: bool) -> None:
    """matrix (images, O, C), or (images, O, C+1) with `homogeneous`."""
    maps = _Maps(x, y)
    outputs, channels = y.shape[2], x.shape[2]
    if maps.images * maps.positions * outputs == 0:
        return
    above, below = maps.tiles(outputs), maps.tiles(channels)
    block = min(above.positions, below.positions)
    tiles = triton.cdiv(outputs, above.channels)
    spans, span = spans_for(maps.images, tiles, maps.positions, block)
    apply_kernel[(maps.images * spans * tiles,)](
        maps.maps[0], *_contiguous_norm(norm, matrix), matrix, maps.maps[1],
        outputs, channels, maps.positions, maps.heads, spans, span, *maps.inner, *maps.strides(0), *maps.strides(1),
        *matrix.stride(), NORM=norm is not None, HOMOGENEOUS=homogeneous, RESIDUAL=residual,
        **maps.constants, **maps.arithmetic,
        TILES=triton.cdiv(channels, below.channels), BLOCK_A=above.channels, BLOCK_C=below.channels, BLOCK_S=block,
        num_warps=max(above.warps, below.warps), num_stages=below.stages,
    )  # fmt: skip


def _backward(
    dy: Tensor,
    x: Tensor,
    norm: Norm,
    matrix: Tensor,
    pull: Tensor,
    dx: Tensor,
    *,
    centre: Tensor | None,
    sums: bool,
    write: bool = True,
    affine: tuple[Tensor, Tensor] | None = None,
) -> Tensor | None:
    """One launch of the backward kernel; returns (2, C) sums if asked."""
    maps = _Maps(_feature_map(dy), _feature_map(x), _feature_map(dx))
    channels = x.shape[1]
    tiles = maps.tiles(channels)
    columns = triton.cdiv(channels, tiles.channels)
    spans, span = spans_for(maps.images, columns, maps.positions, tiles.positions)
    partial = x.new_empty(maps.images, spans, 2, channels, dtype=maps.accumulation)
    if maps.images * maps.positions:
        matrix, pull = matrix.contiguous(), pull.contiguous()
        scale, shift = _contiguous_norm(norm, partial)
        slope, constant = (partial, partial) if affine is None else affine
        strides = [stride for i in range(3) for stride in (maps.strides(i)[0], *maps.strides(i)[2:])]
        backward_kernel[(maps.images * spans * columns,)](
            maps.maps[0], maps.maps[1], scale, shift, matrix, pull,
            partial if centre is None else centre.to(maps.accumulation), slope, constant, maps.maps[2], partial,
            channels, maps.positions, spans, span, *maps.inner, *strides,
            NORM=norm is not None, SUMS=sums, WRITE=write, CENTRED=centre is not None, AFFINE=affine is not None,
            **maps.constants, **maps.arithmetic,
            TILES=columns, BLOCK_C=tiles.channels, BLOCK_S=tiles.positions,
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
        return partial.sum((0, 1)) if sums else None
    return partial.new_zeros(2, channels) if sums else None
