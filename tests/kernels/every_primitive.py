"""Calls of all primitives of the Triton backend, on tensors that hold nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aea_kernels.backends.triton import families, primitives
from aea_kernels.block.spec import Projections


def every_primitive(x: Tensor) -> None:
    """All primitives once, for a feature map x."""

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    channels = x.shape[1]
    heads = math.gcd(2, channels)
    norm = [empty(channels) for _ in range(2)] + [
        empty(channels, dtype=torch.float64) for _ in range(2)
    ]
    square = (channels, channels)
    projections = Projections(*(empty(*shape) for _ in range(4) for shape in (square, (channels,))))
    references = empty(64, channels)
    primitives.statistics(x)
    prologue, rest = ("batch", norm, 1e-5), (projections, heads, 0.125)
    gram = primitives.moments(x, *prologue, references, 1)
    _, matrix = primitives.attend_to_moments(x, *prologue, None, gram, *rest)
    grads = primitives.attend_to_moments_backward(
        x, x, *prologue, None, gram, matrix, references, 1, *rest
    )
    primitives.features_backward(x, x, *prologue, True, matrix, grads[0])
    primitives.features_backward(x, x, *prologue, False, matrix, grads[0])
    a = x.flatten(2).mT.unsqueeze(1).expand(-1, 2, -1, -1)
    state = primitives.outer_sum(a, a)
    primitives.apply_matrix(a, state)
    primitives.apply_matrix_backward(a, a, state)


def every_normed_primitive(x: Tensor, kind: str) -> None:
    """The block's with a prologue that has no activation."""
    images, channels = x.shape[:2]
    width = channels + 1
    sizes = [
        (images, channels),
        (images, 2, width),
        (1, width, width),
        (images, channels, width),
    ]
    sizes += [(images, width, width)]
    pivot, affine, gram, matrix, grams = (torch.empty(shape, device="meta") for shape in sizes)
    square = (channels, channels)
    weights = [
        torch.empty(shape, device="meta") for _ in range(4) for shape in (square, (channels,))
    ]
    prologue = kind, [pivot] if kind == "group" else [], 1e-5
    rest = weights, math.gcd(2, channels), 0.125
    primitives.moments(x, *prologue, None, images)
    primitives.attend_to_moments(x, *prologue, affine, gram, *rest)
    primitives.attend_to_moments_backward(x, x, *prologue, affine, gram, matrix[:1], None, 0, *rest)
    primitives.features_backward(x, x, *prologue, False, matrix, grams)


def every_family_primitive(x: Tensor) -> None:
    """All of the other families, for heads as wide as x has channels."""
    a = x.flatten(2).mT.unsqueeze(1).expand(-1, 2, -1, -1)
    for phi in ("relu", "exp"):
        sums, maximum = families.phi_outer_sum(a, a, phi)
        families.phi_outer_sum_backward(sums, a, a, maximum, phi)
        matrix = sums if phi == "relu" else sums[..., :-1]
        families.phi_apply(a, matrix, phi, 0.1)
        families.phi_apply_backward(a, a, matrix, phi, 0.1)
    sums = families.outer_sum_and_squares(a, a)
    families.outer_sum_and_squares_backward(*sums, a, a)
