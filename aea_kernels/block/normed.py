"""The block with GroupNorm, LayerNorm or RMSNorm and no activation after it: ``y = x + M zh = x +
(M A) uh``.

Two reads of x and one write forward, four reads and one write backward; u and A are those of
`norms.py`. Kept for backward: x and C x C matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core import ops
from ..core.autograd import differentiable
from ..core.dtypes import without_autocast
from ..core.transforms import Function
from . import folding, norms
from .function import BlockSpec, pool_over_processes, project_first
from .spec import ChannelNorm, Projections


class NormedBlock(Function):
    """The block of Fig. 3 with ``z = norm(x)`` in place of BN and ReLU6.

    Tensors: x (B, C, *spatial); weight and bias of the norm, (C,) or None; references (R, C) or
    None; the four projections. Returns y, and for backward the pivot (None but with GroupNorm),
    moments of u and of the keys, affine map A and M.
    """

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        references: Tensor | None,
        kind: str,
        groups: int,
        spec: BlockSpec,
        query_weight: Tensor,
        query_bias: Tensor,
        key_weight: Tensor,
        key_bias: Tensor,
        value_weight: Tensor,
        value_bias: Tensor,
        output_weight: Tensor,
        output_bias: Tensor,
    ) -> tuple[Tensor | None, ...]:
        # one by one: without gradients torch.compile counts the parameters to tell whether the
        # first is a context
        projections = (
            query_weight, query_bias, key_weight, key_bias, value_weight, value_bias, output_weight, output_bias
        )  # fmt: skip
        heads, scale, reference_images, eps, _, group, backend = spec
        norm = ChannelNorm(kind, weight, bias, eps, groups)
        pivot = ops.pivot(x, backend) if kind == "group" else None
        gram = ops.normed_moments(x, kind, eps, pivot, backend)
        affine = norms.affine(norm, gram, pivot)
        keys = ops.normed_keys(gram, affine, references, reference_images, backend)
        keys = pool_over_processes(keys, reference_images, group)
        y, matrix = ops.attend_to_normed(
            x, kind, eps, pivot, affine, keys, projections, heads, scale, backend
        )
        return y, pivot, gram, affine, keys, matrix

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        x, weight, bias, references, ctx.kind, ctx.groups, ctx.spec, *projections = inputs
        _, *made = output
        ctx.mark_non_differentiable(*(t for t in made if t is not None))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, references, *projections, *made)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        x, weight, bias, references, *projections = ctx.saved_tensors[:12]
        pivot, gram, affine, keys, matrix = ctx.saved_tensors[12:]
        if grad_output is None:
            return (None,) * 15
        heads, scale, reference_images, eps, _, group, backend = ctx.spec
        norm = ChannelNorm(ctx.kind, weight, bias, eps, ctx.groups)
        if differentiable(grad_output):
            inputs = (x, weight, bias, references, None, None, None, *projections)
            return _differentiable_backward(
                grad_output, inputs, ctx.needs_input_grad, norm, ctx.spec
            )
        keys_grad, affine_grad, references_grad, *projections_grad = ops.attend_to_normed_backward(
            grad_output, x, norm.kind, eps, pivot, affine, keys, matrix, references, reference_images, projections,
            heads, scale, backend,
        )  # fmt: skip
        keys_grad = folding.expand_groups(
            pool_over_processes(keys_grad, reference_images, group), x.shape[0]
        )
        gram_grad, weight_grad, bias_grad = norms.backward(
            norm, gram, pivot, affine, keys_grad, affine_grad
        )
        composed = norms.compose(folding.expand_groups(matrix, x.shape[0]), affine)
        grad_x = ops.normed_features_backward(
            grad_output, x, norm.kind, eps, pivot, composed, gram_grad, backend
        )
        return (
            grad_x,
            None if weight is None else weight_grad,
            None if bias is None else bias_grad,
            None if references is None else references_grad,
            None,
            None,
            None,
            *projections_grad,
        )


def _differentiable_backward(
    grad_output: Tensor,
    inputs: tuple[Any, ...],
    needed: tuple[bool, ...],
    norm: ChannelNorm,
    spec: BlockSpec,
) -> tuple[Tensor | None, ...]:
    """The gradients by autograd through the other route, whose every step has derivatives in
    turn.
    """
    x, _, _, references, _, _, _, *projections = inputs
    again = torch.is_grad_enabled()
    with without_autocast(grad_output.device), torch.enable_grad():
        y, _, _ = project_first(x, norm, Projections(*projections), references, spec)
        wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
        gradients = iter(
            torch.autograd.grad(y, wanted, grad_output, create_graph=again, allow_unused=True)
        )
    return tuple(next(gradients) if need else None for need in needed)
