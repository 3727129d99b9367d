"""The two shapes of work on feature maps x (B, C, *spatial): sums of outer products, and a matrix
at every position.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...block import folding
from ...core.dtypes import empty_features
from .walking import Walk

Features = Callable[[Walk, int, int], Tensor]
"""What of a map inside a box, (G, C, N), enters products; it may lie in the map's workspace."""


def gram_of(x: Tensor, features: Features) -> Tensor:
    """Moments of z of each image, (B, C+1, C+1)."""
    walk = Walk(x)
    batch, channels = x.shape[:2]
    gram = x.new_zeros(batch, channels, channels, dtype=walk.dtype)
    total = x.new_zeros(batch, channels, 1, dtype=walk.dtype)
    for box in walk:
        z = features(walk, 0, box)
        walk.groups(gram, box).baddbmm_(z, z.mT)
        walk.groups(total, box).add_(z.sum(-1, keepdim=True))
    count = x.new_full((batch, 1, 1), math.prod(x.shape[2:]), dtype=walk.dtype)
    return torch.cat([torch.cat([gram, total], 2), torch.cat([total.mT, count], 2)], 1)


def outer_of(grad_output: Tensor, x: Tensor, features: Features) -> Tensor:
    """Sum of grad_output zh^T over the positions of each image, (B, O, C+1)."""
    walk = Walk(grad_output, x)
    outer = x.new_zeros(x.shape[0], grad_output.shape[1], x.shape[1], dtype=walk.dtype)
    total = x.new_zeros(x.shape[0], grad_output.shape[1], 1, dtype=walk.dtype)
    for box in walk:
        left, z = walk.read(0, box), features(walk, 1, box)
        walk.groups(outer, box).baddbmm_(left, z.mT)
        walk.groups(total, box).add_(left.sum(-1, keepdim=True))
    return torch.cat([outer, total], 2)


def apply_affine(x: Tensor, features: Features, matrix: Tensor, *, residual: bool) -> Tensor:
    """M zh, plus x with `residual`, for matrix (G, O, C+1)."""
    y = empty_features(x, matrix.shape[1])
    walk = Walk(x, y)
    matrix = folding.expand_groups(matrix, len(x))
    linear, constant = matrix[..., :-1], matrix[..., -1:]
    for box in walk:
        out = walk.result(1, box)
        if residual:
            torch.add(walk.read(0, box), walk.groups(constant, box), out=out)
        else:
            out.copy_(walk.groups(constant, box).expand_as(out))
        out.baddbmm_(walk.groups(linear, box), features(walk, 0, box))
        walk.store(1, box, out)
    return y
