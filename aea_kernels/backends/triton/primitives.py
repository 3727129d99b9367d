"""The primitives of `ops.py` as Triton kernels.

They run on CUDA tensors, and on CPU tensors where TRITON_INTERPRET=1 was set before Triton was imported. Sums over
positions are partial sums of splits, joined in a fixed order: same inputs, same device, same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import folding, norms
from ...layout import acc_dtype, empty_features, empty_positions
from ...parameters import Projections
from ...planning import FOLD_CHANNELS, FOLD_GROUPS, power_of_two
from . import kernels
from .launching import (
    FeatureMap,
    Matrix,
    Norm,
    Normalisation,
    contiguous,
    feature_map,
    launch,
    launch_over_positions,
    norm_of,
    normalisation,
    numbers,
    operator_map,
    plan_over_positions,
)

MANY_PARTS = 2048
"""Partial sums of BN's gradients that every program may add up by itself; more are added up beforehand."""

# ---- the block's primitives: feature maps x (B, C, *spatial) --------------------------------------------------------


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = (x.new_empty(x.shape[1], dtype=torch.float64) for _ in range(2))
    if x.numel() == 0:
        return mean.zero_(), variance.zero_()
    images, channels, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    x_map = feature_map(x)
    plan = plan_over_positions("statistics", channels, 1, images, positions, x, x_map)
    partial = x.new_empty(images, plan.splits, 2, channels, dtype=acc_dtype(x.dtype))
    launch(
        kernels.statistics_kernel,
        plan.programs,
        x.device,
        warps=plan.tiles.warps,
        plan=plan,
        workspace=partial.nbytes,
        x=x_map,
        partial=partial,
        splits=plan.splits,
        steps=plan.steps,
        NUMBERS=numbers(x.dtype, plan.precision),
        BLOCK_C=plan.tiles.block_a,
        BLOCK_S=plan.tiles.block_s,
        STAGES=plan.tiles.stages,
    )
    launch(
        kernels.join_statistics_kernel,
        -(-channels // 16),
        x.device,
        workspace=2 * mean.nbytes,
        partial=partial,
        mean=mean,
        variance=variance,
        C=channels,
        positions=positions,
        total=images * positions,
        parts=images * plan.splits,
        splits=plan.splits,
        span=plan.steps * plan.tiles.block_s,
        BLOCK_P=128,
        BLOCK_C=16,
    )
    return mean, variance


def moments(x: Tensor, norm: Sequence[Tensor], eps: float, references: Tensor | None, reference_images: int) -> Tensor:
    x_map = feature_map(x)
    partial = _outer(x, x_map, x_map, norm_of(norm, eps), gram=True)
    return _reduce(partial, reference_images, math.prod(x.shape[2:]), references)


def attend_to_moments(
    x: Tensor, norm: Sequence[Tensor], eps: float, gram: Tensor, projections: Sequence[Tensor], heads: int, scale: float
) -> tuple[Tensor, Tensor]:
    matrix = _fold(gram.contiguous(), projections, heads, scale)
    y = empty_features(x, matrix.shape[1])
    _apply(x, feature_map(x), feature_map(y), matrix, norm_of(norm, eps), residual=True)
    return y, matrix


def attend_to_moments_backward(
    grad_output: Tensor,
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    gram: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    partial = _outer(x, feature_map(grad_output), feature_map(x), norm_of(norm, eps))
    matrix_grad = _reduce(partial, reference_images)
    return _fold_backward(matrix_grad, gram, references, reference_images, projections, heads, scale)


def features_backward(
    grad_output: Tensor,
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    batch_statistics: bool,
    matrix: Tensor,
    gram_grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the batch statistics send back needs sums over all positions first: dz is computed twice, never stored."""
    grad_x = torch.empty_like(x)
    images, channels, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    norm_grad = x.new_empty(2, channels if norm else 0, dtype=acc_dtype(x.dtype))
    if x.numel() == 0:
        return grad_x, norm_grad.zero_()
    maps = feature_map(grad_output), feature_map(x), feature_map(grad_x)

    splits = plan_over_positions("features_backward", channels, channels, images, positions, x, *maps).splits
    partial = x.new_empty(images * splits, *norm_grad.shape, dtype=norm_grad.dtype)
    rest = maps, x, norm_of(norm, eps), matrix, gram_grad
    if not batch_statistics:
        _features_backward(*rest, partial, norm_grad, sums=bool(norm), write=True)
        return grad_x, _reduce(partial[None], 1)[0] if norm else norm_grad
    _features_backward(*rest, partial, norm_grad, sums=True)
    if len(partial) > MANY_PARTS:
        partial = partial.sum(0, keepdim=True)
    _features_backward(*rest, partial, norm_grad, write=True, statistics=True)
    return grad_x, norm_grad


def _features_backward(
    maps: tuple[FeatureMap, FeatureMap, FeatureMap],
    x: Tensor,
    norm: Norm | Normalisation | None,
    matrix: Tensor,
    gram_grad: Tensor,
    partial: Tensor,
    norm_grad: Tensor,
    *,
    sums: bool = False,
    write: bool = False,
    statistics: bool = False,
) -> None:
    """One pass over grad_output and x; maps: of both, and of grad_x."""
    images, channels, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    plan = plan_over_positions("features_backward", channels, channels, images, positions, x, *maps, same=not write)
    launch_over_positions(
        kernels.features_backward_kernel,
        plan,
        x,
        partial if sums else norm_grad,
        grad_output=maps[0],
        x=maps[1],
        norm=norm,
        matrix=matrix,
        gram_grad=gram_grad,
        partial=partial,
        norm_grad=norm_grad,
        grad_x=maps[2],
        groups=matrix.shape[0],
        parts=partial.shape[0],
        total=images * positions,
        SUMS=sums,
        WRITE=write,
        STATISTICS=statistics,
        ONE_TILE=plan.one_tile,
    )


def apply_to_features(x: Tensor, matrix: Tensor) -> Tensor:
    y = empty_features(x, matrix.shape[1])
    _apply(x, feature_map(x), feature_map(y), matrix)
    return y


# ---- the block's primitives with a norm of `norms.py` ---------------------------------------------------------------

pivot, normed_keys = norms.pivot, norms.keys


def normed_moments(x: Tensor, kind: str, eps: float, pivot: Tensor | None) -> Tensor:
    x_map = feature_map(x)
    partial = _outer(x, x_map, x_map, normalisation(x, kind, eps, pivot), gram=True)
    return _reduce(partial, len(x), math.prod(x.shape[2:]))


def attend_to_normed(
    x: Tensor,
    kind: str,
    eps: float,
    pivot: Tensor | None,
    affine: Tensor,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    matrix = _fold(gram.contiguous(), projections, heads, scale)
    composed = norms.compose(folding.expand_groups(matrix, len(affine)), affine)
    y = torch.empty_like(x)
    _apply(x, feature_map(x), feature_map(y), composed, normalisation(x, kind, eps, pivot), residual=True)
    return y, matrix


def attend_to_normed_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    eps: float,
    pivot: Tensor | None,
    affine: Tensor,
    gram: Tensor,
    matrix: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    partial = _outer(x, feature_map(grad_output), feature_map(x), normalisation(x, kind, eps, pivot))
    matrix_grad, affine_grad = norms.compose_backward(
        _reduce(partial, len(x)), folding.expand_groups(matrix, len(x)), affine
    )
    matrix_grad = folding.sum_groups(matrix_grad, reference_images)
    gram_grad, *rest = _fold_backward(matrix_grad, gram, references, reference_images, projections, heads, scale)
    return [gram_grad, affine_grad, *rest]


def normed_features_backward(
    grad_output: Tensor, x: Tensor, kind: str, eps: float, pivot: Tensor | None, matrix: Tensor, gram_grad: Tensor
) -> Tensor:
    grad_x = torch.empty_like(x)
    if x.numel():
        maps = feature_map(grad_output), feature_map(x), feature_map(grad_x)
        none = x.new_empty(0, dtype=acc_dtype(x.dtype))
        _features_backward(maps, x, normalisation(x, kind, eps, pivot), matrix, gram_grad, none, none, write=True)
    return grad_x


# ---- the operators' primitives: a (B, H, N, A), positions before channels -------------------------------------------


def outer_sum(a: Tensor, b: Tensor) -> Tensor:
    partial = _outer(a, operator_map(a), operator_map(b), heads=a.shape[1])
    return _reduce(partial, len(partial)).unflatten(0, a.shape[:2])


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    y = empty_positions(a, matrix.shape[2])
    _apply(a, operator_map(a), operator_map(y), matrix.flatten(0, 1), heads=a.shape[1])
    return y


def apply_matrix_backward(grad_output: Tensor, a: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """In one pass where a tile holds all channels: grad_output is read once for both."""
    batch, heads, positions, width = a.shape
    outputs, grad_a = matrix.shape[2], empty_positions(a, width)
    maps = operator_map(grad_output), operator_map(a), operator_map(grad_a)
    plan = plan_over_positions("matrix_backward", outputs, width, batch * heads, positions, a, *maps)
    if not plan.one_tile or a.numel() * outputs == 0:
        return apply_matrix(grad_output, matrix.mT), outer_sum(grad_output, a)
    partial = a.new_empty(batch * heads, plan.splits, outputs, width, dtype=acc_dtype(a.dtype))
    matrix = matrix.flatten(0, 1)
    launch_over_positions(
        kernels.matrix_backward_kernel,
        plan,
        a,
        partial,
        grad_output=maps[0],
        a=maps[1],
        matrix=Matrix(matrix, *matrix.stride()),
        grad_a=maps[2],
        partial=partial,
        divisor=None,
        eps=None,
        heads=heads,
        PHI="none",
    )
    return grad_a, _reduce(partial, len(partial)).unflatten(0, a.shape[:2])


# ---- the two shapes of work, and the sums between them --------------------------------------------------------------


def _extent(x: Tensor, heads: int | None) -> tuple[int, int]:
    """Images and positions of a feature map x (B, C, *spatial), or with `heads` of x (B, H, N, E)."""
    return (x.shape[0], math.prod(x.shape[2:])) if heads is None else (x.shape[0] * heads, x.shape[2])


def _outer(
    x: Tensor,
    a_map: FeatureMap,
    x_map: FeatureMap,
    norm: Norm | Normalisation | None = None,
    *,
    gram: bool = False,
    heads: int | None = None,
) -> Tensor:
    """Partial sums (images, splits, A, C+1) with the sums of a as last column; without that where there are `heads`."""
    rows, columns, homogeneous = a_map.channels, x_map.channels, heads is None
    images, positions = _extent(x, heads)
    width, dtype = columns + homogeneous, acc_dtype(x.dtype)
    if images * positions * rows * columns == 0:
        return x.new_zeros(images, 1, rows, width, dtype=dtype)
    plan = plan_over_positions("outer", rows, columns, images, positions, x, a_map, x_map, same=gram)
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


def _reduce(
    partial: Tensor, reference_images: int, positions: int | None = None, references: Tensor | None = None
) -> Tensor:
    """Partial sums (images, splits, A, W) joined over the splits and the images of each group, (groups, A, W).

    With `positions`, those of an image, they are the first rows of moments, (groups, W, W) in all.
    """
    images, splits, rows, width = partial.shape
    moments = positions is not None
    groups = folding.group_count(images, reference_images)
    if splits == 1 and groups == images and not moments:
        return partial[:, 0]
    result = partial.new_empty(groups, rows + moments, width)
    launch(
        kernels.reduce_splits_kernel,
        groups * -(-rows // 16) * -(-width // 16),
        partial.device,
        workspace=result.nbytes,
        partial=partial,
        maxima=None,
        references=partial if references is None else references.contiguous(),
        result=result,
        maximum=None,
        A=rows,
        W=width,
        references_number=0 if references is None else references.shape[0],
        positions=positions or 0,
        images=images,
        reference_images=reference_images,
        splits=splits,
        moments=int(moments),
        NUMBERS=numbers(partial.dtype, "ieee"),
        BLOCK_P=32,
        BLOCK_R=64,
        BLOCK=16,
    )
    return result


def _apply(
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


# ---- the C x C algebra ----------------------------------------------------------------------------------------------


def _algebra(gram: Tensor, projections: Projections, heads: int) -> dict[str, Any] | None:
    """The arguments that the kernels of the C x C algebra share; None where they are too wide for kernels."""
    keys, values = projections.key_bias.shape[0] // heads, projections.value_bias.shape[0] // heads
    sizes = {"C": gram.shape[1] - 1, "O": projections.output_bias.shape[0], "E": keys, "D": values}
    if max(sizes.values()) > FOLD_CHANNELS:
        return None
    blocks = {f"BLOCK_{name}": power_of_two(size) for name, size in sizes.items()}
    return (
        sizes
        | blocks
        | {
            "device": gram.device,
            "warps": 8 if sizes["C"] > 32 else 4,
            "stages": 2,
            "gram": gram,
            "weights": projections,
            "heads": heads,
            "NUMBERS": numbers(gram.dtype, "ieee"),
        }
    )


def _fold(gram: Tensor, projections: Sequence[Tensor], heads: int, scale: float) -> Tensor:
    weights = Projections(*contiguous(projections))
    shared = _algebra(gram, weights, heads)
    if shared is None:
        return folding.fold(gram, projections, heads, scale)
    matrix = gram.new_empty(gram.shape[0], weights.output_bias.shape[0], gram.shape[2])
    launch(
        kernels.fold_kernel,
        gram.shape[0] * -(-gram.shape[2] // 8),
        workspace=matrix.nbytes,
        matrix=matrix,
        SCALE=scale,
        BLOCK=8,
        **shared,
    )
    return matrix


def _fold_backward(
    matrix_grad: Tensor,
    gram: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    groups, number = gram.shape[0], 0 if references is None else references.shape[0]
    weights = Projections(*contiguous(projections))
    shared = _algebra(gram, weights, heads)
    if shared is None or not 0 < groups <= FOLD_GROUPS:
        return folding.fold_backward(matrix_grad, gram, references, reference_images, projections, heads, scale)
    shared |= {"matrix_grad": matrix_grad, "groups": groups, "BLOCK": 16}
    scores = gram.new_empty(2, groups, heads, shared["D"], shared["E"])
    launch(
        kernels.scores_kernel,
        2 * groups * heads * -(-shared["E"] // 16),
        workspace=scores.nbytes,
        scores=scores,
        SCALE=scale,
        **shared,
    )
    gram_grad, references_grad = torch.empty_like(gram), gram.new_empty(0 if references is None else references.shape)
    weights_grad = Projections(*(gram.new_empty(p.shape) for p in projections))
    launch(
        kernels.fold_backward_kernel,
        (groups + 4 * heads) * -(-gram.shape[2] // 16) + -(-number // 16),
        workspace=sum(t.nbytes for t in (gram_grad, references_grad, *weights_grad)),
        scores=scores,
        references=gram if references is None else references.contiguous(),
        gram_grad=gram_grad,
        references_grad=references_grad,
        weights_grad=weights_grad,
        reference_images=min(reference_images, groups),
        references_number=number,
        **shared,
    )
    return [gram_grad, references_grad, *weights_grad]
