"""The block over several processes: its batch-aware keys and BN's statistics are those of all of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..summary import sum_over_processes
from .folding import known_equal

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def pool_over_processes(
    per_group: Tensor, reference_images: int, group: ProcessGroup | None
) -> Tensor:
    """(G, ...) -> (G, ...): the shared group summed over the processes; it is its own adjoint."""
    if group is None or known_equal(per_group.shape[0], reference_images):
        return per_group
    shared = sum_over_processes(per_group[reference_images:], group)
    return torch.cat([per_group[:reference_images], shared])


def pool_statistics(
    mean: Tensor, variance: Tensor, count: int, group: ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,), float64, of `count` positions here -> those of all processes
    together.
    """
    if group is None:
        return mean, variance
    sums = torch.cat([mean, variance + mean**2, mean.new_ones(1)]) * count
    sums = sum_over_processes(sums, group)
    mean, square = (sums[:-1] / sums[-1].clamp(min=1)).chunk(2)
    return mean, (square - mean**2).clamp(min=0)


def statistics_backward(
    grad_x: Tensor,
    x: Tensor,
    parameters: Sequence[Tensor],
    eps: float,
    norm_grad: Tensor,
    group: ProcessGroup | None,
) -> Tensor:
    """grad_x as if BN's mean and variance were constants -> grad_x.

    BN's derivative subtracts from the gradient of its output what that has of 1 and of xhat = (x -
    mean) / std, the means of which over all positions are the gradients of bias and weight.

    Args:
        grad_x: like x, (B, C, *spatial).
        parameters, eps: BN's weight, bias, mean and variance, (C,) each, and eps.
        norm_grad: this process's gradients of weight and bias, (2, C).
    """
    dtype = norm_grad.dtype
    weight, _, mean, variance = (t.to(dtype) for t in parameters)
    count = norm_grad.new_full((1,), x.numel() // x.shape[1])
    sums = sum_over_processes(torch.cat([norm_grad.flatten(), count]), group)
    weight_grad, bias_grad = (sums[:-1] / sums[-1].clamp(min=1)).chunk(2)  # (C,) each
    inverse = (variance + eps).rsqrt()
    slope = -weight * inverse**2 * weight_grad
    constant = -weight * inverse * bias_grad - slope * mean
    shape = (-1, *[1] * (x.dim() - 2))
    return (grad_x + (slope.view(shape) * x + constant.view(shape))).to(grad_x.dtype)
