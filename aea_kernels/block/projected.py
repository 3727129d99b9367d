"""The block through queries, keys and values, in plain operations around the operators.

Faster than folding where keys and values are much narrower than the feature map; differentiable any
number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.autograd import ApplyMatrix, OuterSum
from ..core.dtypes import acc_dtype, without_autocast
from . import folding, norms
from .pooling import pool_over_processes, pool_statistics
from .spec import BlockSpec, Norm, Projections

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def project_first(
    x: Tensor, norm: Norm, projections: Projections, references: Tensor | None, spec: BlockSpec
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Arguments and results are those of `function.AttentionBlock`."""
    # z and the projections in x's dtype, in which they are multiplied
    z, mean, variance = features(x, norm, spec.group)
    reference_images = x.shape[0] if spec.reference_images is None else spec.reference_images
    query, query_bias, key, key_bias, value, value_bias, output, output_bias = (
        t.to(x.dtype) for t in projections
    )

    def project(weight: Tensor, bias: Tensor) -> Tensor:
        """(B, C, S) -> (B, H, S, E)."""
        return (weight @ z + bias[:, None]).unflatten(1, (spec.heads, -1)).mT

    # the keys of each group: their sum of v k^T, (G, H, D, E), and their number
    state = OuterSum.apply(project(value, value_bias), project(key, key_bias), spec.backend)
    state = folding.sum_groups(state, reference_images)
    count = state.new_full((x.shape[0],), z.shape[2])
    count = folding.sum_groups(count, reference_images)
    if references is not None:
        joined = _references_state(references, projections, spec.heads, state.dtype)
        state = _join(state, joined, reference_images)
        count = _join(count, references.shape[0], reference_images)
    state = pool_over_processes(state, reference_images, spec.group)
    count = pool_over_processes(count, reference_images, spec.group)

    # the queries against them
    weight = spec.scale / count.clamp(min=1)
    matrix = folding.expand_groups(state * weight[:, None, None, None], x.shape[0])
    attended = ApplyMatrix.apply(project(query, query_bias), matrix, spec.backend)
    attended = attended.mT.flatten(1, 2)  # (B, H * D, S)
    y = x + (output @ attended + output_bias[:, None]).reshape(x.shape)
    return (y, mean, variance) if spec.batch_statistics else (y, None, None)


def _references_state(
    references: Tensor, projections: Projections, heads: int, dtype: torch.dtype
) -> Tensor:
    """Sum of v k^T over the references (R, C), (H, D, E)."""
    rows = references.to(dtype)
    wide = Projections(*(t.to(dtype) for t in projections))
    keys = (rows @ wide.key_weight.T + wide.key_bias).unflatten(1, (heads, -1))  # (R, H, E)
    values = (rows @ wide.value_weight.T + wide.value_bias).unflatten(1, (heads, -1))
    return torch.einsum("rhd,rhe->hde", values, keys)


def _join(per_group: Tensor, more: Tensor | int, reference_images: int) -> Tensor:
    """(G, ...) -> (G, ...): `more` is added to the groups of one image."""
    return torch.cat([per_group[:reference_images] + more, per_group[reference_images:]])


def features(
    x: Tensor, norm: Norm, group: ProcessGroup | None = None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """z, (B, C, S), in x's dtype; and BN's mean and biased variance, (C,), where it has them.

    BN without mean and variance takes those of x, over all processes of `group`.
    """
    z = x.flatten(2)
    if norm.kind == "none":
        return z, None, None

    # the squares are those of the distance from the mean: a difference of sums would lose digits
    z = z.to(acc_dtype(x.dtype))
    mean, variance = norm.mean, norm.variance
    if norm.kind == "batch" and (mean is None or variance is None):
        mean = z.mean((0, 2))
        variance = ((z - mean[:, None]) ** 2).mean((0, 2))
        pooled = pool_statistics(mean.double(), variance.double(), z.shape[0] * z.shape[2], group)
        mean, variance = (t.to(z.dtype) for t in pooled)
        norm = norm._replace(mean=mean, variance=variance)

    # the statistics are returned without derivatives: only BN's running ones need them
    z = norms.normalised(z, norm).to(x.dtype)
    if mean is None or variance is None:
        return z, None, None
    return z, mean.detach(), variance.detach()


def differentiable_backward(
    grad_output: Tensor,
    x: Tensor,
    norm: Norm,
    references: Tensor | None,
    projections: Sequence[Tensor],
    needed: Sequence[bool],
    spec: BlockSpec,
) -> tuple[Tensor | None, ...]:
    """The gradients by autograd through this route, whose every step has derivatives in turn.

    Args:
        norm: with the statistics of x, where BN takes them from it.
        needed: of all arguments of `function.AttentionBlock`.

    Returns:
        As many gradients as `needed` has entries.
    """
    tensors = x, norm.weight, norm.bias, norm.mean, norm.variance, references, None, *projections
    again = torch.is_grad_enabled()
    with without_autocast(grad_output.device), torch.enable_grad():
        # Each has a node of its own. Where two are one tensor, or one was computed from another,
        # autograd would count what it adds up itself once more.
        inputs: list[Any] = [None if t is None else t.view_as(t) for t in tensors]
        x, weight, bias, mean, variance, references, _, *rest = inputs
        if spec.batch_statistics:
            mean = variance = None
        norm = norm._replace(weight=weight, bias=bias, mean=mean, variance=variance)

        y, _, _ = project_first(x, norm, Projections(*rest), references, spec)
        wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
        found = torch.autograd.grad(y, wanted, grad_output, create_graph=again, allow_unused=True)
    gradients = iter(found)
    return tuple(next(gradients) if need else None for need in needed)
