"""The algebra of norms without an activation after them: GroupNorm, LayerNorm and RMSNorm cost no
pass of their own.

A feature map x enters the sums over positions as u: with GroupNorm x less a pivot, a number a
channel near its mean,
so that squares are of numbers as small as the deviation; with LayerNorm and RMSNorm x normalised
over the channels of its position, without weight and bias. What the projections see is then an
affine function of u, another one for each image with GroupNorm, whose mean and variance are entries
of the moments of u:

    z = a u + t,  zh = A uh with A = [diag(a) t; 0 1],  Gram of zh = A G A^T,  y = x + M zh = x + (M
    A) uh

Shapes: B images, C channels, G groups of images that share their keys. gram (B, C+1, C+1) is the
sum of uh uh^T over the positions of each image, affine (B, 2, C) holds a and t. All but statistics
is in the accumulation dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.dtypes import acc_dtype
from ..core.transforms import transformed
from . import folding
from .spec import ChannelNorm

PIVOT_POSITIONS = 4
"""Along each axis, of which a pivot is the mean."""


def pivot(x: Tensor) -> Tensor:
    """A number near the mean of each channel of each image, (B, C): the mean of a few positions of
    x (B, C, *spatial).

    Its distance from the mean costs digits of the sums; no result depends on it otherwise.
    """
    if x.numel() == 0:
        return x.new_zeros(x.shape[:2], dtype=acc_dtype(x.dtype))
    axes = (
        slice(n // (2 * PIVOT_POSITIONS), None, max(1, n // PIVOT_POSITIONS)) for n in x.shape[2:]
    )
    few = x[(slice(None), slice(None), *axes)].flatten(2).to(acc_dtype(x.dtype))
    first = few[..., :1]
    return (first + (few - first).mean(-1, keepdim=True))[
        ..., 0
    ]  # exact where a channel is constant


def shift(gram: Tensor, by: Tensor) -> Tensor:
    """The moments of u + `by` (B, C) from those of u."""
    ones = torch.ones_like(by)
    return transform(gram, torch.stack([ones, by], 1))


def transform(gram: Tensor, affine: Tensor) -> Tensor:
    """The moments of zh, A G A^T."""
    return times_transposed(times_transposed(gram, affine).mT, affine)


def times_transposed(matrix: Tensor, affine: Tensor) -> Tensor:
    """M A^T, for matrices (B, O, C+1): the adjoint of `compose` in its first argument."""
    last = matrix[..., -1:]
    return torch.cat([matrix[..., :-1] * affine[:, None, 0] + last * affine[:, None, 1], last], -1)


def compose(matrix: Tensor, affine: Tensor) -> Tensor:
    """M A, (B, O, C+1): a matrix that applies to zh as one that applies to uh."""
    linear = matrix[..., :-1]
    last = matrix[..., -1:] + (linear * affine[:, None, 1]).sum(-1, keepdim=True)
    return torch.cat([linear * affine[:, None, 0], last], -1)


def compose_backward(
    composed_grad: Tensor, matrix: Tensor, affine: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of `compose`'s matrix (B, O, C+1) and affine (B, 2, C)."""
    linear = matrix[..., :-1]
    scale_grad = (linear * composed_grad[..., :-1]).sum(1)
    constant_grad = (linear * composed_grad[..., -1:]).sum(1)
    return times_transposed(composed_grad, affine), torch.stack([scale_grad, constant_grad], 1)


def keys(gram: Tensor, affine: Tensor, references: Tensor | None, reference_images: int) -> Tensor:
    """The moments of the keys of each group, (G, C+1, C+1): those of zh, and of the references (R,
    C) as they are.
    """
    per_group = folding.sum_groups(transform(gram, affine), reference_images)
    return folding.add_references(per_group, references, reference_images)


def _by_group(t: Tensor, groups: int) -> Tensor:
    """(B, C) as (B, groups, C / groups)."""
    # where a default device is set torch.compile traces the text of the method, and fails
    return torch.unflatten(t, 1, (groups, -1))


def statistics(gram: Tensor, pivot: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """GroupNorm's: pivot less mean of x (B, C), and biased variance (B, groups); float64."""
    count = gram[:, -1, -1].double().clamp(min=1)[:, None]  # (B, 1)
    means = gram[:, :-1, -1].double() / count  # of u
    squares = gram.diagonal(dim1=1, dim2=2)[:, :-1].double() / count
    of_x = _by_group(means + pivot.double(), groups).mean(-1, keepdim=True)
    offset = (_by_group(pivot.double(), groups) - of_x).flatten(1)
    spread = squares + 2 * offset * means + offset**2
    return offset, _by_group(spread, groups).mean(-1).clamp(min=0)


def affine(norm: ChannelNorm, gram: Tensor, pivot: Tensor | None) -> Tensor:
    """a and t, (B, 2, C), of images whose moments of u are `gram`; `pivot` (B, C) with GroupNorm,
    else None.
    """
    channels = gram.shape[-1] - 1
    weight = gram.new_ones(channels) if norm.weight is None else norm.weight.to(gram.dtype)
    bias = gram.new_zeros(channels) if norm.bias is None else norm.bias.to(gram.dtype)
    if pivot is None:
        return torch.stack([weight, bias]).expand(gram.shape[0], 2, channels)
    offset, variance = statistics(gram, pivot, norm.groups)
    scale = weight * (variance + norm.eps).rsqrt().repeat_interleave(channels // norm.groups, 1)
    return torch.stack([scale, bias + scale * offset], 1).to(gram.dtype)


def backward(
    norm: ChannelNorm,
    gram: Tensor,
    pivot: Tensor | None,
    affine: Tensor,
    moments_grad: Tensor,
    affine_grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The adjoint of `transform` and `affine`, the pivot a constant.

    Args:
        moments_grad: dG + dG^T of the moments of zh, (B, C+1, C+1).
        affine_grad: what a and t are given by `compose`, (B, 2, C).

    Returns:
        dG + dG^T of `gram`, and the gradients of weight and bias, (C,).
    """
    half = compose(moments_grad, affine)
    gram_grad = compose(half.mT, affine)
    scale_grad = affine_grad[:, 0] + (half * gram).sum(-1)[:, :-1]
    constant_grad = affine_grad[:, 1] + (half * gram[:, -1:]).sum(-1)[:, :-1]
    if pivot is None:
        return gram_grad, scale_grad.sum(0), constant_grad.sum(0)
    channels = gram.shape[-1] - 1
    per_group = channels // norm.groups
    offset, variance = statistics(gram, pivot, norm.groups)
    inverse = (variance + norm.eps).rsqrt()  # (B, groups)
    both = scale_grad + constant_grad * offset  # float64 from here on
    weighted = both if norm.weight is None else both * norm.weight
    number = gram[:, -1, -1].double().clamp(min=1)[:, None] * per_group
    variance_grad = -0.5 * inverse**3 * _by_group(weighted, norm.groups).sum(-1) / number
    mean_grad = -_by_group((constant_grad * affine[:, 0]).double(), norm.groups).sum(-1) / number
    variance_grad, mean_grad = (
        t.repeat_interleave(per_group, 1) for t in (variance_grad, mean_grad)
    )  # (B, C)
    gram_grad.diagonal(dim1=1, dim2=2)[:, :-1].add_(2 * variance_grad)
    sums_grad = (mean_grad + 2 * variance_grad * offset).to(gram.dtype)
    gram_grad[:, :-1, -1].add_(sums_grad)
    gram_grad[:, -1, :-1].add_(sums_grad)
    weight_grad = (both * inverse.repeat_interleave(per_group, 1)).sum(0)
    return gram_grad, weight_grad.to(gram.dtype), constant_grad.sum(0)


def normalised(x: Tensor, norm: ChannelNorm) -> Tensor:
    """The norm of x (B, C, S) in plain operations, differentiable any number of times."""
    weight, bias = (None if t is None else t.to(x.dtype) for t in (norm.weight, norm.bias))
    if norm.kind == "group":
        return torch.group_norm(x, norm.groups, weight, bias, norm.eps)
    if (
        norm.kind == "layer" and transformed()
    ):  # torch's forward-mode derivative of layer_norm has none of its own
        centred = x - x.mean(1, keepdim=True)
        z = centred * (centred.square().mean(1, keepdim=True) + norm.eps).rsqrt()
        z = z if weight is None else z * weight[:, None]
    elif norm.kind == "layer":
        return torch.nn.functional.layer_norm(x.mT, x.shape[1:2], weight, bias, norm.eps).mT
    else:
        z = torch.nn.functional.rms_norm(x.mT, x.shape[1:2], weight, norm.eps).mT
    return z if bias is None else z + bias[:, None]
