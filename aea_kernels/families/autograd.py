"""The primitives of the families as torch.autograd.Functions.

First derivatives run on the fused primitives; a backward that must itself be differentiable runs on
the plain operations of `plain.py`, and so does all that torch.func transforms.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..core.autograd import differentiable
from ..core.transforms import Function
from . import ops, plain


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
        arguments = grad_sums, *ctx.saved_tensors, ctx.phi
        if differentiable(grad_sums):
            return *plain.phi_outer_sum_backward(*arguments), None, None
        return *ops.phi_outer_sum_backward(*arguments, ctx.backend), None, None

    @staticmethod
    def plain(key: Tensor, value: Tensor, phi: str, backend: str) -> tuple[Tensor, Tensor]:
        return plain.phi_outer_sum(key, value, phi)


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
        arguments = grad_output, *ctx.saved_tensors, ctx.phi, ctx.eps
        if differentiable(grad_output):
            return *plain.phi_apply_backward(*arguments), None, None, None
        return *ops.phi_apply_backward(*arguments, ctx.backend), None, None, None

    @staticmethod
    def plain(query: Tensor, matrix: Tensor, phi: str, eps: float, backend: str) -> Tensor:
        return plain.phi_apply(query, matrix, phi, eps)


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
        arguments = *grads, *ctx.saved_tensors
        if differentiable(grads[0]):
            grad_a, grad_b = plain.outer_sum_and_squares_backward(*arguments)
        else:
            grad_a, grad_b = ops.outer_sum_and_squares_backward(*arguments, ctx.backend)
        needs_a, needs_b, _ = ctx.needs_input_grad
        return grad_a if needs_a else None, grad_b if needs_b else None, None

    @staticmethod
    def plain(a: Tensor, b: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
        return plain.outer_sum_and_squares(a, b)
