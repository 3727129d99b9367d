"""The C x C algebra between the two passes: from the moments of z to the matrix that the whole
block applies.

In homogeneous coordinates zh = (z, 1), Wh = [W b], the block is ``y = x + M zh`` with

    M = (scale / n) * Wo * per_head(Whv Gh Whk^T) * Whq  +  [0 bo]

where Gh is the sum of zh zh^T over all keys and n, its last entry, their number. Heads, biases and
the output projection cost nothing per position. Nothing here depends on the size of the image.

Shapes: B images in G groups that share their keys, C channels, H heads of E key and D value
channels, O outputs. The first `reference_images` are groups of one (the reference branch), the
others one group (the batch-aware branch).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


def group_count(images: int, reference_images: int) -> int:
    """G. For torch.compile a minimum is one expression; a condition on sizes makes graphs apart."""
    if known_equal(images, reference_images):
        return images
    return torch.sym_min(images, reference_images + 1)


def sum_groups(per_image: Tensor, reference_images: int) -> Tensor:
    """(B, ...) -> (G, ...): the images of a group added up."""
    if known_equal(per_image.shape[0], reference_images):
        return per_image
    return torch.cat(
        [per_image[:reference_images], per_image[reference_images:].sum(0, keepdim=True)]
    )


def expand_groups(per_group: Tensor, images: int) -> Tensor:
    """(G, ...) -> (B, ...), the adjoint of `sum_groups`: every image gets the matrix of its
    group.
    """
    if known_equal(per_group.shape[0], images):
        return per_group
    # more than needed, so at least two: torch.compile builds graphs apart for expanding to one and
    # to more
    shared = per_group[-1:].expand(images, *per_group.shape[1:])
    return torch.cat([per_group, shared])[:images]


def known_equal(a: int, b: int) -> bool:
    """Whether a = b. While torch.compile traces, only if it is so for all sizes: it builds graphs
    apart for the two answers.
    """
    if isinstance(a, int) and isinstance(b, int) and not torch.compiler.is_compiling():
        return a == b
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(a == b)


def homogeneous(features: Tensor) -> Tensor:
    """(R, C) -> (R, C + 1), a column of ones appended."""
    return torch.nn.functional.pad(features, (0, 1), value=1.0)


def add_references(gram: Tensor, references: Tensor | None, reference_images: int) -> Tensor:
    """gram (G, C+1, C+1) with the moments of the references (R, C) joined to every group of one
    image.
    """
    if references is None:
        return gram
    rows = homogeneous(references.to(gram.dtype))
    if gram.shape[0] == 1 and reference_images == 1:
        return torch.addmm(gram[0], rows.T, rows)[None]
    if reference_images < gram.shape[0]:
        joined = gram[:reference_images] + rows.T @ rows
        return torch.cat([joined, gram[reference_images:]])
    return gram + rows.T @ rows


def _references_backward(
    gram_grad: Tensor, references: Tensor | None, reference_images: int
) -> Tensor:
    """The gradient of the references, (R, C), from gram_grad = dG + dG^T, (G, C+1, C+1)."""
    if references is None:
        return gram_grad.new_empty(0)
    return homogeneous(references.to(gram_grad.dtype)) @ gram_grad[:reference_images, :, :-1].sum(0)


class _Homogeneous(NamedTuple):
    """The projections with weight and bias side by side, Wh = [W b], in the accumulation dtype."""

    query: Tensor  # (H * E, C + 1)
    key: Tensor  # (H * E, C + 1)
    value: Tensor  # (H * D, C + 1)
    output: Tensor  # (O, H * D), without bias


def _homogeneous_projections(projections: Sequence[Tensor], dtype: torch.dtype) -> _Homogeneous:
    *inner, output, _ = projections
    columns = [t if t.dim() == 2 else t[:, None] for t in inner]
    if known_equal(columns[0].shape[0], columns[4].shape[0]):
        query, key, value = torch.cat(columns, 1).to(dtype).chunk(3, 1)
    else:
        query, key = torch.cat(columns[:4], 1).to(dtype).chunk(2, 1)
        value = torch.cat(columns[4:], 1).to(dtype)
    return _Homogeneous(query, key, value, output.to(dtype))


def _heads(matrix: Tensor, heads: int) -> Tensor:
    """(..., H * E, C) -> (..., H, E, C)."""
    return matrix.unflatten(-2, (heads, -1))


def _number_of_keys(gram: Tensor) -> Tensor:
    """n, (G, 1, 1); the sum over no keys at all is zero, so it may be divided by anything else."""
    return gram[:, -1:, -1:].detach().clamp(min=1)


def _attended(gram: Tensor, projections: _Homogeneous, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Whv Gh (G, H * D, C + 1); per_head(Whv Gh Whk^T) (G, H, D, E); and that times Whq (G, H * D,
    C + 1).
    """
    values = projections.value @ gram
    summary = _heads(values, heads) @ _heads(projections.key, heads).mT
    return values, summary, (summary @ _heads(projections.query, heads)).flatten(1, 2)


def fold(gram: Tensor, projections: Sequence[Tensor], heads: int, scale: float) -> Tensor:
    """The block's matrix M (G, O, C+1) from the moments of its keys, gram (G, C+1, C+1)."""
    wide = _homogeneous_projections(projections, gram.dtype)
    _, _, attended = _attended(gram, wide, heads)
    bias = torch.nn.functional.pad(projections[-1].to(gram.dtype)[:, None], (gram.shape[-1] - 1, 0))
    return torch.addcdiv(bias, wide.output @ attended, _number_of_keys(gram), value=scale)


def _sum(per_group: Tensor) -> Tensor:
    """(G, ...) -> (...): the sum over the groups, without a copy where there is one."""
    return per_group[0] if per_group.shape[0] == 1 else per_group.sum(0)


def fold_backward(
    matrix_grad: Tensor,
    gram: Tensor,
    references: Tensor | None,
    reference_images: int,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
) -> list[Tensor]:
    """The adjoint of `fold` and `add_references`, from matrix_grad = dM (G, O, C+1).

    Returns gram_grad = dG + dG^T (G, C+1, C+1), then the gradients of the references (empty if
    None) and of the eight tensors of the projections.
    """
    # the products of `fold` once more, which it did not keep
    wide = _homogeneous_projections(projections, gram.dtype)
    values, summary, attended = _attended(gram, wide, heads)
    dproduct = scale * matrix_grad / _number_of_keys(gram)

    # the adjoints of the products of `fold`, from the last factor to the first
    doutput = _sum(dproduct @ attended.mT)
    dattended = _heads(wide.output.mT @ dproduct, heads)
    dsummary = dattended @ _heads(wide.query, heads).mT
    dquery = _sum(summary.mT @ dattended).flatten(0, 1)
    dkey = _sum(dsummary.mT @ _heads(values, heads)).flatten(0, 1)
    dvalues = (dsummary @ _heads(wide.key, heads)).flatten(1, 2)
    dvalue = _sum(dvalues @ gram.mT)
    dgram = wide.value.mT @ dvalues

    # a homogeneous matrix (R, C + 1) is weight and bias
    split: Any = torch.split_with_sizes_copy  # to PyTorch's stub it returns nothing
    inner = []
    for grad in (dquery, dkey, dvalue):
        weight, bias = split(grad, [grad.shape[1] - 1, 1], 1)
        inner += [weight, bias[:, 0]]

    # G is a sum of zh zh^T, so dG + dG^T is all that z and the references need of it;
    # the bias of the output is a term of M's last column
    gram_grad = dgram + dgram.mT
    return [
        gram_grad,
        _references_backward(gram_grad, references, reference_images),
        *inner,
        doutput,
        matrix_grad[..., -1].sum(0),
    ]


def add_attended(x: Tensor, matrix: Tensor, z: Tensor) -> Tensor:
    """``x + M zh`` in plain operations, for M (B, C, C+1) and z (B, C, S)."""
    attended = matrix[..., :-1] @ z + matrix[..., -1:]
    return x + attended.reshape(x.shape).to(x.dtype)
