"""The operators' primitives: a (B, H, N, A), positions before channels."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.dtypes import empty_positions
from .walking import Walk, add_product


def outer_sum(a: Tensor, b: Tensor) -> Tensor:
    walk = Walk(a.mT, b.mT, batch_axes=2)
    outer = a.new_zeros(*a.shape[:2], a.shape[3], b.shape[3], dtype=walk.sum_dtype)
    for chunk in walk:
        add_product(walk.groups(outer, chunk), walk.read(0, chunk), walk.read(1, chunk))
    return outer.to(walk.dtype)


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    y = empty_positions(a, matrix.shape[2])
    walk = Walk(a.mT, y.mT, batch_axes=2)
    for chunk in walk:
        out = walk.result(1, chunk)
        walk.store(1, chunk, torch.bmm(walk.groups(matrix, chunk), walk.read(0, chunk), out=out))
    return y


def apply_matrix_backward(grad_output: Tensor, a: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    grad_a = empty_positions(a, a.shape[3])
    walk = Walk(grad_output.mT, a.mT, grad_a.mT, batch_axes=2)
    matrix_grad = torch.zeros(
        *a.shape[:2], *matrix.shape[2:], dtype=walk.sum_dtype, device=a.device
    )
    for chunk in walk:
        above = walk.read(0, chunk)
        add_product(walk.groups(matrix_grad, chunk), above, walk.read(1, chunk))
        out = walk.result(2, chunk)
        walk.store(2, chunk, torch.bmm(walk.groups(matrix, chunk).mT, above, out=out))
    return grad_a, matrix_grad.to(walk.dtype)
