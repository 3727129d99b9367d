"""The primitives of `ops.py` as Triton kernels.

They run on CUDA tensors, and on CPU tensors where TRITON_INTERPRET=1 was set before Triton was
imported. Sums over positions are partial sums of splits, joined in a fixed order: same inputs, same
device, same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...block import folding, norms
from ...core.dtypes import acc_dtype, empty_features, empty_positions
from ...core.tracer import allocated, noted
from . import kernels
from .algebra import fold, fold_backward
from .launching import launch, launch_over_positions, plan_over_positions
from .operands import FeatureMap, Matrix, feature_map, math_of, operator_map
from .products import apply, outer, reduce_splits
from .prologue import Prologue, check_holds, prologue_of
from .tiles import LaunchPlan

MANY_PARTS = 2048
"""Partial sums of BN's gradients that every program may add up by itself; more are added up
beforehand.
"""

# ---- the block's primitives: feature maps x (B, C, *spatial) -------------------------------------


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    # float64 keeps the digits of a mean that is large beside the deviation
    channels = x.shape[1]
    mean, variance = (allocated(x.new_empty(channels, dtype=torch.float64)) for _ in range(2))
    if x.numel() == 0:
        return mean.zero_(), variance.zero_()

    # no product, so there is no other side: one column
    images, positions = x.shape[0], math.prod(x.shape[2:])
    x_map = feature_map(x)
    plan = plan_over_positions("statistics", channels, 1, images, positions, x, x_map)

    # mean and sum of squared deviations of each part of the positions
    partial = allocated(x.new_empty(images, plan.splits, 2, channels, dtype=acc_dtype(x.dtype)))
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
        MATH=math_of(x.dtype, plan.precision),
        BLOCK_C=plan.tiles.block_a,
        BLOCK_S=plan.tiles.block_s,
        STAGES=plan.tiles.stages,
    )

    # the parts joined, 16 channels a program; all but an image's last part have `span` positions
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


def moments(
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    references: Tensor | None,
    reference_images: int,
) -> Tensor:
    positions = math.prod(x.shape[2:])
    if x.shape[1] == 0:  # the number of keys alone
        count = x.new_full((len(x), 1, 1), positions, dtype=acc_dtype(x.dtype))
        per_group = folding.sum_groups(count, reference_images)
        return folding.add_references(per_group, references, reference_images)
    x_map = feature_map(x)
    partial = outer(x, x_map, x_map, prologue_of(x, kind, parameters, eps), gram=True)
    return reduce_splits(partial, reference_images, positions, references)


def attend_to_moments(
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    affine: Tensor | None,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    matrix = fold(gram.contiguous(), projections, heads, scale)
    composed = norms.compose_groups(matrix, affine, len(x))
    y = allocated(empty_features(x, matrix.shape[1]))
    prologue = prologue_of(x, kind, parameters, eps)
    apply(x, feature_map(x), feature_map(y), composed, prologue, residual=True)
    return y, matrix


def attend_to_moments_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    affine: Tensor | None,
    gram: Tensor,
    matrix: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    # sums of dy uh^T by parts: the gradient of the matrix that applies to uh
    prologue = prologue_of(x, kind, parameters, eps)
    partial = outer(x, feature_map(grad_output), feature_map(x), prologue)

    # that matrix is M, the same for a group; or M A, where A is that of an image
    affine_grad = allocated(gram.new_empty(0))
    if affine is None:
        matrix_grad = reduce_splits(partial, reference_images)
    else:
        composed_grad = reduce_splits(partial, len(x))
        per_image = folding.expand_groups(matrix, len(x))
        matrix_grad, affine_grad = norms.compose_backward(composed_grad, per_image, affine)
        matrix_grad = folding.sum_groups(matrix_grad, reference_images)

    # from dM to all that M is made of
    gram_grad, *rest = fold_backward(
        matrix_grad, gram, references, reference_images, projections, heads, scale
    )
    return [gram_grad, affine_grad, *rest]


def features_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    batch_statistics: bool,
    matrix: Tensor,
    gram_grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the batch statistics send back needs sums over all positions first: dz is computed
    twice, never stored.
    """
    # (2, C) for weight and bias of BN, (2, 0) for the others
    grad_x = allocated(torch.empty_like(x))
    parameters_grad = allocated(norms.empty_gradients(x, kind))
    if x.numel() == 0:
        return grad_x, parameters_grad.zero_()

    # without such parameters one pass does it all
    maps = feature_map(grad_output), feature_map(x), feature_map(grad_x)
    prologue = prologue_of(x, kind, parameters, eps)
    rest = maps, x, prologue, matrix, gram_grad
    if not parameters_grad.numel():
        _features_backward(*rest, parameters_grad, parameters_grad, write=True)
        return grad_x, parameters_grad

    # every split of every image has its own sums, as no two programs add to one number
    splits = _features_backward_plan(x, maps).splits
    shape = x.shape[0] * splits, *parameters_grad.shape
    partial = allocated(parameters_grad.new_empty(shape))

    # statistics that are constants: still one pass, whose sums are joined after it
    if not batch_statistics:
        _features_backward(*rest, partial, parameters_grad, sums=True, write=True)
        partial = noted(torch.unsqueeze, partial, 0)
        return grad_x, noted(torch.select, reduce_splits(partial, 1), 0, 0)

    # statistics of x: dx needs the sums of all positions, so they take a pass before it
    _features_backward(*rest, partial, parameters_grad, sums=True)
    if len(partial) > MANY_PARTS:
        partial = partial.sum(0, keepdim=True)
    _features_backward(*rest, partial, parameters_grad, write=True, statistics=True)
    return grad_x, parameters_grad


def _features_backward_plan(
    x: Tensor, maps: tuple[FeatureMap, FeatureMap, FeatureMap], *, write: bool = True
) -> LaunchPlan:
    images, channels, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    kernel = "features_backward"
    return plan_over_positions(
        kernel, channels, channels, images, positions, x, *maps, same=not write
    )


def _features_backward(
    maps: tuple[FeatureMap, FeatureMap, FeatureMap],
    x: Tensor,
    prologue: Prologue,
    matrix: Tensor,
    gram_grad: Tensor,
    partial: Tensor,
    parameters_grad: Tensor,
    *,
    sums: bool = False,
    write: bool = False,
    statistics: bool = False,
) -> None:
    """One pass over grad_output and x; maps: of both, and of grad_x."""
    # beside grad_x it writes the sums of each part, or those of all parts together
    plan = _features_backward_plan(x, maps, write=write)
    check_holds(prologue, plan, x.shape[1])
    launch_over_positions(
        kernels.features_backward_kernel,
        plan,
        x,
        partial if sums else parameters_grad,
        grad_output=maps[0],
        x=maps[1],
        norm=prologue,
        matrix=matrix,
        gram_grad=gram_grad,
        partial=partial,
        norm_grad=parameters_grad,
        grad_x=maps[2],
        groups=matrix.shape[0],
        parts=partial.shape[0],
        total=x.numel() // x.shape[1],
        SUMS=sums,
        WRITE=write,
        STATISTICS=statistics,
        ONE_TILE=plan.one_tile,
    )


def apply_to_features(x: Tensor, matrix: Tensor) -> Tensor:
    y = empty_features(x, matrix.shape[1])
    apply(x, feature_map(x), feature_map(y), matrix)
    return y


# ---- the operators' primitives: a (B, H, N, A), positions before channels ------------------------


def outer_sum(a: Tensor, b: Tensor) -> Tensor:
    partial = outer(a, operator_map(a), operator_map(b), heads=a.shape[1])
    return reduce_splits(partial, len(partial)).unflatten(0, a.shape[:2])


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    y = empty_positions(a, matrix.shape[2])
    apply(a, operator_map(a), operator_map(y), matrix.flatten(0, 1), heads=a.shape[1])
    return y


def apply_matrix_backward(grad_output: Tensor, a: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """In one pass where a tile holds all channels: grad_output is read once for both."""
    # one tile has to hold all channels of grad_output, and one those of a
    batch, heads, positions, width = a.shape
    outputs, grad_a = matrix.shape[2], empty_positions(a, width)
    maps = operator_map(grad_output), operator_map(a), operator_map(grad_a)
    plan = plan_over_positions(
        "matrix_backward", outputs, width, batch * heads, positions, a, *maps
    )
    if not plan.one_tile or a.numel() * outputs == 0:
        return apply_matrix(grad_output, matrix.mT), outer_sum(grad_output, a)

    # one pass: grad_a = matrix^T grad_output, and sums of grad_output a^T by parts
    partial = a.new_empty(batch * heads, plan.splits, outputs, width, dtype=acc_dtype(a.dtype))
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
        heads=heads,
    )
    return grad_a, reduce_splits(partial, len(partial)).unflatten(0, a.shape[:2])
