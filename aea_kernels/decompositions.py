"""The block in prediction and the operators in operations that every exporter knows: matrix products and sums.

    program = torch.export.export(model.eval(), (x,), dynamic_shapes=...)
    program = program.run_decompositions(aea_kernels.decompositions.PLAIN)

replaces what an ONNX exporter, for instance, has no translation for. Memory is that of a few feature maps; the
attention map is not formed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import folding, ops
from .block import features
from .layout import acc_dtype
from .parameters import Norm


def _features(x: Tensor, norm: Sequence[Tensor], eps: float) -> Tensor:
    """z, (B, C, S), in the accumulation dtype."""
    known = None
    if norm:
        weight, bias, mean, variance = norm
        known = Norm(weight, bias, mean, variance, eps)
    z, _, _ = features(x, known, False, None)
    return z.to(acc_dtype(x.dtype))


def _moments(
    x: Tensor, norm: Sequence[Tensor], eps: float, references: Tensor | None, reference_images: int, backend: str
) -> Tensor:
    z = _features(x, norm, eps)
    z = torch.cat([z, torch.ones_like(z[:, :1])], 1)
    return folding.add_references(folding.sum_groups(z @ z.mT, reference_images), references, reference_images)


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
    each = folding.expand_groups(matrix, x.shape[0])
    attended = each[..., :-1] @ _features(x, norm, eps) + each[..., -1:]
    return x + attended.reshape(x.shape).to(x.dtype), matrix


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
}
"""What `torch.export.ExportedProgram.run_decompositions` takes: each operator, and what computes it."""
