"""The whole block of Fig. 3 by two routes: folded into one matrix, ``y = x + M zh``, or through queries, keys, values.

Folded, what is kept for backward is x and C x C matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from . import folding, ops
from .autograd import ApplyMatrix, OuterSum, differentiable
from .layout import accumulation_dtype
from .parameters import Norm, Projections
from .summary import sum_over_processes

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class BlockSpec(NamedTuple):
    """What of the block is not a tensor."""

    heads: int
    scale: float
    own: int
    """How many images, from the first, take the reference branch; the others share their keys (Section 5.1)."""
    eps: float
    """BN's."""
    batch_statistics: bool
    """BN's mean and variance come from x."""
    group: ProcessGroup | None
    """The processes over which the batch-aware keys and BN's statistics are pooled."""
    backend: str


class AttentionBlock(torch.autograd.Function):
    """``y = x + M zh``: BN, ReLU6, projections, both branches, output projection and residual (Fig. 3).

    Tensors: x (B, C, *spatial); weight, bias, mean and variance of BN (C,), None where there is no BN or x gives them;
    references (R, C) or None; the four projections. Returns y and, where they come from x, mean and biased variance.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        references: Tensor | None,
        spec: BlockSpec,
        *projections: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        heads, scale, own, eps, batch_statistics, group, backend = spec
        if batch_statistics:
            mean, variance = ops.statistics(x, backend)
            mean, variance = _pool_statistics(mean, variance, x.numel() // x.shape[1], group)
        norm = _norm(weight, bias, mean, variance)
        gram = ops.moments(x, norm, eps, references, own, backend)
        gram = _pool_over_processes(gram, own, group)
        matrix = ops.fold(gram, projections, heads, scale, backend)
        y = ops.apply_to_features(x, norm, eps, matrix, True, backend)
        ctx.save_for_backward(x, weight, bias, mean, variance, references, *projections, gram, matrix)
        ctx.spec = spec
        if not batch_statistics:
            return y, None, None
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _dmean: Tensor | None, _dvariance: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, variance, references, *projections, gram, matrix = ctx.saved_tensors
        heads, scale, own, eps, batch_statistics, group, backend = ctx.spec
        if differentiable():
            inputs = (x, weight, bias, mean, variance, references, None, *projections)
            return _differentiable_backward(dy, inputs, ctx.needs_input_grad, ctx.spec)
        norm = _norm(weight, bias, mean, variance)
        dmatrix = ops.outer_with_features(dy, x, norm, eps, own, backend)
        pull, dreferences, *dprojections = ops.fold_backward(
            dmatrix, gram, references, own, projections, heads, scale, backend
        )
        pull = _pool_over_processes(pull, own, group)
        pooled = batch_statistics and group is not None
        dx, dnorm = ops.features_backward(dy, x, norm, eps, batch_statistics and not pooled, matrix, pull, backend)
        if pooled:
            dx = _through_pooled_statistics(dx, x, norm, eps, dnorm, group)
        return (
            dx,
            dnorm[0] if norm else None,
            dnorm[1] if norm else None,
            None,
            None,
            None if references is None else dreferences,
            None,
            *dprojections,
        )


def _norm(*norm: Tensor | None) -> list[Tensor]:
    """[weight, bias, mean, variance], or [] where there is no BN."""
    return [t for t in norm if t is not None]


def _pool_over_processes(matrices: Tensor, own: int, group: ProcessGroup | None) -> Tensor:
    """(G, ...) -> (G, ...): the shared group summed over the processes; its own adjoint."""
    if group is None or matrices.shape[0] == own:
        return matrices
    return torch.cat([matrices[:own], sum_over_processes(matrices[own:], group)])


def _pool_statistics(mean: Tensor, variance: Tensor, count: int, group: ProcessGroup | None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,), float64, of `count` positions here, over those of all processes."""
    if group is None:
        return mean, variance
    sums = torch.cat([mean, variance + mean**2, mean.new_ones(1)]) * count
    sums = sum_over_processes(sums, group)
    mean, square = (sums[:-1] / sums[-1].clamp(min=1)).chunk(2)
    return mean, (square - mean**2).clamp(min=0)


def _through_pooled_statistics(
    dx: Tensor, x: Tensor, norm: list[Tensor], eps: float, dnorm: Tensor, group: ProcessGroup | None
) -> Tensor:
    """dx as if mean and variance were constants -> dx; dnorm are this process's gradients of weight and bias (2, C).

    BN's derivative subtracts from the gradient of its output what that has of 1 and of xhat = (x - mean) / std, the
    means of which over all positions are those very gradients.
    """
    weight, _, mean, variance = (t.to(dnorm.dtype) for t in norm)
    count = dnorm.new_full((1,), x.numel() // x.shape[1])
    sums = sum_over_processes(torch.cat([dnorm.flatten(), count]), group)
    dweight, dbias = (sums[:-1] / sums[-1].clamp(min=1)).chunk(2)  # (C,) each
    inverse = (variance + eps).rsqrt()
    slope = -weight * inverse**2 * dweight
    constant = -weight * inverse * dbias - slope * mean
    shape = (-1, *[1] * (x.dim() - 2))
    return (dx + (slope.view(shape) * x + constant.view(shape))).to(dx.dtype)


def _differentiable_backward(
    dy: Tensor, inputs: tuple[Any, ...], needed: tuple[bool, ...], spec: BlockSpec
) -> tuple[Tensor | None, ...]:
    """The gradients by autograd through the other route, whose every step has derivatives in turn."""
    x, weight, bias, mean, variance, references, _, *projections = inputs
    norm = None if weight is None else Norm(weight, bias, mean, variance, spec.eps)
    with torch.autocast(dy.device.type, enabled=False):
        y, _, _ = project_first(x, norm, Projections(*projections), references, spec)
        wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
        gradients = iter(torch.autograd.grad(y, wanted, dy, create_graph=True, allow_unused=True))
    return tuple(next(gradients) if need else None for need in needed)


# ---- the two halves of prediction, for images that come in tiles -----------------------------------------------------


def key_moments(x: Tensor, norm: list[Tensor], eps: float, backend: str) -> Tensor:
    """Sum of zh zh^T over the positions of each image of x, (B, C+1, C+1)."""
    return ops.moments(x, norm, eps, None, x.shape[0], backend)


def attend_to_moments(
    x: Tensor,
    norm: list[Tensor],
    eps: float,
    gram: Tensor,
    references: Tensor | None,
    projections: Projections,
    heads: int,
    scale: float,
    backend: str,
) -> Tensor:
    """``x + M zh`` with M of the keys that gram (B, C+1, C+1) sums up, and of the references."""
    with torch.autocast(x.device.type, enabled=False):  # as inside the operators
        gram = folding.add_references(gram, references, gram.shape[0])
    matrix = ops.fold(gram, projections, heads, scale, backend)
    return ops.apply_to_features(x, norm, eps, matrix, True, backend)


# ---- the route through queries, keys and values ---------------------------------------------------------------------


def project_first(
    x: Tensor, norm: Norm | None, projections: Projections, references: Tensor | None, spec: BlockSpec
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The block in plain operations around the operators: arguments and results as `AttentionBlock`.

    Faster than folding where keys and values are much narrower than the feature map; differentiable any number of
    times.
    """
    heads, scale, own, _, batch_statistics, group, backend = spec
    z, mean, variance = _features(x, norm, batch_statistics, group)
    query, query_bias, key, key_bias, value, value_bias, output, output_bias = (t.to(x.dtype) for t in projections)

    def project(weight: Tensor, bias: Tensor) -> Tensor:
        """(B, C, S) -> (B, H, S, E)."""
        return (weight @ z + bias[:, None]).unflatten(1, (heads, -1)).mT

    keys = project(key, key_bias)
    state = folding.gather(OuterSum.apply(project(value, value_bias), keys, backend), own)  # (G, H, D, E)
    shared = (x.shape[0] - own) * z.shape[2]
    count = torch.cat([state.new_full((own,), z.shape[2]), state.new_full((state.shape[0] - own,), shared)])  # (G,)
    if references is not None:
        wide = Projections(*(t.to(state.dtype) for t in projections))
        rows = references.to(state.dtype)
        reference_keys = (rows @ wide.key_weight.T + wide.key_bias).unflatten(1, (heads, -1))  # (R, H, E)
        reference_values = (rows @ wide.value_weight.T + wide.value_bias).unflatten(1, (heads, -1))
        joined = torch.einsum("rhd,rhe->hde", reference_values, reference_keys)
        state = torch.cat([state[:own] + joined, state[own:]])
        count = torch.cat([count[:own] + references.shape[0], count[own:]])
    state = _pool_over_processes(state, own, group)
    count = _pool_over_processes(count, own, group)
    matrix = folding.spread(state * (scale / count.clamp(min=1))[:, None, None, None], x.shape[0])
    attended = ApplyMatrix.apply(project(query, query_bias), matrix, backend).mT.flatten(1, 2)  # (B, H * D, S)
    y = x + (output @ attended + output_bias[:, None]).reshape(x.shape)
    return (y, mean, variance) if batch_statistics else (y, None, None)


def _features(
    x: Tensor, norm: Norm | None, batch_statistics: bool, group: ProcessGroup | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """z, (B, C, S), in x's dtype; and the mean and biased variance that it was made with."""
    z = x.flatten(2)
    if norm is None:
        return z, None, None
    z = z.to(accumulation_dtype(x.dtype))
    mean, variance = norm.mean, norm.variance
    if batch_statistics or mean is None or variance is None:
        mean = z.mean((0, 2))
        variance = ((z - mean[:, None]) ** 2).mean((0, 2))
        pooled = _pool_statistics(mean.double(), variance.double(), z.shape[0] * z.shape[2], group)
        mean, variance = (t.to(z.dtype) for t in pooled)
    z = (z - mean[:, None]) / (variance + norm.eps).sqrt()[:, None]
    z = torch.nn.functional.relu6(z * norm.weight[:, None] + norm.bias[:, None])
    return z.to(x.dtype), mean.detach(), variance.detach()
