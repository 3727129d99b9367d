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
from .core.dtypes import acc_dtype
from .families.autograd import OuterSumAndSquares, PhiApply, PhiOuterSum

operators = torch.ops.aea


def _features(x: Tensor, kind: str, parameters: Sequence[Tensor], eps: float) -> Tensor:
    """u of `norms.py`, (B, C, S), in the accumulation dtype."""
    return norms.prologue(x.flatten(2).to(acc_dtype(x.dtype)), kind, parameters, eps)


def _moments(
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    references: Tensor | None,
    reference_images: int,
    backend: str,
) -> Tensor:
    u = _features(x, kind, parameters, eps)
    uh = torch.cat([u, torch.ones_like(u[:, :1])], 1)
    per_group = folding.sum_groups(uh @ uh.mT, reference_images)
    return folding.add_references(per_group, references, reference_images)


def _pivot(x: Tensor, groups: int, backend: str) -> Tensor:
    """The mean of each group over all positions: any number near it will do."""
    return norms.over_groups(x, groups, acc_dtype(x.dtype))


def _keys(
    gram: Tensor, affine: Tensor, references: Tensor | None, reference_images: int, backend: str
) -> Tensor:
    return norms.keys(gram, affine, references, reference_images)


def _attend_to_moments(
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    affine: Tensor | None,
    gram: Tensor,
    projections: Sequence[Tensor],
    heads: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    matrix = folding.fold(gram, projections, heads, scale)
    composed = norms.compose_groups(matrix, affine, x.shape[0])
    composed = folding.expand_groups(composed, x.shape[0])
    return folding.add_attended(x, composed, _features(x, kind, parameters, eps)), matrix


def _outer_sum(a: Tensor, b: Tensor, backend: str) -> Tensor:
    wide = acc_dtype(a.dtype)
    return a.to(wide).mT @ b.to(wide)


def _apply_matrix(a: Tensor, matrix: Tensor, backend: str) -> Tensor:
    return (a.to(matrix.dtype) @ matrix.mT).to(a.dtype)


PLAIN: dict[Any, Callable[..., Any]] = {
    operators.pivot.default: _pivot,
    operators.moments.default: _moments,
    operators.keys.default: _keys,
    operators.attend_to_moments.default: _attend_to_moments,
    operators.outer_sum.default: _outer_sum,
    operators.apply_matrix.default: _apply_matrix,
    operators.phi_outer_sum.default: PhiOuterSum.plain,
    operators.phi_apply.default: PhiApply.plain,
    operators.outer_sum_and_squares.default: OuterSumAndSquares.plain,
}
"""What `torch.export.ExportedProgram.run_decompositions` takes: each operator, and what computes
it.
"""
