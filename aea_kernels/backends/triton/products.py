"""Launches of the two shapes of work, an outer product summed over positions and a matrix applied
at every position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...block import folding
from ...core.dtypes import acc_dtype
from ...core.tracer import allocated, noted
from . import kernels
from .launching import launch, launch_over_positions, plan_over_positions
from .operands import FeatureMap, Matrix, math_of
from .prologue import Prologue, check_holds, needs_all_channels
from .tiles import power_of_two


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
    prologue: Prologue = None,
    *,
    gram: bool = False,
    heads: int | None = None,
) -> Tensor:
    """Partial sums (images, splits, A, C+1) with the sums of a as last column; without that where
    there are `heads`.
    """
    # the block takes sums of a too; the operators, which have heads, do not
    rows, columns, homogeneous = a_map.channels, x_map.channels, heads is None
    images, positions = _extent(x, heads)
    width, dtype = columns + homogeneous, acc_dtype(x.dtype)
    if images * positions * rows * columns == 0:
        return x.new_zeros(images, 1, rows, width, dtype=dtype)

    # each split of each image has sums of its own: no atomics, the same bits every time
    plan = plan_over_positions(
        "outer", rows, columns, images, positions, x, a_map, x_map, same=gram
    )
    partial = allocated(x.new_empty(images, plan.splits, rows, width, dtype=dtype))
    launch_over_positions(
        kernels.outer_kernel,
        plan,
        x,
        partial,
        a=a_map,
        x=x_map,
        norm=prologue,
        partial=partial,
        heads=heads or 1,
        GRAM=gram,
        HOMOGENEOUS=homogeneous,
        ONE_TILE=gram and plan.one_tile,
        BLOCK_ALL=power_of_two(columns) if needs_all_channels(prologue) else plan.tiles.block_k,
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
    # nothing to add up: one split, and every image is a group
    images, splits, rows, width = partial.shape
    moments = positions is not None
    groups = folding.group_count(images, reference_images)
    if splits == 1 and groups == images and not moments:
        return noted(torch.select, partial, 1, 0)

    # moments have a row more than the partial sums: the last, by symmetry
    result = allocated(partial.new_empty(groups, rows + moments, width))
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

    # a program joins 16 x 16 sums over all parts of their group
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
        MATH=math_of(partial.dtype, "ieee"),
        BLOCK_P=32,
        BLOCK_R=64,
        BLOCK=16,
    )


def apply(
    x: Tensor,
    x_map: FeatureMap,
    y_map: FeatureMap,
    matrix: Tensor,
    prologue: Prologue = None,
    *,
    residual: bool = False,
    heads: int | None = None,
) -> None:
    """matrix (groups, O, C+1), or where there are `heads` (images, O, C)."""
    # the block's matrices have a column for the 1 of zh, those of the operators do not
    rows, columns, homogeneous = y_map.channels, x_map.channels, heads is None
    images, positions = _extent(x, heads)
    if images * positions * rows == 0:
        return
    if columns == 0:  # a sum over nothing
        y_map.pointer.zero_()
        return

    # only y is written: no workspace
    plan = plan_over_positions("apply", rows, columns, images, positions, x, x_map, y_map)
    check_holds(prologue, plan, rows)
    launch_over_positions(
        kernels.apply_kernel,
        plan,
        x,
        None,
        x=x_map,
        norm=prologue,
        matrix=Matrix(matrix, *matrix.stride()),
        y=y_map,
        heads=heads or 1,
        groups=matrix.shape[0],
        HOMOGENEOUS=homogeneous,
        RESIDUAL=residual,
        ONE_TILE=plan.one_tile,
    )
