"""The primitives as torch operators ``aea::...``: what torch.compile, torch.export and CUDA graphs
see of this library.

Each is opaque: its shapes are known in advance, its values come from the backend that its last
argument names. None is differentiable by itself; the derivatives are in `autograd.py` and
`block/function.py`. Each computes in its own precision: autocast stays outside.

Notation: a feature map x is (B, C, *spatial). `kind`, `parameters` and `eps` are a
`block.spec.Prologue`, which makes u of x at every position; uh = (u, 1). `affine` (B, 2, C+1), or
(1, 2, C+1) for all images, is that of `block.norms`; None where z = u. zh = (z, 1). Images form
G groups: the first `reference_images` are groups of one, the others one group. Image i belongs to
group min(i, G - 1). Matrices and sums are in the accumulation dtype. `projections` are the eight
tensors of `block.spec.Projections`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor, library

from ..block.folding import group_count
from ..block.norms import empty_gradients
from . import known_calls, tracer
from .dtypes import acc_dtype, empty_features, empty_positions

_NAMESPACE = library.Library("aea", "DEF")


def operator(shapes: Callable[..., Any]) -> Callable[..., Any]:
    """Register ``aea::NAME`` with the signature of a function that returns empty results, with
    their shapes, dtypes and strides; the function of that name in a backend computes them.
    """
    name = shapes.__name__

    def compute(*arguments: Any) -> Any:
        *inputs, backend = arguments
        device = inputs[0].device.type
        if not (torch.is_grad_enabled() or torch.is_autocast_enabled(device)):
            return known_calls.primitive(name, inputs, backend)
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return known_calls.primitive(name, inputs, backend)

    schema = library.infer_schema(shapes, mutates_args=())
    _NAMESPACE.define(
        name + schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    )
    _NAMESPACE.impl(name, compute, "CompositeExplicitAutograd")
    library.register_fake(f"aea::{name}", shapes, lib=_NAMESPACE)
    registered = getattr(torch.ops.aea, name).default

    @wraps(shapes)
    def operate(*arguments: Any) -> Any:
        if torch.compiler.is_compiling() or tracer.recorder() is None:
            return registered(*arguments)
        # what the primitive does is written down, and not that it was called
        return compute(*arguments)

    return operate


def _empty(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=acc_dtype(x.dtype))


# ---- the block: feature maps x (B, C, *spatial) --------------------------------------------------


@operator
def statistics(x: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over batch and space, (C,) each, float64 to keep their digits: one
    read of x.
    """
    channels = x.shape[1]
    return x.new_empty(channels, dtype=torch.float64), x.new_empty(channels, dtype=torch.float64)


@operator
def pivot(x: Tensor, groups: int, backend: str) -> Tensor:
    """A number near the mean of each group of channels of each image, for every channel, (B, C): a
    few positions of x are read.
    """
    return _empty(x, *x.shape[:2])


@operator
def moments(
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    references: Tensor | None,
    reference_images: int,
    backend: str,
) -> Tensor:
    """Sum of uh uh^T over the positions of each group, and over the references (R, C) in the groups
    of one.

    One read of x. Returns (G, C+1, C+1).
    """
    width = x.shape[1] + 1
    return _empty(x, group_count(x.shape[0], reference_images), width, width)


@operator
def keys(
    gram: Tensor, affine: Tensor, references: Tensor | None, reference_images: int, backend: str
) -> Tensor:
    """Moments of zh and of the references (R, C) of each group, (G, C+1, C+1), from moments of uh
    of each image, (B, C+1, C+1).
    """
    return _empty(gram, group_count(gram.shape[0], reference_images), *gram.shape[1:])


@operator
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
    backend: str,
) -> tuple[Tensor, Tensor]:
    """``y = x + M zh`` at every position, with M of the keys whose moments are gram (G, C+1, C+1):
    one read, one write.

    Returns y (B, C, *spatial) in x's dtype and layout, and M (G, C, C+1), `folding.fold`.
    """
    outputs = projections[-1].shape[0]
    return empty_features(x, outputs), _empty(x, gram.shape[0], outputs, gram.shape[2])


@operator
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
    backend: str,
) -> list[Tensor]:
    """The gradients of all that M is made of: one read of grad_output, one of x.

    Returns dG + dG^T (G, C+1, C+1), with dG that of the moments; then the gradients of affine
    (B, 2, C+1), of the references, each empty if None, and of the eight projections:
    `folding.fold_backward` of the sum of grad_output zh^T over each group.
    """
    affine_grad = _empty(gram, *((0,) if affine is None else (x.shape[0], 2, x.shape[1] + 1)))
    references_grad = _empty(gram, *((0,) if references is None else references.shape))
    projections_grad = [_empty(gram, *p.shape) for p in projections]
    return [torch.empty_like(gram), affine_grad, references_grad, *projections_grad]


@operator
def features_backward(
    grad_output: Tensor,
    x: Tensor,
    kind: str,
    parameters: Sequence[Tensor],
    eps: float,
    batch_statistics: bool,
    matrix: Tensor,
    gram_grad: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of BN in ``x + N uh``, N a function of the moments of uh: two reads,
    one write of x.

    du = N^T dy + (dG + dG^T) uh, and dx = dy + du through the prologue. `batch_statistics`: also
    through BN's mean and variance, which takes sums over all positions first, so two reads more.

    Args of its own: matrix: N (G, C, C+1) or (B, C, C+1), whose last column does not count;
    gram_grad: dG + dG^T of the moments of uh, of as many.

    Returns dx like x, and the gradients of BN's weight and bias, (2, C), or (2, 0) without BN.
    """
    return torch.empty_like(x), empty_gradients(x, kind)


@operator
def apply_to_features(x: Tensor, matrix: Tensor, backend: str) -> Tensor:
    """M xh at every position with matrix (G, O, C+1): one read of x, one write.

    Returns (B, O, *spatial) in x's dtype, and in its layout where O = C.
    """
    return empty_features(x, matrix.shape[1])


# ---- the operators' primitives: positions before channels ----------------------------------------


@operator
def outer_sum(a: Tensor, b: Tensor, backend: str) -> Tensor:
    """Sum over positions of a b^T, (B, H, A, E), for a (B, H, N, A), b (B, H, N, E): one read of
    each.
    """
    return _empty(a, *a.shape[:2], a.shape[3], b.shape[3])


@operator
def apply_matrix(a: Tensor, matrix: Tensor, backend: str) -> Tensor:
    """M a at every position, (B, H, N, O), for a (B, H, N, A), matrix (B, H, O, A): one read, one
    write.
    """
    return empty_positions(a, matrix.shape[2])


@operator
def apply_matrix_backward(
    grad_output: Tensor, a: Tensor, matrix: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """Gradients of `apply_matrix`, M^T dy and the sum of dy a^T, in one pass: two reads, one
    write.
    """
    return empty_positions(a, a.shape[3]), _empty(a, *matrix.shape)
