"""The primitives of `ops.py` as Triton kernels.

They run on CUDA tensors, and on CPU tensors where TRITON_INTERPRET=1 was set before Triton was imported. Sums over
positions are partial sums of spans, joined in a fixed order: same inputs, same device, same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ... import folding
from ...layout import accumulation_dtype, empty_features, empty_positions
from ...planning import FOLD_CHANNELS, algebra_precision
from .kernels import (
    apply_kernel,
    features_backward_kernel,
    fold_kernel,
    gather_kernel,
    join_statistics_kernel,
    matrix_backward_kernel,
    outer_kernel,
    statistics_kernel,
)
from .launching import (
    Maps,
    Tiles,
    arithmetic,
    feature_map,
    launch,
    norm_arguments,
    operator_map,
    power_of_two,
)

# ---- the block's primitives: feature maps x (B, C, *spatial) --------------------------------------------------------


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    maps, channels = Maps(feature_map(x)), x.shape[1]
    mean, variance = (x.new_empty(channels, dtype=torch.float64) for _ in range(2))
    total = maps.images * maps.positions
    if total == 0:
        return mean.zero_(), variance.zero_()
    tiles = maps.tiles("statistics", channels)
    columns = -(-channels // tiles.rows)
    spans, span = maps.spans(tiles, columns)
    wide = accumulation_dtype(x.dtype)
    partial = x.new_empty(maps.images, spans, 2, channels, dtype=wide)
    b, _, c, *space = maps.strides(0)
    launch(
        statistics_kernel, maps.images * spans * columns,
        maps.maps[0], partial, channels, maps.positions, spans, span, *maps.inner, b, c, *space,
        ACC=arithmetic(x.dtype)["ACC"], **maps.constants,
        BLOCK_C=tiles.rows, BLOCK_S=tiles.positions, tiles=tiles,
    )  # fmt: skip
    launch(
        join_statistics_kernel, -(-channels // 16),
        partial, mean, variance, channels, maps.positions, total, maps.images * spans, spans, span,
        BLOCK_P=64, BLOCK_C=16, tiles=Tiles(64, 16, 1, 4, 1, 1),
    )  # fmt: skip
    return mean, variance


def moments(x: Tensor, norm: Sequence[Tensor], eps: float, references: Tensor | None, own: int) -> Tensor:
    channels = x.shape[1]
    partial = _outer(feature_map(x), feature_map(x), norm, eps, gram=True, homogeneous=True)
    return _gather(partial, own, (channels + 1, channels + 1), references, math.prod(x.shape[2:]), moments=True)


def outer_with_features(a: Tensor, x: Tensor, norm: Sequence[Tensor], eps: float, own: int) -> Tensor:
    partial = _outer(feature_map(a), feature_map(x), norm, eps, gram=False, homogeneous=True)
    return _gather(partial, own, (a.shape[1], x.shape[1] + 1))


def fold(gram: Tensor, projections: Sequence[Tensor], heads: int, scale: float) -> Tensor:
    channels, outputs = gram.shape[1] - 1, projections[-1].shape[0]
    keys, values = projections[2].shape[0] // heads, projections[4].shape[0] // heads
    if max(channels, outputs, keys, values) > FOLD_CHANNELS:
        return folding.fold(gram, projections, heads, scale)
    matrix = gram.new_empty(gram.shape[0], outputs, channels + 1)
    if matrix.numel():
        launch(
            fold_kernel, gram.shape[0] * -(-(channels + 1) // 16),
            gram, *(p.contiguous() for p in projections), matrix, channels, outputs, keys, values, heads,
            SCALE=scale, ACC=arithmetic(gram.dtype)["ACC"], PRECISION=algebra_precision(gram.dtype),
            BLOCK_O=power_of_two(outputs), BLOCK_E=power_of_two(keys), BLOCK_D=power_of_two(values),
            BLOCK=16, CHUNK=16, tiles=Tiles(16, 16, 1, 8 if channels > 32 else 4, 1, 1),
        )  # fmt: skip
    return matrix


def apply_to_features(x: Tensor, norm: Sequence[Tensor], eps: float, matrix: Tensor, residual: bool) -> Tensor:
    y = empty_features(x, matrix.shape[1])
    _apply(feature_map(x), feature_map(y), norm, eps, matrix, homogeneous=True, residual=residual)
    return y


def features_backward(
    dy: Tensor, x: Tensor, norm: Sequence[Tensor], eps: float, batch_statistics: bool, matrix: Tensor, pull: Tensor
) -> tuple[Tensor, Tensor]:
    """What the batch statistics send back needs sums over all positions first: dz is computed twice, never stored."""
    dx = torch.empty_like(x)
    maps = Maps(feature_map(dy), feature_map(x), feature_map(dx))
    channels, wide = x.shape[1], accumulation_dtype(x.dtype)
    total = maps.images * maps.positions
    if total == 0:
        return dx, x.new_zeros(2, channels if norm else 0, dtype=wide)
    tiles = maps.tiles("features_backward", channels)
    number = -(-channels // tiles.rows)
    spans, span = maps.spans(tiles, number)
    matrix, pull = matrix.contiguous(), pull.contiguous()
    partial = x.new_empty(maps.images * spans, 2, channels, dtype=wide)
    tensors, constants = norm_arguments(norm, eps, partial)
    strides = [stride for i in range(3) for stride in (maps.strides(i)[0], *maps.strides(i)[2:])]

    def run(dweight: Tensor, dbias: Tensor, *, sums: bool, write: bool, statistics: bool) -> None:
        launch(
            features_backward_kernel, maps.images * spans * number,
            maps.maps[0], maps.maps[1], *tensors, matrix, pull, dweight, dbias, maps.maps[2], partial,
            channels, maps.positions, total, matrix.shape[0], spans, span, *maps.inner, *strides,
            SUMS=sums, WRITE=write, STATISTICS=statistics, **constants, **maps.constants, **arithmetic(x.dtype),
            ONE_TILE=channels <= min(tiles.rows, tiles.channels), BLOCK_A=tiles.rows, BLOCK_C=tiles.channels,
            BLOCK_S=tiles.positions, tiles=tiles,
        )  # fmt: skip

    run(partial, partial, sums=bool(norm), write=not batch_statistics, statistics=False)
    if not norm:
        return dx, partial.new_empty(2, 0)
    dnorm = _gather(partial[None], 1, (2, channels))[0]
    if batch_statistics:
        run(dnorm[0], dnorm[1], sums=False, write=True, statistics=True)
    return dx, dnorm


fold_backward = folding.fold_backward


# ---- the operators' primitives: a (B, H, N, A), positions before channels -------------------------------------------


def outer_sum(a: Tensor, b: Tensor) -> Tensor:
    partial = _outer(operator_map(a), operator_map(b), [], 0.0, gram=False, homogeneous=False)
    return _gather(partial, len(partial), (a.shape[3], b.shape[3])).unflatten(0, a.shape[:2])


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    y = empty_positions(a, matrix.shape[2])
    _apply(operator_map(a), operator_map(y), [], 0.0, matrix.flatten(0, 1), homogeneous=False, residual=False)
    return y


def apply_matrix_backward(dy: Tensor, a: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """In one pass where a tile holds all channels: dy is read once for both."""
    width, outputs = a.shape[3], matrix.shape[2]
    inputs = operator_map(dy), operator_map(a)
    tiles = Maps(*inputs).tiles("matrix_backward", max(width, outputs))
    if max(width, outputs) > tiles.rows or a.numel() * outputs == 0:
        return apply_matrix(dy, matrix.mT), outer_sum(dy, a)
    da = empty_positions(a, width)
    maps = Maps(*inputs, operator_map(da))
    spans, span = maps.spans(tiles, 1)
    partial = a.new_empty(maps.images, spans, outputs, width, dtype=accumulation_dtype(a.dtype))
    matrix = matrix.flatten(0, 1)
    strides = [stride for i in range(3) for stride in (*maps.strides(i)[:3], maps.strides(i)[5])]
    launch(
        matrix_backward_kernel, maps.images * spans,
        dy, a, matrix, da, partial, outputs, width, maps.positions, maps.heads, spans, span,
        *strides, *matrix.stride(), WIDE=maps.wide, **arithmetic(a.dtype),
        BLOCK_D=power_of_two(outputs), BLOCK_A=power_of_two(width), BLOCK_S=tiles.positions, tiles=tiles,
    )  # fmt: skip
    return da, _gather(partial, maps.images, (outputs, width)).unflatten(0, a.shape[:2])


# ---- launches -------------------------------------------------------------------------------------------------------


def _outer(a: Tensor, x: Tensor, norm: Sequence[Tensor], eps: float, *, gram: bool, homogeneous: bool) -> Tensor:
    """Partial sums (images, spans, A, C), or (images, spans, A, C+1) with the sums of a as last column."""
    maps = Maps(a, x)
    rows, columns = a.shape[2], x.shape[2]
    width, wide = columns + homogeneous, accumulation_dtype(x.dtype)
    if maps.images * maps.positions * rows * columns == 0:
        return x.new_zeros(maps.images, 1, rows, width, dtype=wide)
    tiles = maps.tiles("outer", max(rows, columns))
    block_a, block_c = min(tiles.rows, power_of_two(rows)), min(tiles.channels, power_of_two(columns))
    number = -(-rows // block_a) * -(-columns // block_c)
    spans, span = maps.spans(tiles, number)
    partial = x.new_empty(maps.images, spans, rows, width, dtype=wide)
    tensors, constants = norm_arguments(norm, eps, partial)
    launch(
        outer_kernel, maps.images * spans * number,
        maps.maps[0], maps.maps[1], *tensors, partial,
        rows, columns, maps.positions, maps.heads, spans, span, *maps.inner, *maps.strides(0), *maps.strides(1),
        GRAM=gram, HOMOGENEOUS=homogeneous, **constants, **maps.constants, **arithmetic(x.dtype),
        ONE_TILE=gram and number == 1, BLOCK_A=block_a, BLOCK_C=block_c, BLOCK_S=tiles.positions, tiles=tiles,
    )  # fmt: skip
    return partial


def _gather(
    partial: Tensor,
    own: int,
    shape: tuple[int, int],
    references: Tensor | None = None,
    positions: int = 0,
    *,
    moments: bool = False,
) -> Tensor:
    """Partial sums (images, spans, A, W) joined over the spans and over the images of each group, (G, *shape)."""
    images, spans, rows, width = partial.shape
    groups = folding.group_count(images, own)
    if spans == 1 and groups == images and not moments:
        return partial[:, 0]
    result = partial.new_empty(groups, *shape)
    if result.numel():
        launch(
            gather_kernel, groups * -(-rows // 16) * -(-width // 16),
            partial, partial if references is None else references.contiguous(), result,
            rows, width, positions, 0 if references is None else references.shape[0], images, own, spans,
            MOMENTS=moments, ACC=arithmetic(partial.dtype)["ACC"],
            PRECISION=algebra_precision(partial.dtype), BLOCK_P=8, BLOCK=16, tiles=Tiles(16, 16, 8, 4, 1, 1),
        )  # fmt: skip
    return result


def _apply(
    x: Tensor, y: Tensor, norm: Sequence[Tensor], eps: float, matrix: Tensor, *, homogeneous: bool, residual: bool
) -> None:
    """matrix (groups, O, C), or (groups, O, C+1) with `homogeneous`."""
    maps = Maps(x, y)
    outputs, channels = y.shape[2], x.shape[2]
    if maps.images * maps.positions * outputs == 0:
        return
    tiles = maps.tiles("apply", max(outputs, channels))
    block_a, block_c = min(tiles.rows, power_of_two(outputs)), min(tiles.channels, power_of_two(channels))
    rows = -(-outputs // block_a)
    spans, span = maps.spans(tiles, rows)
    tensors, constants = norm_arguments(norm, eps, matrix)
    launch(
        apply_kernel, maps.images * spans * rows,
        maps.maps[0], *tensors, matrix, maps.maps[1],
        outputs, channels, maps.positions, maps.heads, matrix.shape[0], spans, span, *maps.inner,
        *maps.strides(0), *maps.strides(1), *matrix.stride(),
        HOMOGENEOUS=homogeneous, RESIDUAL=residual, **constants, **maps.constants, **arithmetic(x.dtype),
        ONE_TILE=channels <= block_c and outputs <= block_a, BLOCK_A=block_a, BLOCK_C=block_c,
        BLOCK_S=tiles.positions, tiles=tiles,
    )  # fmt: skip
