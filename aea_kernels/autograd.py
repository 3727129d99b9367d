"""The operators as torch.autograd.Functions: which primitive runs forward, which backward, and what is kept between.

First derivatives run on the fused primitives; a backward that must itself be differentiable (``create_graph=True``) on
the operators themselves, each the other's adjoint. A backward pass runs on the backend of its forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import ops


def differentiable() -> bool:
    """Whether the running backward pass must have derivatives in turn."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


class OuterSum(torch.autograd.Function):
    """Sum over positions of a b^T: a (B, H, N, A), b (B, H, N, E) -> (B, H, A, E), accumulation dtype."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.backend = backend
        return ops.outer_sum(a, b, backend)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        apply = ApplyMatrix.apply if differentiable() else ops.apply_matrix
        grad_a = apply(b, grad_output, ctx.backend) if ctx.needs_input_grad[0] else None
        grad_b = apply(a, grad_output.mT, ctx.backend) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None


class ApplyMatrix(torch.autograd.Function):
    """M a at every position: a (B, H, N, A), M (B, H, O, A) in the accumulation dtype -> (B, H, N, O) in a's dtype."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, matrix: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(a, matrix)
        ctx.backend = backend
        return ops.apply_matrix(a, matrix, backend)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        a, matrix = ctx.saved_tensors
        needs_a, needs_matrix, _ = ctx.needs_input_grad
        if needs_a and needs_matrix and not differentiable():
            return *ops.apply_matrix_backward(grad_output, a, matrix, ctx.backend), None
        apply, outer = (ApplyMatrix.apply, OuterSum.apply) if differentiable() else (ops.apply_matrix, ops.outer_sum)
        grad_a = apply(grad_output, matrix.mT, ctx.backend) if needs_a else None
        return grad_a, outer(grad_output, a, ctx.backend) if needs_matrix else None, None


class MomentsOf(torch.autograd.Function):
    """Sum over positions of xh xh^T: x (B, C, *spatial) -> (B, C+1, C+1), accumulation dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.backend = backend
        return ops.moments(x, [], 0.0, None, x.shape[0], backend)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        matrix = (grad_output + grad_output.mT)[:, :-1]  # (B, C, C+1)
        if not differentiable():
            return ops.apply_to_features(x, matrix, ctx.backend), None
        flat = x.flatten(2).to(matrix.dtype)
        return (matrix[..., :-1] @ flat + matrix[..., -1:]).reshape(x.shape).to(x.dtype), None
