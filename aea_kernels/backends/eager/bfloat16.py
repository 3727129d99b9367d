"""Maps of bfloat16 on a processor that multiplies it: factors of products stay in that dtype, and
sums are in float32 inside PyTorch's operations.

A product of two such factors is rounded to bfloat16 when it ends, so products over positions are
cut into pieces, whose results are added up in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.dtypes import multiplies_bfloat16

PIECE_POSITIONS = 512
"""Over so many at a time a product sums: the roundings of more pieces cancel better."""
MOST_POSITIONS = 16384
"""Of a chunk: PyTorch adds one value after the other, and so many of 8 bits lose no digit of
float32.
"""
LEAST_POSITIONS, LEAST_CHANNELS = 1024, 32
"""Of an image. Smaller maps take longer than in float32: what a call costs is the most."""


def suits(x: Tensor, positions: int, channels: int) -> bool:
    """Whether factors of products stay in the dtype of a map x.

    Args:
        x: the map.
        positions: of each image.
        channels: of the map with the fewest.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu":
        return False
    large = positions >= LEAST_POSITIONS and channels >= LEAST_CHANNELS
    return large and multiplies_bfloat16(x.device)


def scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> Tensor:
    """out = scale x + shift, computed in float32 and rounded once.

    It is PyTorch's batch norm with a mean of 0 and a variance of 1: the only operation that reads
    and writes bfloat16 and takes its constants in float32.

    Args:
        x: (G, C, N) bfloat16, dense.
        scale, shift: (C,) float32.
        out: as x.
    """
    # a place for statistics, which only training fills
    unused = shift.new_empty(0)
    torch.native_batch_norm(
        _as_images(x),
        scale,
        shift,
        torch.zeros_like(shift),
        torch.ones_like(shift),
        training=False,
        momentum=0.0,
        eps=0.0,
        out=(_as_images(out), unused, unused),
    )
    return out


def add_constants(x: Tensor, constants: Tensor, out: Tensor) -> None:
    """out = x + constants, computed in float32 and rounded once.

    Args:
        x: (G, C, N) bfloat16, dense.
        constants: (G or 1, C, 1) float32.
        out: as x.
    """
    groups, channels, positions = x.shape
    constants = constants[..., 0].expand(groups, channels).contiguous()
    if x.is_contiguous() and out.is_contiguous():
        as_one = (1, groups * channels, positions)
        constants = constants.view(-1)
        scale_and_shift(x.view(as_one), torch.ones_like(constants), constants, out.view(as_one))
        return
    for group, constant in enumerate(constants):
        here = slice(group, group + 1)
        scale_and_shift(x[here], torch.ones_like(constant), constant, out[here])


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Over groups and positions of x (G, C, N) bfloat16, dense: (C,) float32 each."""
    # running statistics, which are not used, say that float32 is wanted
    running = torch.zeros(2, x.shape[1], dtype=torch.float32, device=x.device)
    mean, variance = torch.ops.aten.batch_norm_update_stats(_as_images(x), *running, 0.0)
    return mean, variance


def sum_over_positions(x: Tensor) -> Tensor:
    """x (G, C, N) bfloat16, dense -> (G, C, 1) float32. PyTorch's sum is slower in that dtype."""
    groups, channels, positions = x.shape
    if not x.is_contiguous():
        return x.sum(-1, keepdim=True, dtype=torch.float32)
    mean, _ = mean_and_variance(x.view(1, groups * channels, positions))
    return mean.view(groups, channels, 1) * positions


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """a b^T, the sum over positions, (G, A, C) float32, for a (G, A, N) and b (G, C, N), both
    bfloat16.
    """
    whole = a.shape[2] - a.shape[2] % PIECE_POSITIONS
    left = _pieces(a[..., :whole])
    right = left if a is b else _pieces(b[..., :whole])
    products = torch.bmm(left, right.mT).unflatten(0, (len(a), -1))
    total = products.sum(1, dtype=torch.float32)
    if whole < a.shape[2]:
        total += torch.bmm(a[..., whole:], b[..., whole:].mT)
    return total


def _pieces(x: Tensor) -> Tensor:
    """(G, C, N) -> (G * pieces, C, positions of a piece), each dense."""
    pieces = x.unflatten(2, (-1, PIECE_POSITIONS)).transpose(1, 2)
    return pieces.flatten(0, 1).contiguous()


def add_matrix_product(out: Tensor, matrix: Tensor, x: Tensor) -> None:
    """out += matrix x in place, for (G, O, N), (G, O, C) and (G, C, N), all bfloat16.

    Where channels are innermost it is computed turned over: PyTorch would take seconds.
    """
    if out.stride(1) == 1 and out.stride(2) != 1:
        out.mT.baddbmm_(x.mT, matrix.mT)
    else:
        out.baddbmm_(matrix, x)


def is_dense(x: Tensor) -> bool:
    """Whether (G, C, N) has no gaps, with channels or positions innermost."""
    return x.is_contiguous() or x.mT.is_contiguous()


def _as_images(x: Tensor) -> Tensor:
    """(G, C, N) as (G, C, N, 1): only of these does PyTorch know that channels are innermost."""
    return x[..., None]
