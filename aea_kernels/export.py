"""The blocks in prediction and all operators in operations that every exporter knows: matrix
products and sums.

    program = torch.export.export(model.eval(), (x,), dynamic_shapes=...)
    program = program.run_decompositions(aea_kernels.export.PLAIN)

replaces what an ONNX exporter, for instance, has no translation for. Memory is that of a few
feature maps; the attention map is not formed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .block import folding, norms
from .block.function import features
from .block.spec import ChannelNorm, Norm
from .core import ops
from .core.dtypes import acc_dtype
from .families import ops as family_ops
from .families.autograd import OuterSumAndSquares, PhiApply, PhiOuterSum


def _features(x: Tensor, norm: Sequence[Tensor], eps: float) -> Tensor:
    """z, (B, C, S), in the accumulation dtype."""
    known = None
    if norm:
        weight, bias, mean, variance = norm
        known = Norm(weight, bias, mean, variance, eps)
    z, _, _ = features(x, known, False, None)
    return z.to(acc_dtype(x.dtype))


def _moments(
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    references: Tensor | None,
    reference_images: int,
    backend: str,
) -> Tensor:
    gram = _gram(_features(x, norm, eps))
    return folding.add_references(
        folding.sum_groups(gram, reference_images), references, reference_images
    )


def _gram(z: Tensor) -> Tensor:
    """Moments of z (B, C, S), (B, C+1, C+1)."""
    zh = torch.cat([z, torch.ones_like(z[:, :1])], 1)
    return zh @ zh.mT


def _attend_to_moments(
    x: Tensor,
    norm: Sequence[Tensor],
    eps: float,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    matrix = folding.fold(gram, projections, heads, scale)
    return _add(x, folding.expand_groups(matrix, x.shape[0]), _features(x, norm, eps)), matrix


def _add(x: Tensor, matrix: Tensor, z: Tensor) -> Tensor:
    """``x + M zh``, with matrix M (B, C, C+1) and z (B, C, S)."""
    attended = matrix[..., :-1] @ z + matrix[..., -1:]
    return x + attended.reshape(x.shape).to(x.dtype)


def _pivot(x: Tensor, backend: str) -> Tensor:
    """The mean of x over its positions: any number near it will do."""
    flat = x.flatten(2).to(acc_dtype(x.dtype))
    first = flat[..., :1]
    return (first + (flat - first).mean(-1, keepdim=True))[..., 0]


def _normed_features(x: Tensor, kind: str, eps: float, pivot: Tensor | None) -> Tensor:
    """u of `norms.py`, (B, C, S), in the accumulation dtype."""
    flat = x.flatten(2).to(acc_dtype(x.dtype))
    if pivot is not None:
        return flat - pivot[..., None]
    return norms.normalised(flat, ChannelNorm(kind, None, None, eps, 1))


def _normed_moments(x: Tensor, kind: str, eps: float, pivot: Tensor | None, backend: str) -> Tensor:
    return _gram(_normed_features(x, kind, eps, pivot))


def _normed_keys(
    gram: Tensor, affine: Tensor, references: Tensor | None, reference_images: int, backend: str
) -> Tensor:
    return norms.keys(gram, affine, references, reference_images)


def _attend_to_normed(
    x: Tensor,
    kind: str,
    eps: float,
    pivot: Tensor | None,
    affine: Tensor,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    matrix = folding.fold(gram, projections, heads, scale)
    composed = norms.compose(folding.expand_groups(matrix, x.shape[0]), affine)
    return _add(x, composed, _normed_features(x, kind, eps, pivot)), matrix


def _outer_sum(a: Tensor, b: Tensor, backend: str) -> Tensor:
    wide = acc_dtype(a.dtype)
    return a.to(wide).mT @ b.to(wide)


def _apply_matrix(a: Tensor, matrix: Tensor, backend: str) -> Tensor:
    return (a.to(matrix.dtype) @ matrix.mT).to(a.dtype)


PLAIN: dict[Any, Callable[..., Any]] = {
    ops.moments: _moments,
    ops.attend_to_moments: _attend_to_moments,
    ops.outer_sum: _outer_sum,
    ops.apply_matrix: _apply_matrix,
    ops.pivot: _pivot,
    ops.normed_moments: _normed_moments,
    ops.normed_keys: _normed_keys,
    ops.attend_to_normed: _attend_to_normed,
    family_ops.phi_outer_sum: PhiOuterSum.plain,
    family_ops.phi_apply: PhiApply.plain,
    family_ops.outer_sum_and_squares: OuterSumAndSquares.plain,
}
"""What `torch.export.ExportedProgram.run_decompositions` takes: each operator, and what computes
it.
"""
