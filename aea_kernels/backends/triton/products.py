"""Launches of the two shapes of work, an outer product summed over positions and a matrix applied
at every position.
"""

from __future__ import annotations

import math

from torch import Tensor

from ...block import folding
from ...core.dtypes import acc_dtype
from . import kernels
from .launching import (
    FeatureMap,
    Matrix,
    Norm,
    Normalisation,
    launch,
    launch_over_positions,
    numbers,
    plan_over_positions,
)
from .tiles import Launch, power_of_two


def _extent(x: Tensor, heads: int | None) -> tuple[int, int]:
    """Images and positions of a feature map x (B, C, *spatial), or with `heads` of x (B, H,
    N, E).
    """
    return (
        (x.shape[0], math.prod(x.shape[2:])) if heads is None else (x.shape[0] * heads, x.shape[2])
    )


def outer(
    x: Tensor,
    a_map: FeatureMap,
    x_map: FeatureMap,
    norm: Norm | Normalisation | None = None,
    *,
    gram: bool = False,
    heads: int | None = None,
) -> Tensor:
    """Partial sums (images, splits, A, C+1) with the sums of a as last column; without that where
    there are `heads`.
    """
    rows, columns, homogeneous = a_map.channels, x_map.channels, heads is None
    images, positions = _extent(x, heads)
    width, dtype = columns + homogeneous, acc_dtype(x.dtype)
    if images * positions * rows * columns == 0:
        return x.new_zeros(images, 1, rows, width, dtype=dtype)
    plan = plan_over_positions(
        "outer", rows, columns, images, positions, x, a_map, x_map, same=gram
    )
    partial = x.new_empty(images, plan.splits, rows, width, dtype=dtype)
    launch_over_positions(
        kernels.outer_kernel,
        plan,
        x,
        partial,
        a=a_map,
        x=x_map,
        norm=norm,
        partial=partial,
        maxima=None,
        heads=heads or 1,
        GRAM=gram,
        HOMOGENEOUS=homogeneous,
        PHI="none",
        ONE_TILE=gram and plan.one_tile,
        BLOCK_ALL=power_of_two(columns) if isinstance(norm, Normalisation) else plan.tiles.block_k,
    )
    return partial


def reduce_splits(
    partial: Tensor,
    reference_images: int,
    positions: int | None = None,
    references: Tensor | None = None,
) -> Tensor:
    """Partial sums (images, splits, A, W) joined over the splits and the images of each group,
    (groups, A, W).

    With `positions`, those of an image, they are the first rows of moments, (groups, W, W) in all.
    """
    images, splits, rows, width = partial.shape
    moments = positions is not None
    groups = folding.group_count(images, reference_images)
    if splits == 1 and groups == images and not moments:
        return partial[:, 0]
    result = partial.new_empty(groups, rows + moments, width)
    launch_reduction(
        partial,
        result,
        references=references,
        positions=positions,
        reference_images=reference_images,
    )
    return result


def launch_reduction(
    partial: Tensor,
    result: Tensor,
    *,
    maxima: Tensor | None = None,
    maximum: Tensor | None = None,
    references: Tensor | None = None,
    positions: int | None = None,
    reference_images: int,
) -> None:
    """Partial sums (images, splits, A, W) -> result (groups, A, W), or moments of `positions`
    (groups, W, W).

    With `maxima` (images, splits, A), which the sums are relative to, they are joined into
    `maximum` (images, A).
    """
    images, splits, rows, width = partial.shape
    launch(
        kernels.reduce_splits_kernel,
        result.shape[0] * -(-rows // 16) * -(-width // 16),
        partial.device,
        workspace=result.nbytes + (0 if maximum is None else maximum.nbytes),
        partial=partial,
        maxima=maxima,
        references=partial if references is None else references.contiguous(),
        result=result,
        maximum=maximum,
        A=rows,
        W=width,
        references_number=0 if references is None else references.shape[0],
        positions=positions or 0,
        images=images,
        reference_images=reference_images,
        splits=splits,
        moments=int(positions is not None),
        NUMBERS=numbers(partial.dtype, "ieee"),
        BLOCK_P=32,
        BLOCK_R=64,
        BLOCK=16,
    )


def launch_matrix_backward(
    plan: Launch,
    a: Tensor,
    maps: tuple[FeatureMap, FeatureMap, FeatureMap],
    matrix: Tensor,
    partial: Tensor,
    *,
    divisor: Tensor | None = None,
    eps: Tensor | None = None,
    phi: str = "none",
) -> None:
    """Both gradients of M phi(a), for a (B, H, N, A); `maps` are those of its gradient above, of a
    and of a's gradient.

    Args:
        matrix: (B, H, O, A).
        partial: (B * H, splits, O, A), one row more with phi "relu"; gets the sums over each split.
    """
    flat = matrix.flatten(0, 1)
    launch_over_positions(
        kernels.matrix_backward_kernel,
        plan,
        a,
        partial,
        grad_output=maps[0],
        a=maps[1],
        matrix=Matrix(flat, *flat.stride()),
        grad_a=maps[2],
        partial=partial,
        divisor=None if divisor is None else divisor.contiguous(),
        eps=None if eps is None else eps.contiguous(),
        heads=a.shape[1],
        PHI=phi,
    )


def apply(
    x: Tensor,
    x_map: FeatureMap,
    y_map: FeatureMap,
    matrix: Tensor,
    norm: Norm | Normalisation | None = None,
    *,
    residual: bool = False,
    heads: int | None = None,
) -> None:
    """matrix (groups, O, C+1), or where there are `heads` (images, O, C)."""
    rows, columns, homogeneous = y_map.channels, x_map.channels, heads is None
    images, positions = _extent(x, heads)
    if images * positions * rows * columns == 0:
        return
    plan = plan_over_positions("apply", rows, columns, images, positions, x, x_map, y_map)
    launch_over_positions(
        kernels.apply_kernel,
        plan,
        x,
        None,
        x=x_map,
        norm=norm,
        matrix=Matrix(matrix, *matrix.stride()),
        y=y_map,
        divisor=None,
        eps=None,
        heads=heads or 1,
        groups=matrix.shape[0],
        HOMOGENEOUS=homogeneous,
        RESIDUAL=residual,
        PHI="none",
        ONE_TILE=plan.one_tile,
    )
