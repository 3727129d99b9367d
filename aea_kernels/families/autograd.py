"""The primitives of the families as torch.autograd.Functions.

First derivatives run on the fused primitives; a backward that must itself be differentiable runs on
plain operations, with copies of the feature maps' size. So does all that torch.func transforms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.autograd import differentiable
from ..core.dtypes import acc_dtype, without_autocast
from ..core.transforms import Function
from . import ops


def phi_of(x: Tensor, maximum: Tensor | None) -> Tensor:
    """phi(x), "exp" with a maximum that broadcasts to x, else "relu", in plain operations."""
    return torch.relu(x) if maximum is None else (x - maximum).exp()


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
        if not differentiable(grad_sums):
            return (
                *ops.phi_outer_sum_backward(grad_sums, key, value, maximum, ctx.phi, ctx.backend),
                None,
                None,
            )
        k, v = key.to(grad_sums.dtype), value.to(grad_sums.dtype)
        phi = phi_of(k, _finite(maximum)[:, :, None] if ctx.phi == "exp" else None)
        slope = phi if ctx.phi == "exp" else (k > 0).to(k.dtype)
        with without_autocast(k.device):
            grad_key = slope * (v @ grad_sums[..., :-1].mT + grad_sums[:, :, None, :, -1])
            grad_value = phi @ grad_sums[..., :-1]
        return grad_key.to(key.dtype), grad_value.to(value.dtype), None, None

    @staticmethod
    def plain(key: Tensor, value: Tensor, phi: str, backend: str) -> tuple[Tensor, Tensor]:
        k, v = (t.to(acc_dtype(key.dtype)) for t in (key, value))
        lowest = k.new_full((*k.shape[:2], 1, k.shape[3]), -torch.inf)
        maximum = (
            torch.cat([lowest, k.detach()], 2).amax(2)
            if phi == "exp"
            else k.new_empty(*k.shape[:2], 0)
        )
        scores = phi_of(k, _finite(maximum)[:, :, None] if phi == "exp" else None)
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
        if not differentiable(grad_output):
            grads = ops.phi_apply_backward(
                grad_output, query, matrix, ctx.phi, ctx.eps, ctx.backend
            )
            return *grads, None, None, None
        q, above = query.to(matrix.dtype), grad_output.to(matrix.dtype)
        with without_autocast(q.device):
            if ctx.phi == "exp":
                phi = slope = phi_of(q, q.detach().amax(-1, keepdim=True))
                linear, weights, total = (
                    matrix,
                    torch.ones_like(matrix[..., :1]),
                    phi.sum(-1, keepdim=True),
                )
            else:
                phi, slope = phi_of(q, None), (q > 0).to(q.dtype)
                linear, weights = matrix[..., :-1], matrix[..., -1:]
                total = phi @ weights + ctx.eps
            above = above / total
            through = above @ linear.mT  # (B, H, N, E)
            common = -(phi * through).sum(-1, keepdim=True) / total
            grad_query = slope * (through + common * weights.mT)
            above = above if ctx.phi == "exp" else torch.cat([above, common], -1)
            return grad_query.to(query.dtype), phi.mT @ above, None, None, None

    @staticmethod
    def plain(query: Tensor, matrix: Tensor, phi: str, eps: float, backend: str) -> Tensor:
        q = query.to(matrix.dtype)
        if phi == "exp":
            return (q.softmax(-1) @ matrix).to(query.dtype)
        scores = phi_of(q, None) @ matrix
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
        product, a_squares, b_squares = grads
        if not differentiable(product):
            grad_a, grad_b = ops.outer_sum_and_squares_backward(*grads, a, b, ctx.backend)
        else:
            wide_a, wide_b = a.to(product.dtype), b.to(product.dtype)
            with without_autocast(a.device):
                grad_a = (wide_b @ product.mT + 2 * wide_a * a_squares[:, :, None]).to(a.dtype)
                grad_b = (wide_a @ product + 2 * wide_b * b_squares[:, :, None]).to(b.dtype)
        needs_a, needs_b, _ = ctx.needs_input_grad
        return grad_a if needs_a else None, grad_b if needs_b else None, None

    @staticmethod
    def plain(a: Tensor, b: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
        wide_a, wide_b = (t.to(acc_dtype(a.dtype)) for t in (a, b))
        return wide_a.mT @ wide_b, wide_a.square().sum(-2), wide_b.square().sum(-2)


def _finite(maximum: Tensor) -> Tensor:
    """0 where the maximum is -inf, that of no positions, so that exp(x - maximum) is no exponential
    of NaN.
    """
    return maximum.masked_fill(maximum == -torch.inf, 0)
