"""The whole block of Fig. 3, for every norm: ``y = x + M zh``.

Two reads of x and one write forward, four reads and one write backward; BN with batch statistics
reads x once more forward, and twice more backward. Kept for backward: x and C x C matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers

from ..backends import backend_name, resolved
from ..core import known_calls, ops, tracer
from ..core.autograd import differentiable
from ..core.checks import check_features
from ..core.dtypes import without_autocast
from ..core.transforms import transformed
from . import folding, norms
from .pooling import pool_over_processes, pool_statistics, statistics_backward
from .projected import differentiable_backward, project_first
from .route import route
from .spec import BlockSpec, Norm, Projections

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Pass = Callable[[Sequence[Any], BlockSpec], Any]
"""One of the two of the block, forward or backward: f(tensors, spec) -> tensors."""


def attention_block(
    x: Tensor,
    norm: Norm,
    projections: Projections,
    references: Tensor | None,
    *,
    heads: int,
    scale: float,
    reference_images: int | None = None,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``x + output(attention(q(z), k(z), v(z)))`` with z = norm(x) (Fig. 3), by the faster route.

    Args:
        x: feature map (B, C, *spatial), 1, 2 or 3 spatial axes, any strides.
        norm: what x passes before the projections.
        projections: weights (out, in) and biases (out,).
        references: (R, C) or None, projected by key and value as they are.
        reference_images: how many images, from the first, take ``A_R``; the others take ``A_batch``
            among themselves. None: all of them, as in prediction.
        group: processes over which the batch-aware keys and BN's statistics are pooled.

    Returns:
        y like x; mean and biased variance (C,) of x over batch and space where BN takes them from
        x, else None.

    Raises:
        ValueError, TypeError: x is not such a feature map.
    """
    check_features(x)

    # BN without mean and variance takes those of x
    spec = BlockSpec(
        heads,
        scale,
        reference_images,
        (norm.kind, norm.eps, norm.groups),
        norm.kind == "batch" and norm.mean is None,
        group,
        backend_name(),
    )

    # the Function has first derivatives only; the other route is made of operators that have all
    if transformed() or block_route(x, norm, projections, spec) == "project":
        with without_autocast(x.device):
            return project_first(x, norm, projections, references, spec)
    tensors = x, norm.weight, norm.bias, norm.mean, norm.variance, references
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return AttentionBlock.apply(*tensors, spec, *projections)

    # nothing is kept for a backward pass
    given = unwrap_dead_wrappers((*tensors, *projections))
    y, mean, variance, *_ = _forward(given, spec)
    return (y, mean, variance) if spec.batch_statistics else (y, None, None)


def block_route(x: Tensor, norm: Norm, projections: Projections, spec: BlockSpec) -> str:
    """``"fold"`` or ``"project"``."""
    kernels = resolved(spec.backend, x.device) == "triton"
    keys, values = projections.key_bias.shape[0], projections.value_bias.shape[0]
    over_channels = norm.kind in norms.OVER_CHANNELS
    sizes = x.shape[1], keys, values, spec.heads
    return route(*sizes, x.dtype, x.device, kernels, over_channels)


class AttentionBlock(torch.autograd.Function):
    """``y = x + M zh``: norm, projections, both branches, output projection and residual (Fig. 3).

    Tensors: x (B, C, *spatial); weight, bias, mean and variance of the norm (C,), None where it has
    none or x gives them; references (R, C) or None; the four projections. Returns y and, where BN
    takes them from x, mean and biased variance.
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
        tensors = x, weight, bias, mean, variance, references, *projections
        y, *kept = _forward(tensors, spec)
        mean, variance = kept[:2]
        ctx.save_for_backward(x, weight, bias, references, *projections, *kept)
        ctx.spec = spec
        ctx.set_materialize_grads(False)
        if not spec.batch_statistics:
            return y, None, None
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(
        ctx: Any, grad_output: Tensor | None, _mean_grad: None, _variance_grad: None
    ) -> tuple[Tensor | None, ...]:
        # nothing depends on y
        if grad_output is None:
            return (None,) * len(ctx.needs_input_grad)

        # a backward pass that must have derivatives in turn takes the route that has them all
        saved = ctx.saved_tensors
        if differentiable(grad_output):
            x, weight, bias, references, *projections = saved[:12]
            mean, variance = saved[12:14]
            kind, eps, groups = ctx.spec.norm
            norm = Norm(kind, weight, bias, mean, variance, eps, groups)
            return differentiable_backward(
                grad_output, x, norm, references, projections, ctx.needs_input_grad, ctx.spec
            )

        # in the order of `forward`'s arguments: mean, variance and spec get none
        x_grad, weight_grad, bias_grad, references_grad, *projections_grad = _backward(
            (grad_output, *saved), ctx.spec
        )
        of_norm = weight_grad, bias_grad, None, None
        return x_grad, *of_norm, references_grad, None, *projections_grad


def _remembered(function: Pass) -> Pass:
    """Outside autocast. What the host knows of earlier calls saves it most of the work; other
    processes it does not know.
    """

    @wraps(function)
    def called(tensors: Sequence[Any], spec: BlockSpec) -> Any:
        traceable = spec.group is None and not torch.compiler.is_compiling()
        device = tensors[0].device
        with without_autocast(device):
            if traceable and resolved(spec.backend, device) == "triton":
                return known_calls.call(function, tensors, spec)
            return function(tensors, spec)

    return called


@_remembered
def _forward(tensors: Sequence[Any], spec: BlockSpec) -> Sequence[Tensor | None]:
    """y, mean and variance of BN, and what the backward pass needs beside: pivot, moments of u,
    affine map, moments of the keys, the matrix, and the two statistics of GroupNorm.
    """
    x, weight, bias, mean, variance, references, *projections = tensors
    heads, scale, reference_images, (kind, eps, groups), batch_statistics, group, backend = spec
    if reference_images is None:
        reference_images = x.shape[0]

    # BN in training reads x once more: mean and variance come before ReLU6, the moments after it
    if batch_statistics:
        mean, variance = ops.statistics(x, backend)
        mean, variance = pool_statistics(mean, variance, x.numel() // x.shape[1], group)

    # one pass: what the keys are summarised by
    norm = Norm(kind, weight, bias, mean, variance, eps, groups)
    pivot = ops.pivot(x, groups, backend) if kind == "group" else None
    prologue = kind, norms.parameters(norm, pivot), eps

    # without an activation z is affine in u, and its moments follow from those of u
    statistics = None
    if kind in norms.AFFINE:
        gram = ops.moments(x, *prologue, None, x.shape[0], backend)
        statistics = norms.statistics(norm, gram, pivot, math.prod(x.shape[2:]))
        affine = norms.affine(norm, gram, statistics)
        keys = ops.keys(gram, affine, references, reference_images, backend)
    else:
        gram = affine = None
        keys = ops.moments(x, *prologue, references, reference_images, backend)
    keys = pool_over_processes(keys, reference_images, group)

    # the other: the matrix that they fold into, at every position
    y, matrix = ops.attend_to_moments(
        x, *prologue, affine, keys, projections, heads, scale, backend
    )
    of_group = statistics or (None, None)
    return y, mean, variance, pivot, gram, affine, keys, matrix, *of_group


@_remembered
def _backward(tensors: Sequence[Any], spec: BlockSpec) -> Sequence[Tensor | None]:
    """The gradients of x, of weight and bias of the norm, of references and projections, from that
    of y, the inputs of the forward pass, and what it kept.
    """
    # in the order in which `AttentionBlock.forward` saved them
    grad_output, x, weight, bias, references, *projections = tensors[:13]
    mean, variance, pivot, gram, affine, keys, matrix, group_mean, inverse = tensors[13:]
    heads, scale, reference_images, (kind, eps, groups), batch_statistics, group, backend = spec
    if reference_images is None:
        reference_images = x.shape[0]
    norm = Norm(kind, weight, bias, mean, variance, eps, groups)

    # one pass: what the keys and the projections get
    prologue = kind, norms.parameters(norm, pivot), eps
    of_keys = affine, keys, matrix, references, reference_images
    keys_grad, affine_grad, references_grad, *projections_grad = ops.attend_to_moments_backward(
        grad_output, x, *prologue, *of_keys, projections, heads, scale, backend
    )

    # every process attends to the keys of all: the sum over processes is its own adjoint
    gram_grad = pool_over_processes(keys_grad, reference_images, group)

    # through z = a u + t: to the moments of u, and to weight and bias of the norm
    weight_grad = bias_grad = None
    if affine is not None:
        gram_grad = folding.expand_groups(gram_grad, x.shape[0])
        statistics = None if pivot is None else norms.GroupStatistics(group_mean, inverse)
        gram_grad, weight_grad, bias_grad = norms.affine_backward(
            norm, gram, statistics, affine, gram_grad, affine_grad, math.prod(x.shape[2:])
        )

    # the other: what x gets, of itself and through the moments
    composed = norms.compose_linear(matrix, affine, x.shape[0])
    pooled = batch_statistics and group is not None
    x_grad, norm_grad = ops.features_backward(
        grad_output, x, *prologue, batch_statistics and not pooled, composed, gram_grad, backend
    )

    # what goes back through BN's statistics takes sums over all processes
    if pooled:
        x_grad = statistics_backward(x_grad, x, *prologue[1:], norm_grad, group)
    if kind == "batch":
        weight_grad, bias_grad = tracer.noted(torch.unbind, norm_grad)
    return (
        x_grad,
        None if weight is None else weight_grad,
        None if bias is None else bias_grad,
        None if references is None else references_grad,
        *projections_grad,
    )
