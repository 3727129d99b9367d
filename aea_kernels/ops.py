"""The primitives as torch operators ``aea::...``: what torch.compile, torch.export and CUDA graphs see of this library.

Each is opaque: its shapes are known in advance, its values come from the backend named by its last argument. None is
differentiable by itself; the derivatives are in `autograd.py`. Each computes in its own precision: autocast stays
outside.

Notation: a feature map x is (B, C, *spatial); z = x, or BN and ReLU6 of x where `norm` is [weight, bias, mean,
variance], (C,) each, and not []; zh = (z, 1). Images form G groups, as in `folding.py`: the first `own` alone, the
others together. Matrices and sums are in the accumulation dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, library

from .backends import primitives
from .folding import group_count
from .layout import accumulation_dtype, empty_features, empty_positions

_NAMESPACE = library.Library("aea", "DEF")


def _operator(schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``aea::name``; the decorated function returns empty results of the right shape, dtype and strides."""
    name = schema.split("(")[0]

    def run(*arguments: Any) -> Any:
        *inputs, backend = arguments
        device = inputs[0].device
        primitive = getattr(primitives(backend, device), name)
        if not (torch.is_grad_enabled() or torch.is_autocast_enabled(device.type)):
            return primitive(*inputs)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return primitive(*inputs)

    def register(shapes: Callable[..., Any]) -> Callable[..., Any]:
        _NAMESPACE.define(schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order))
        _NAMESPACE.impl(name, run, "CompositeExplicitAutograd")
        library.register_fake(f"aea::{name}", shapes, lib=_NAMESPACE)
        operator: Callable[..., Any] = getattr(torch.ops.aea, name).default
        operator.__doc__ = shapes.__doc__
        return operator

    return register


def _wide(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=accumulation_dtype(x.dtype))


# ---- the block's primitives -----------------------------------------------------------------------------------------


@_operator("statistics(Tensor x, str backend) -> (Tensor, Tensor)")
def statistics(x: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over batch and space, (C,) each, float64 to keep their digits: one read of x."""
    return x.new_empty(x.shape[1], dtype=torch.float64), x.new_empty(x.shape[1], dtype=torch.float64)


@_operator("moments(Tensor x, Tensor[] norm, float eps, Tensor? references, SymInt own, str backend) -> Tensor")
def moments(x: Tensor, norm: Sequence[Tensor], eps: float, references: Tensor | None, own: int, backend: str) -> Tensor:
    """Sum of zh zh^T over the positions of each group and the references (R, C) of the own ones: one read of x.

    Returns (G, C+1, C+1).
    """
    return _wide(x, group_count(x.shape[0], own), x.shape[1] + 1, x.shape[1] + 1)


@_operator("fold(Tensor gram, Tensor[] projections, int heads, float scale, str backend) -> Tensor")
def fold(gram: Tensor, projections: Sequence[Tensor], heads: int, scale: float, backend: str) -> Tensor:
    """M (G, O, C+1), `folding.fold`."""
    return _wide(gram, gram.shape[0], projections[-1].shape[0], gram.shape[2])


@_operator("apply_to_features(Tensor x, Tensor[] norm, float eps, Tensor matrix, bool residual, str backend) -> Tensor")
def apply_to_features(
    x: Tensor, norm: Sequence[Tensor], eps: float, matrix: Tensor, residual: bool, backend: str
) -> Tensor:
    """M zh at every position, plus x if `residual`, with matrix (G, O, C+1): one read of x, one write.

    Returns (B, O, *spatial) in x's dtype, and in its layout where O = C.
    """
    return empty_features(x, matrix.shape[1])


@_operator("outer_with_features(Tensor a, Tensor x, Tensor[] norm, float eps, SymInt own, str backend) -> Tensor")
def outer_with_features(a: Tensor, x: Tensor, norm: Sequence[Tensor], eps: float, own: int, backend: str) -> Tensor:
    """Sum of a zh^T over the positions of each group, (G, A, C+1), for a (B, A, *spatial): one read of a and of x."""
    return _wide(x, group_count(x.shape[0], own), a.shape[1], x.shape[1] + 1)


@_operator(
    "fold_backward(Tensor dmatrix, Tensor gram, Tensor? references, SymInt own, Tensor[] projections, int heads, "
    "float scale, str backend) -> Tensor[]"
)
def fold_backward(
    dmatrix: Tensor, gram: Tensor, references: Tensor | None, own: int, projections: Sequence[Tensor], heads: int,
    scale: float, backend: str,
) -> list[Tensor]:  # fmt: skip
    """`folding.fold_backward`: pull = dG + dG^T, then the gradients of references (empty if None) and projections."""
    dreferences = _wide(gram, 0) if references is None else _wide(gram, *references.shape)
    return [torch.empty_like(gram), dreferences, *(_wide(gram, *p.shape) for p in projections)]


@_operator(
    "features_backward(Tensor dy, Tensor x, Tensor[] norm, float eps, bool batch_statistics, Tensor matrix, "
    "Tensor pull, str backend) -> (Tensor, Tensor)"
)
def features_backward(
    dy: Tensor, x: Tensor, norm: Sequence[Tensor], eps: float, batch_statistics: bool, matrix: Tensor, pull: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of ``x + M zh`` with M a function of the moments of zh: two reads and one write of x.

    dz = M^T dy + pull zh, and dx = dy + dz through ReLU6 and BN; `batch_statistics`: also through mean and variance,
    which takes sums over all positions first, so two reads more.

    Returns:
        dx like x, and the gradients of BN's weight and bias, (2, C), or (2, 0) without a norm.
    """
    return torch.empty_like(x), _wide(x, 2, x.shape[1] if norm else 0)


# ---- the operators' primitives: positions before channels -----------------------------------------------------------


@_operator("outer_sum(Tensor a, Tensor b, str backend) -> Tensor")
def outer_sum(a: Tensor, b: Tensor, backend: str) -> Tensor:
    """Sum over positions of a b^T, (B, H, A, E), for a (B, H, N, A), b (B, H, N, E): one read of each."""
    return _wide(a, *a.shape[:2], a.shape[3], b.shape[3])


@_operator("apply_matrix(Tensor a, Tensor matrix, str backend) -> Tensor")
def apply_matrix(a: Tensor, matrix: Tensor, backend: str) -> Tensor:
    """M a at every position, (B, H, N, O), for a (B, H, N, A), matrix (B, H, O, A): one read, one write."""
    return empty_positions(a, matrix.shape[2])


@_operator("apply_matrix_backward(Tensor dy, Tensor a, Tensor matrix, str backend) -> (Tensor, Tensor)")
def apply_matrix_backward(dy: Tensor, a: Tensor, matrix: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Gradients of `apply_matrix`, M^T dy and the sum of dy a^T, in one pass: two reads, one write."""
    return empty_positions(a, a.shape[3]), _wide(a, *matrix.shape)
