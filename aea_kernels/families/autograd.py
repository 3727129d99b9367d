"""The primitives of the families as torch.autograd.Functions.

First derivatives run on the fused primitives; a backward that must itself be differentiable runs on
plain operations, with copies of the feature maps' size. So does all that torch.func transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.autograd import differentiable
from ..core.dtypes import acc_dtype, without_autocast
from ..core.transforms import Function
from . import ops


def plain_gradients(
    function: type[Function], ctx: Any, inputs: tuple[Any, ...], grads: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradients of a Function's inputs, which have derivatives in turn; None where none is
    needed.

    Args:
        function: whose `plain` is differentiated.
        ctx: of its backward.
        inputs: all of them, tensors or not.
        grads: of its outputs that are differentiable, the first ones.
    """
    with torch.enable_grad(), without_autocast(grads[0].device):
        # views: an input may have been computed from another one, whose gradient that is not
        needed = ctx.needs_input_grad
        views = [t.view_as(t) if n else t for t, n in zip(inputs, needed, strict=True)]
        outputs = function.plain(*views)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        kept = [(y, grad) for y, grad in zip(outputs, grads, strict=False) if y.requires_grad]
        outputs, grads = zip(*kept, strict=True)
        wanted = [view for view, n in zip(views, needed, strict=True) if n]
        found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True))
    return tuple(next(found) if n else None for n in needed)


class PhiOuterSum(Function):
    """`ops.phi_outer_sum`: key (B, H, L, E), value (B, H, L, D) -> sums (B, H, E, D+1), maximum,
    not differentiable.
    """

    @staticmethod
    def forward(key: Tensor, value: Tensor, phi: str, backend: str) -> tuple[Tensor, Tensor]:
        return ops.phi_outer_sum(key, value, phi, backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        key, value, ctx.phi, ctx.backend = inputs
        _, maximum = output
        ctx.mark_non_differentiable(maximum)
        ctx.save_for_backward(key, value, maximum)

    @staticmethod
    def backward(ctx: Any, grad_sums: Tensor, _maximum_grad: Tensor) -> tuple[Tensor | None, ...]:
        key, value, maximum = ctx.saved_tensors
        if differentiable(grad_sums):
            inputs = (key, value, ctx.phi, ctx.backend)
            return plain_gradients(PhiOuterSum, ctx, inputs, [grad_sums])
        rest = (key, value, maximum, ctx.phi, ctx.backend)
        return *ops.phi_outer_sum_backward(grad_sums, *rest), None, None

    @staticmethod
    def plain(key: Tensor, value: Tensor, phi: str, backend: str) -> tuple[Tensor, Tensor]:
        k, v = (t.to(acc_dtype(key.dtype)) for t in (key, value))
        if phi == "relu":
            maximum, scores = k.new_empty(*k.shape[:2], 0), torch.relu(k)
        else:
            lowest = k.new_full((*k.shape[:2], 1, k.shape[3]), -torch.inf)
            maximum = torch.cat([lowest, k.detach()], 2).amax(2)
            # without positions it is -inf, and exp(x - maximum) would be NaN
            finite = maximum.masked_fill(maximum == -torch.inf, 0)
            scores = (k - finite[:, :, None]).exp()
        return scores.mT @ torch.cat([v, torch.ones_like(v[..., :1])], -1), maximum


class PhiApply(Function):
    """`ops.phi_apply`: query (B, H, N, E), matrix (B, H, E, D), or (B, H, E, D+1) for "relu" -> (B,
    H, N, D).
    """

    @staticmethod
    def forward(query: Tensor, matrix: Tensor, phi: str, eps: float, backend: str) -> Tensor:
        return ops.phi_apply(query, matrix, phi, eps, backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        query, matrix, ctx.phi, ctx.eps, ctx.backend = inputs
        ctx.save_for_backward(query, matrix)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, matrix = ctx.saved_tensors
        rest = (query, matrix, ctx.phi, ctx.eps, ctx.backend)
        if differentiable(grad_output):
            return plain_gradients(PhiApply, ctx, rest, [grad_output])
        return *ops.phi_apply_backward(grad_output, *rest), None, None, None

    @staticmethod
    def plain(query: Tensor, matrix: Tensor, phi: str, eps: float, backend: str) -> Tensor:
        q = query.to(matrix.dtype)
        if phi == "exp":
            return (q.softmax(-1) @ matrix).to(query.dtype)
        scores = torch.relu(q) @ matrix
        return (scores[..., :-1] / (scores[..., -1:] + eps)).to(query.dtype)


class OuterSumAndSquares(Function):
    """`ops.outer_sum_and_squares`: a (B, H, N, A), b (B, H, N, E) -> (B, H, A, E), (B, H, A), (B,
    H, E).
    """

    @staticmethod
    def forward(a: Tensor, b: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
        return ops.outer_sum_and_squares(a, b, backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        a, b, ctx.backend = inputs
        ctx.save_for_backward(a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        if differentiable(grads[0]):
            return plain_gradients(OuterSumAndSquares, ctx, (a, b, ctx.backend), grads)
        grad_a, grad_b = ops.outer_sum_and_squares_backward(*grads, a, b, ctx.backend)
        needs_a, needs_b, _ = ctx.needs_input_grad
        return grad_a if needs_a else None, grad_b if needs_b else None, None

    @staticmethod
    def plain(a: Tensor, b: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
        wide_a, wide_b = (t.to(acc_dtype(a.dtype)) for t in (a, b))
        return wide_a.mT @ wide_b, wide_a.square().sum(-2), wide_b.square().sum(-2)
