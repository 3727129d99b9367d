"""The operators' primitives: a (B, H, N, A), positions before channels."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.dtypes import empty_positions
from .walking import Walk


def outer_sum(a: Tensor, b: Tensor) -> Tensor:
    walk = Walk(a.mT, b.mT, batch_axes=2)
    outer = a.new_zeros(*a.shape[:2], a.shape[3], b.shape[3], dtype=walk.dtype)
    for box in walk:
        walk.groups(outer, box).baddbmm_(walk.read(0, box), walk.read(1, box).mT)
    return outer


def apply_matrix(a: Tensor, matrix: Tensor) -> Tensor:
    y = empty_positions(a, matrix.shape[2])
    walk = Walk(a.mT, y.mT, batch_axes=2)
    for box in walk:
        out = walk.result(1, box)
        walk.store(1, box, torch.bmm(walk.groups(matrix, box), walk.read(0, box), out=out))
    return y


def apply_matrix_backward(grad_output: Tensor, a: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    grad_a = empty_positions(a, a.shape[3])
    walk = Walk(grad_output.mT, a.mT, grad_a.mT, batch_axes=2)
    matrix_grad = torch.zeros(*a.shape[:2], *matrix.shape[2:], dtype=walk.dtype, device=a.device)
    for box in walk:
        above = walk.read(0, box)
        walk.groups(matrix_grad, box).baddbmm_(above, walk.read(1, box).mT)
        out = walk.result(2, box)
        walk.store(2, box, torch.bmm(walk.groups(matrix, box).mT, above, out=out))
    return grad_a, matrix_grad
