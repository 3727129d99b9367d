"""Which way a block is computed, by counted bytes and FLOPs: folded into one matrix, or through
queries, keys and values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..core.precision import PRODUCTS_OF_16_BITS, multiplication, tf32_allowed

NORMED_CHANNELS = 128
"""Up to so many channels a tile of a kernel holds all of them, as LayerNorm and RMSNorm need it."""

BALANCE = {"ieee": 20.0, "cpu": 10.0}
BALANCE |= {name: 300.0 / number for name, number in PRODUCTS_OF_16_BITS.items()}
"""FLOPs that pass while a byte moves: of an H100's data sheet by way of multiplying, and of an
ordinary CPU.
"""


class Cost(NamedTuple):
    """Of one forward pass, for each position of each image."""

    numbers: float
    """Read and written."""
    flops: float

    def time(self, dtype: torch.dtype, mode: str) -> float:
        """In bytes moved, whichever of memory and arithmetic takes longer; `mode` as in BALANCE."""
        return max(self.numbers * dtype.itemsize, self.flops / BALANCE[mode])


def fold_cost(channels: int) -> Cost:
    """Moments, then one matrix: two reads and one write, two C x C products."""
    return Cost(3 * channels, 4 * channels * channels)


def project_cost(channels: int, keys: int, values: int, heads: int) -> Cost:
    """Queries, keys and values written out, in plain operations around the operators.

    BN 2, ReLU6 2, projections 3 and the output with its residual 4 tensors of C channels; queries
    and keys written once and read once, values and what is attended written once and read once.
    """
    flops = 2 * channels * (2 * keys + 2 * values) + 4 * keys * values / heads
    return Cost(11 * channels + 4 * keys + 4 * values, flops)


def fits_a_tile(channels: int, kernels: bool, over_channels: bool) -> bool:
    """Whether a tile holds all the channels that it needs; arguments are those of `route`."""
    return not (kernels and over_channels) or channels <= NORMED_CHANNELS


def route(
    channels: int,
    keys: int,
    values: int,
    heads: int,
    dtype: torch.dtype,
    device: torch.device,
    kernels: bool = False,
    over_channels: bool = False,
) -> str:
    """``"fold"`` or ``"project"``, whichever is faster by counted bytes and FLOPs.

    Args:
        kernels: the Triton kernels compute.
        over_channels: the norm is over channels, all of which the kernels need in one tile.
    """
    if not fits_a_tile(channels, kernels, over_channels):
        return "project"
    if keys + values >= channels:  # then projecting takes more of both
        return "fold"
    mode = _multiplication(dtype, device, kernels)
    project = project_cost(channels, keys, values, heads).time(dtype, mode)
    return "project" if project < fold_cost(channels).time(dtype, mode) else "fold"


def _multiplication(dtype: torch.dtype, device: torch.device, kernels: bool) -> str:
    """How feature maps are multiplied, as in `BALANCE`."""
    if device.type == "cpu":
        return "cpu"
    if kernels or dtype != torch.float32:
        return multiplication(dtype)
    return "tf32" if tf32_allowed() else "ieee"  # PyTorch's own products
