"""Norms before the projections: a prologue of the tile, and an affine map that follows from the
moments.

Every norm splits into u, which a kernel makes of a tile of x by itself, and a factor a and constant
t of each channel:

    z = a u + t,  zh = A uh with A = [diag(a) t; 0 1],  Gram of zh = A G A^T,
    y = x + M zh = x + (M A) uh

    kind      u, the prologue                                 a and t
    "none"    x                                               1 and 0: no affine map
    "batch"   ReLU6(BN(x))                                    1 and 0: no affine map
    "group"   x - pivot of its image and group of channels    from the moments of u, of each image
    "layer"   (x - mean) / deviation, over channels           weight and bias
    "rms"     x / root mean square, over channels             weight and bias

A pivot keeps the digits of the sums where the mean is as large as the deviation.

Shapes: B images, C channels, G groups of images that share their keys. gram (B, C+1, C+1) is the
sum of uh uh^T over the positions of each image. affine (B, 2, C+1) holds ah = (a, 0) and
th = (t, 1), so that zh = ah uh + th. All is in the accumulation dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.dtypes import acc_dtype
from ..core.transforms import transformed
from . import folding
from .spec import Norm

AFFINE = ("group", "layer", "rms")
"""Kinds of norms with an affine map after the prologue."""

OVER_CHANNELS = ("layer", "rms")
"""Kinds whose prologue needs all channels of a position."""

PIVOT_POSITIONS = 4
"""Along each axis, of which a pivot is the mean."""


# ---- u: the prologue -----------------------------------------------------------------------------


def parameters(norm: Norm, pivot: Tensor | None) -> list[Tensor]:
    """Those of the prologue of a norm; `pivot` (B, C) with GroupNorm."""
    if norm.kind == "batch":
        return [t for t in (norm.weight, norm.bias, norm.mean, norm.variance) if t is not None]
    return [] if pivot is None else [pivot]


def empty_gradients(x: Tensor, kind: str) -> Tensor:
    """For the gradients of weight and bias of a prologue of x (B, C, ...), (2, C); (2, 0) where it
    has none.
    """
    return x.new_empty(2, x.shape[1] if kind == "batch" else 0, dtype=acc_dtype(x.dtype))


def prologue(x: Tensor, kind: str, parameters: Sequence[Tensor], eps: float) -> Tensor:
    """u of x (B, C, S), in x's dtype, in plain operations that are differentiable any number of
    times.
    """
    # the only kind with an activation
    if kind == "batch":
        weight, bias, mean, variance = (t[:, None] for t in parameters)
        normalised = (x - mean) / (variance + eps).sqrt()
        return torch.nn.functional.relu6(normalised * weight + bias).to(x.dtype)
    if kind == "group":
        return x - parameters[0][..., None]
    if kind == "layer" and transformed():
        # the forward-mode derivative of torch's layer_norm has no derivative of its own
        centred = x - x.mean(1, keepdim=True)
        return centred * (centred.square().mean(1, keepdim=True) + eps).rsqrt()
    if kind == "layer":
        return torch.nn.functional.layer_norm(x.mT, x.shape[1:2], None, None, eps).mT
    if kind == "rms":
        return torch.nn.functional.rms_norm(x.mT, x.shape[1:2], None, eps).mT
    return x


def normalised(x: Tensor, norm: Norm) -> Tensor:
    """z of x (B, C, S), in x's dtype, in plain operations, for a norm whose statistics, if it has
    some, are those of `norm`.
    """
    if norm.kind not in AFFINE:
        return prologue(x, norm.kind, parameters(norm, None), norm.eps)
    weight, bias = (None if t is None else t.to(x.dtype) for t in (norm.weight, norm.bias))
    if norm.kind == "group":
        return torch.group_norm(x, norm.groups, weight, bias, norm.eps)
    z = prologue(x, norm.kind, [], norm.eps)
    z = z if weight is None else z * weight[:, None]
    return z if bias is None else z + bias[:, None]


def pivot(x: Tensor, groups: int) -> Tensor:
    """A number near the mean of each group of channels of each image, for every channel, (B, C):
    the mean of a few positions of x (B, C, *spatial).

    Its distance from the mean costs digits of the sums; no result depends on it otherwise.
    """
    dtype = acc_dtype(x.dtype)
    if x.numel() == 0:
        return x.new_zeros(x.shape[:2], dtype=dtype)
    steps = [
        slice(n // (2 * PIVOT_POSITIONS), None, max(1, n // PIVOT_POSITIONS)) for n in x.shape[2:]
    ]
    few = x[(slice(None), slice(None), *steps)]
    # with twice the digits of x the sum is exact where a group is constant
    wide = dtype if x.dtype.itemsize == 2 else torch.float64
    return over_groups(few, groups, dtype, wide)


def over_groups(
    x: Tensor, groups: int, dtype: torch.dtype, wide: torch.dtype | None = None
) -> Tensor:
    """The mean of each group of channels of x (B, C, ...) over all that follows, for every channel:
    (B, C) in `dtype`, computed in `wide` where it is given.
    """
    by_group = torch.unflatten(x, 1, (groups, -1))
    mean = by_group.mean(tuple(range(2, by_group.dim())), dtype=wide or dtype)
    every = mean[..., None].expand(by_group.shape[:3])
    return every.to(dtype, memory_format=torch.contiguous_format, copy=True).flatten(1)


# ---- A: the affine map, and what it does to moments and matrices ---------------------------------


def shift(gram: Tensor, by: Tensor) -> Tensor:
    """The moments of u + `by` (B, C) from those of u."""
    return transform(gram, affine_of(torch.ones_like(by), by))


def transform(gram: Tensor, affine: Tensor) -> Tensor:
    """The moments of zh, A G A^T; exact, where products of matrices would be rounded as
    `torch.set_float32_matmul_precision` says.
    """
    return times_transposed(times_transposed(gram, affine).mT, affine)


def times_transposed(matrix: Tensor, affine: Tensor) -> Tensor:
    """M A^T, for matrices (B, O, C+1): the adjoint of `compose` in its first argument."""
    scale, constant = affine[:, None].unbind(2)
    return torch.addcmul(matrix[..., -1:] * constant, matrix, scale)


def compose(matrix: Tensor, affine: Tensor) -> Tensor:
    """M A, (B, O, C+1): a matrix that applies to zh as one that applies to uh."""
    linear, constants = (matrix[:, None] * affine[:, :, None]).unbind(1)
    return torch.cat([linear[..., :-1], constants.sum(-1, keepdim=True)], -1)


def compose_groups(matrix: Tensor, affine: Tensor | None, images: int) -> Tensor:
    """M A of each image from M of each group (G, O, C+1); M as it is where there is no A."""
    if affine is None:
        return matrix
    return compose(folding.expand_groups(matrix, images), affine)


def compose_linear(matrix: Tensor, affine: Tensor | None, images: int) -> Tensor:
    """As `compose_groups`, but for the last column, the constants, on which no derivative by u
    depends.
    """
    if affine is None:
        return matrix
    return folding.expand_groups(matrix, images) * affine[:, :1]


def compose_backward(
    composed_grad: Tensor, matrix: Tensor, affine: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of `compose`'s matrix (B, O, C+1) and affine (B, 2, C+1)."""
    both = torch.stack([matrix * composed_grad, matrix * composed_grad[..., -1:]], 1)
    return times_transposed(composed_grad, affine), both.sum(2)


def keys(gram: Tensor, affine: Tensor, references: Tensor | None, reference_images: int) -> Tensor:
    """The moments of the keys of each group, (G, C+1, C+1): those of zh, and of the references
    (R, C) as they are.
    """
    per_group = folding.sum_groups(transform(gram, affine), reference_images)
    return folding.add_references(per_group, references, reference_images)


class GroupStatistics(NamedTuple):
    """GroupNorm's, of each image and group of channels, (B, groups, 1)."""

    mean: Tensor
    """Of u."""
    inverse: Tensor
    """One over the deviation."""


def statistics(
    norm: Norm, gram: Tensor, pivot: Tensor | None, positions: int
) -> GroupStatistics | None:
    """Of images whose moments of u over so many positions are `gram` (B, C+1, C+1); None where
    there is no pivot.
    """
    if pivot is None:
        return None
    average = gram / max(1, positions)
    mean = _by_group(average[:, :-1, -1], norm.groups).mean(-1, keepdim=True)
    diagonal = average.diagonal(dim1=1, dim2=2)[:, :-1]
    squares = _by_group(diagonal, norm.groups).mean(-1, keepdim=True)
    variance = torch.addcmul(squares, mean, mean, value=-1).clamp(min=0)
    return GroupStatistics(mean, (variance + norm.eps).rsqrt())


def affine(norm: Norm, gram: Tensor, statistics: GroupStatistics | None) -> Tensor | None:
    """ah and th, (B, 2, C+1), of images whose moments of u are `gram` (B, C+1, C+1); None where
    z = u.

    Args:
        norm: any.
        gram: gives the number of images and the dtype.
        statistics: of the images, with GroupNorm.
    """
    if norm.kind not in AFFINE:
        return None
    channels = gram.shape[-1] - 1
    weight = gram.new_ones(channels) if norm.weight is None else norm.weight.to(gram.dtype)
    bias = gram.new_zeros(channels) if norm.bias is None else norm.bias.to(gram.dtype)
    if statistics is None:
        return affine_of(weight, bias).expand(gram.shape[0], 2, channels + 1)

    mean, inverse = statistics
    weight, bias = (torch.unflatten(t, 0, (norm.groups, -1)) for t in (weight, bias))
    scale = weight * inverse
    constant = torch.addcmul(bias, scale, mean, value=-1)
    return affine_of(scale.flatten(1), constant.flatten(1))


def affine_of(scale: Tensor, constant: Tensor) -> Tensor:
    """ah and th of a and t, (..., C) each: (..., 2, C+1)."""
    numbers = torch.arange(2, dtype=scale.dtype, device=scale.device)
    zero, one = numbers.expand(*scale.shape[:-1], 2).split(1, -1)
    return torch.unflatten(torch.cat([scale, zero, constant, one], -1), -1, (2, -1))


def affine_backward(
    norm: Norm,
    gram: Tensor,
    statistics: GroupStatistics | None,
    affine: Tensor,
    moments_grad: Tensor,
    affine_grad: Tensor,
    positions: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The adjoint of `transform` and `affine`, the pivot a constant.

    Args:
        norm, gram, statistics: as `affine` had them.
        affine: its result.
        moments_grad: dG + dG^T of the moments of zh, (B, C+1, C+1).
        affine_grad: what ah and th are given by `compose`, (B, 2, C+1).
        positions: of an image.

    Returns:
        dG + dG^T of `gram`, and the gradients of weight and bias, (C,).
    """
    # through A G A^T
    half = compose(moments_grad, affine)
    gram_grad = compose(half.mT, affine)
    of_rows = torch.stack([half * gram, half * gram[:, -1:]], 1)
    scale_grad, constant_grad = (affine_grad + of_rows.sum(-1))[..., :-1].unbind(1)
    if statistics is None:
        return gram_grad, scale_grad.sum(0), constant_grad.sum(0)

    # through the deviation and the mean of each group of channels, (B, groups, 1)
    mean, inverse = statistics
    by_group = partial(_by_group, groups=norm.groups)
    both = torch.addcmul(by_group(scale_grad), by_group(constant_grad), mean, value=-1)
    scale = by_group(affine[:, 0, :-1])
    of_variance = (both * scale).mean(-1, keepdim=True) * inverse.square()
    of_mean = (by_group(constant_grad) * scale).mean(-1, keepdim=True)
    of_mean = torch.addcmul(of_mean, of_variance, mean, value=-1)

    # both are averages over entries of the moments
    share = 1 / max(1, positions)
    by_group(gram_grad.diagonal(dim1=1, dim2=2)[:, :-1]).sub_(of_variance, alpha=share)
    for sums in (gram_grad[:, :-1, -1], gram_grad[:, -1, :-1]):
        by_group(sums).sub_(of_mean, alpha=share)
    return gram_grad, (both * inverse).sum(0).flatten(), constant_grad.sum(0)


def _by_group(t: Tensor, groups: int) -> Tensor:
    """(B, C) as (B, groups, C / groups)."""
    # where a default device is set torch.compile traces the text of the method, and fails
    return torch.unflatten(t, 1, (groups, -1))
