"""The primitives of the families and their derivatives in plain operations, which are
differentiable any number of times. Feature maps are copied into the accumulation dtype.

Arguments and results are those of the operators of the same names in `ops.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.dtypes import acc_dtype, without_autocast


def phi_outer_sum(key: Tensor, value: Tensor, phi: str) -> tuple[Tensor, Tensor]:
    k, v = (t.to(acc_dtype(key.dtype)) for t in (key, value))
    maximum = k.new_empty(*k.shape[:2], 0)
    if phi == "exp":
        lowest = k.new_full((*k.shape[:2], 1, k.shape[3]), -torch.inf)
        maximum = torch.cat([lowest, k.detach()], 2).amax(2)
    scores, _ = _phi_and_slope(k, _finite(maximum) if phi == "exp" else None)
    return scores.mT @ torch.nn.functional.pad(v, (0, 1), value=1.0), maximum


def phi_outer_sum_backward(
    grad_sums: Tensor, key: Tensor, value: Tensor, maximum: Tensor, phi: str
) -> tuple[Tensor, Tensor]:
    k, v = key.to(grad_sums.dtype), value.to(grad_sums.dtype)
    scores, slope = _phi_and_slope(k, _finite(maximum) if phi == "exp" else None)
    with without_autocast(k.device):
        grad_key = slope * (v @ grad_sums[..., :-1].mT + grad_sums[:, :, None, :, -1])
        grad_value = scores @ grad_sums[..., :-1]
    return grad_key.to(key.dtype), grad_value.to(value.dtype)


def phi_apply(query: Tensor, matrix: Tensor, phi: str, eps: float) -> Tensor:
    q = query.to(matrix.dtype)
    if phi == "exp":
        return (q.softmax(-1) @ matrix).to(query.dtype)
    scores = torch.relu(q) @ matrix
    return (scores[..., :-1] / (scores[..., -1:] + eps)).to(query.dtype)


def phi_apply_backward(
    grad_output: Tensor, query: Tensor, matrix: Tensor, phi: str, eps: float
) -> tuple[Tensor, Tensor]:
    q, above = query.to(matrix.dtype), grad_output.to(matrix.dtype)
    with without_autocast(q.device):
        # phi, its derivative, and what is divided by
        if phi == "exp":
            maximum = q.detach()
            if q.shape[-1]:  # no channels have no maximum
                maximum = maximum.amax(-1, keepdim=True)
            scores, slope = _phi_and_slope(q, maximum)
            linear, weights = matrix, matrix.new_ones(*matrix.shape[:3], 1)
            total = scores.sum(-1, keepdim=True)
        else:
            scores, slope = _phi_and_slope(q, None)
            linear, weights = matrix[..., :-1], matrix[..., -1:]
            total = scores @ weights + eps

        # the product rule of a quotient
        above = above / total
        through = above @ linear.mT  # (B, H, N, E)
        common = -(scores * through).sum(-1, keepdim=True) / total
        grad_query = slope * (through + common * weights.mT)
        above = above if phi == "exp" else torch.cat([above, common], -1)
        return grad_query.to(query.dtype), scores.mT @ above


def outer_sum_and_squares(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    wide_a, wide_b = (t.to(acc_dtype(a.dtype)) for t in (a, b))
    return wide_a.mT @ wide_b, wide_a.square().sum(-2), wide_b.square().sum(-2)


def outer_sum_and_squares_backward(
    grad_product: Tensor, grad_a_squares: Tensor, grad_b_squares: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    wide_a, wide_b = a.to(grad_product.dtype), b.to(grad_product.dtype)
    with without_autocast(a.device):
        grad_a = wide_b @ grad_product.mT + 2 * wide_a * grad_a_squares[:, :, None]
        grad_b = wide_a @ grad_product + 2 * wide_b * grad_b_squares[:, :, None]
    return grad_a.to(a.dtype), grad_b.to(b.dtype)


def _phi_and_slope(x: Tensor, maximum: Tensor | None) -> tuple[Tensor, Tensor]:
    """phi(x) and its derivative: "exp" with a maximum that broadcasts to x, else "relu"."""
    if maximum is None:
        return torch.relu(x), (x > 0).to(x.dtype)
    scores = (x - maximum).exp()
    return scores, scores


def _finite(maximum: Tensor) -> Tensor:
    """(B, H, 1, E) of (B, H, E), 0 where the maximum is -inf, that of no positions, so that exp(x -
    maximum) is no exponential of NaN.
    """
    return maximum.masked_fill(maximum == -torch.inf, 0)[:, :, None]
