"""The whole block of Fig. 3 by two routes: folded into one matrix, ``y = x + M zh``, or through
queries, keys, values.

Folded, what is kept for backward is x and C x C matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..core import ops
from ..core.autograd import ApplyMatrix, OuterSum, differentiable
from ..core.dtypes import acc_dtype, without_autocast
from ..summary import sum_over_processes
from . import folding, norms
from .spec import ChannelNorm, Norm, Projections

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class BlockSpec(NamedTuple):
    """What of the block is not a tensor."""

    heads: int
    scale: float
    reference_images: int
    """How many images, from the first, take the reference branch; the others share their keys
    (Section 5.1).
    """
    eps: float
    """BN's."""
    batch_statistics: bool
    """BN's mean and variance come from x."""
    group: ProcessGroup | None
    """The processes over which the batch-aware keys and BN's statistics are pooled."""
    backend: str


class AttentionBlock(torch.autograd.Function):
    """``y = x + M zh``: BN, ReLU6, projections, both branches, output projection and residual (Fig.
    3).

    Tensors: x (B, C, *spatial); weight, bias, mean and variance of BN (C,), None where there is no
    BN or x gives them; references (R, C) or None; the four projections. Returns y and, where they
    come from x, mean and biased variance.
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
        heads, scale, reference_images, eps, batch_statistics, group, backend = spec
        if batch_statistics:
            mean, variance = ops.statistics(x, backend)
            mean, variance = _pool_statistics(mean, variance, x.numel() // x.shape[1], group)
        norm = _norm(weight, bias, mean, variance)
        gram = ops.moments(x, norm, eps, references, reference_images, backend)
        gram = pool_over_processes(gram, reference_images, group)
        y, matrix = ops.attend_to_moments(x, norm, eps, gram, projections, heads, scale, backend)
        ctx.save_for_backward(
            x, weight, bias, mean, variance, references, *projections, gram, matrix
        )
        ctx.spec = spec
        if not batch_statistics:
            return y, None, None
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(
        ctx: Any, grad_output: Tensor, _mean_grad: Tensor | None, _variance_grad: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, variance, references, *projections, gram, matrix = ctx.saved_tensors
        heads, scale, reference_images, eps, batch_statistics, group, backend = ctx.spec
        if differentiable(grad_output):
            inputs = (x, weight, bias, mean, variance, references, None, *projections)
            return _differentiable_backward(grad_output, inputs, ctx.needs_input_grad, ctx.spec)
        norm = _norm(weight, bias, mean, variance)
        gram_grad, references_grad, *projections_grad = ops.attend_to_moments_backward(
            grad_output,
            x,
            norm,
            eps,
            gram,
            references,
            reference_images,
            projections,
            heads,
            scale,
            backend,
        )
        gram_grad = pool_over_processes(gram_grad, reference_images, group)
        pooled = batch_statistics and group is not None
        grad_x, norm_grad = ops.features_backward(
            grad_output, x, norm, eps, batch_statistics and not pooled, matrix, gram_grad, backend
        )
        if pooled:
            grad_x = _through_pooled_statistics(grad_x, x, norm, eps, norm_grad, group)
        weight_grad, bias_grad = norm_grad if norm else (None, None)
        references_grad = None if references is None else references_grad
        return grad_x, weight_grad, bias_grad, None, None, references_grad, None, *projections_grad


def _norm(*norm: Tensor | None) -> list[Tensor]:
    """[weight, bias, mean, variance], or [] where there is no BN."""
    return [t for t in norm if t is not None]


def pool_over_processes(
    matrices: Tensor, reference_images: int, group: ProcessGroup | None
) -> Tensor:
    """(G, ...) -> (G, ...): the shared group summed over the processes; self-adjoint."""
    if group is None or matrices.shape[0] == reference_images:
        return matrices
    shared = sum_over_processes(matrices[reference_images:], group)
    return torch.cat([matrices[:reference_images], shared])


def _pool_statistics(
    mean: Tensor, variance: Tensor, count: int, group: ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,), float64, of `count` positions here, over those of all
    processes.
    """
    if group is None:
        return mean, variance
    sums = torch.cat([mean, variance + mean**2, mean.new_ones(1)]) * count
    sums = sum_over_processes(sums, group)
    mean, square = (sums[:-1] / sums[-1].clamp(min=1)).chunk(2)
    return mean, (square - mean**2).clamp(min=0)


def _through_pooled_statistics(
    grad_x: Tensor,
    x: Tensor,
    norm: list[Tensor],
    eps: float,
    norm_grad: Tensor,
    group: ProcessGroup | None,
) -> Tensor:
    """grad_x as if mean and variance were constants -> grad_x; norm_grad are this process's, of
    weight and bias (2, C).

    BN's derivative subtracts from the gradient of its output what that has of 1 and of xhat = (x -
    mean) / std, the means of which over all positions are those very gradients.
    """
    weight, _, mean, variance = (t.to(norm_grad.dtype) for t in norm)
    count = norm_grad.new_full((1,), x.numel() // x.shape[1])
    sums = sum_over_processes(torch.cat([norm_grad.flatten(), count]), group)
    weight_grad, bias_grad = (sums[:-1] / sums[-1].clamp(min=1)).chunk(2)  # (C,) each
    inverse = (variance + eps).rsqrt()
    slope = -weight * inverse**2 * weight_grad
    constant = -weight * inverse * bias_grad - slope * mean
    shape = (-1, *[1] * (x.dim() - 2))
    return (grad_x + (slope.view(shape) * x + constant.view(shape))).to(grad_x.dtype)


def _differentiable_backward(
    grad_output: Tensor, inputs: tuple[Any, ...], needed: tuple[bool, ...], spec: BlockSpec
) -> tuple[Tensor | None, ...]:
    """The gradients by autograd through the other route, whose every step has derivatives in
    turn.
    """
    x, weight, bias, mean, variance, references, _, *projections = inputs
    norm = None if weight is None else Norm(weight, bias, mean, variance, spec.eps)
    again = torch.is_grad_enabled()
    with without_autocast(grad_output.device), torch.enable_grad():
        y, _, _ = project_first(x, norm, Projections(*projections), references, spec)
        wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
        gradients = iter(
            torch.autograd.grad(y, wanted, grad_output, create_graph=again, allow_unused=True)
        )
    return tuple(next(gradients) if need else None for need in needed)


# ---- the route through queries, keys and values --------------------------------------------------


def project_first(
    x: Tensor,
    norm: Norm | ChannelNorm | None,
    projections: Projections,
    references: Tensor | None,
    spec: BlockSpec,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The block in plain operations around the operators: arguments and results as
    `AttentionBlock`.

    Faster than folding where keys and values are much narrower than the feature map; differentiable
    any number of times.
    """
    heads, scale, reference_images, _, batch_statistics, group, backend = spec
    z, mean, variance = features(x, norm, batch_statistics, group)
    query, query_bias, key, key_bias, value, value_bias, output, output_bias = (
        t.to(x.dtype) for t in projections
    )

    def project(weight: Tensor, bias: Tensor) -> Tensor:
        """(B, C, S) -> (B, H, S, E)."""
        return (weight @ z + bias[:, None]).unflatten(1, (heads, -1)).mT

    keys = project(key, key_bias)
    state = folding.sum_groups(
        OuterSum.apply(project(value, value_bias), keys, backend), reference_images
    )  # (G, H, D, E)
    shared = (x.shape[0] - reference_images) * z.shape[2]
    count = torch.cat(
        [
            state.new_full((reference_images,), z.shape[2]),
            state.new_full((state.shape[0] - reference_images,), shared),
        ]
    )  # (G,)
    if references is not None:
        wide = Projections(*(t.to(state.dtype) for t in projections))
        rows = references.to(state.dtype)
        reference_keys = (rows @ wide.key_weight.T + wide.key_bias).unflatten(
            1, (heads, -1)
        )  # (R, H, E)
        reference_values = (rows @ wide.value_weight.T + wide.value_bias).unflatten(1, (heads, -1))
        joined = torch.einsum("rhd,rhe->hde", reference_values, reference_keys)
        state = torch.cat([state[:reference_images] + joined, state[reference_images:]])
        count = torch.cat(
            [count[:reference_images] + references.shape[0], count[reference_images:]]
        )
    state = pool_over_processes(state, reference_images, group)
    count = pool_over_processes(count, reference_images, group)
    matrix = folding.expand_groups(
        state * (scale / count.clamp(min=1))[:, None, None, None], x.shape[0]
    )
    attended = ApplyMatrix.apply(project(query, query_bias), matrix, backend).mT.flatten(
        1, 2
    )  # (B, H * D, S)
    y = x + (output @ attended + output_bias[:, None]).reshape(x.shape)
    return (y, mean, variance) if batch_statistics else (y, None, None)


def features(
    x: Tensor, norm: Norm | ChannelNorm | None, batch_statistics: bool, group: ProcessGroup | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """z, (B, C, S), in x's dtype; and the mean and biased variance that it was made with."""
    z = x.flatten(2)
    if norm is None:
        return z, None, None
    z = z.to(acc_dtype(x.dtype))
    if isinstance(norm, ChannelNorm):
        return norms.normalised(z, norm).to(x.dtype), None, None
    mean, variance = norm.mean, norm.variance
    if batch_statistics or mean is None or variance is None:
        mean = z.mean((0, 2))
        variance = ((z - mean[:, None]) ** 2).mean((0, 2))
        pooled = _pool_statistics(mean.double(), variance.double(), z.shape[0] * z.shape[2], group)
        mean, variance = (t.to(z.dtype) for t in pooled)
    z = (z - mean[:, None]) / (variance + norm.eps).sqrt()[:, None]
    z = torch.nn.functional.relu6(z * norm.weight[:, None] + norm.bias[:, None])
    return z.to(x.dtype), mean.detach(), variance.detach()
