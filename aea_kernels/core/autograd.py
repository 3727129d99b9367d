"""The operators as autograd Functions: which primitive runs forward, which backward, and what is
kept between.

First derivatives run on the fused primitives; a backward that must itself be differentiable
(``create_graph=True``), or that torch.func transforms, on the operators themselves, each the
other's adjoint. A backward pass runs on the backend of its forward pass.

A new operator takes the form that `transforms.Function` describes, as `OuterSum` shows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from . import ops
from .dtypes import without_autocast
from .transforms import Function, fold_batch, in_legacy_vmap, transformed, unfold_batch


def differentiable(grad_output: Tensor | None) -> bool:
    """Whether the running backward pass must have derivatives in turn, or is transformed by
    torch.func.
    """
    if torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() or transformed() or in_legacy_vmap(grad_output)


class OuterSum(Function):
    """Sum over positions of a b^T: a (B, H, N, A), b (B, H, N, E) -> (B, H, A, E), accumulation
    dtype.
    """

    @staticmethod
    def forward(a: Tensor, b: Tensor, backend: str) -> Tensor:
        return ops.outer_sum(a, b, backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, b, ctx.backend = inputs
        ctx.save_for_backward(a, b)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        apply = ApplyMatrix.apply if differentiable(grad_output) else ops.apply_matrix
        grad_a = apply(b, grad_output, ctx.backend) if ctx.needs_input_grad[0] else None
        grad_b = apply(a, grad_output.mT, ctx.backend) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None

    @staticmethod
    def tangent(inputs: tuple[Any, ...], tangents: tuple[Any, ...]) -> Tensor:
        (a, b, backend), (da, db, _) = inputs, tangents
        return OuterSum.apply(da, b, backend) + OuterSum.apply(a, db, backend)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], a: Tensor, b: Tensor, backend: str
    ) -> tuple[Tensor, int]:
        a, b = fold_batch(info.batch_size, in_dims[:2], a, b)
        return unfold_batch(info.batch_size, OuterSum.apply(a, b, backend)), 0


class ApplyMatrix(Function):
    """M a at every position: a (B, H, N, A), M (B, H, O, A) in the accumulation dtype -> (B, H, N,
    O) in a's dtype.
    """

    @staticmethod
    def forward(a: Tensor, matrix: Tensor, backend: str) -> Tensor:
        return ops.apply_matrix(a, matrix, backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, matrix, ctx.backend = inputs
        ctx.save_for_backward(a, matrix)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        a, matrix = ctx.saved_tensors
        needs_a, needs_matrix, _ = ctx.needs_input_grad
        if needs_a and needs_matrix and not differentiable(grad_output):
            return *ops.apply_matrix_backward(grad_output, a, matrix, ctx.backend), None
        functions, primitives = (
            (ApplyMatrix.apply, OuterSum.apply),
            (ops.apply_matrix, ops.outer_sum),
        )
        apply, outer = functions if differentiable(grad_output) else primitives
        grad_a = apply(grad_output, matrix.mT, ctx.backend) if needs_a else None
        return grad_a, outer(grad_output, a, ctx.backend) if needs_matrix else None, None

    @staticmethod
    def tangent(inputs: tuple[Any, ...], tangents: tuple[Any, ...]) -> Tensor:
        (a, matrix, backend), (da, dmatrix, _) = inputs, tangents
        return ApplyMatrix.apply(da, matrix, backend) + ApplyMatrix.apply(a, dmatrix, backend)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], a: Tensor, matrix: Tensor, backend: str
    ) -> tuple[Tensor, int]:
        size = info.batch_size
        if (
            in_dims[0] is None
        ):  # one read of a for all matrices: their rows, one matrix after the other
            rows = matrix.movedim(in_dims[1], 2).flatten(2, 3)  # (B, H, size * O, A)
            return ApplyMatrix.apply(a, rows, backend).unflatten(
                3, (size, rows.shape[2] // size)
            ), 3
        a, matrix = fold_batch(size, in_dims[:2], a, matrix)
        return unfold_batch(size, ApplyMatrix.apply(a, matrix, backend)), 0


class MomentsOf(Function):
    """Sum over positions of xh xh^T: x (B, C, *spatial) -> (B, C+1, C+1), accumulation dtype."""

    @staticmethod
    def forward(x: Tensor, backend: str) -> Tensor:
        return ops.moments(x, "none", [], 0.0, None, x.shape[0], backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.backend = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        matrix = (grad_output + grad_output.mT)[:, :-1]  # (B, C, C+1)
        if not differentiable(grad_output):
            return ops.apply_to_features(x, matrix, ctx.backend), None
        flat = x.flatten(2).to(matrix.dtype)
        with without_autocast(x.device):
            return (matrix[..., :-1] @ flat + matrix[..., -1:]).reshape(x.shape).to(x.dtype), None

    @staticmethod
    def tangent(inputs: tuple[Any, ...], tangents: tuple[Any, ...]) -> Tensor:
        (x, backend), (dx, _) = inputs, tangents
        batch, channels = x.shape[:2]
        # (B, 1, S, C): positions before channels; `flatten` is unknown to the vmap of
        # torch.autograd
        flat, dflat = (
            t.reshape(batch, channels, math.prod(x.shape[2:])).mT[:, None] for t in (x, dx)
        )
        outer = OuterSum.apply(dflat, flat, backend)[:, 0]  # sum of dx x^T
        total = dflat.sum(2, dtype=outer.dtype).mT  # (B, C, 1)
        half = torch.nn.functional.pad(
            torch.cat([outer, total], 2), (0, 0, 0, 1)
        )  # sum of (dx, 0) xh^T
        return half + half.mT

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, backend: str) -> tuple[Tensor, int]:
        (x,) = fold_batch(info.batch_size, in_dims[:1], x)
        return unfold_batch(info.batch_size, MomentsOf.apply(x, backend)), 0
