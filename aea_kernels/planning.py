"""What is decided before a call: how floating-point numbers are multiplied, tile sizes, and the route of a block."""

from __future__ import annotations

from typing import NamedTuple

import torch

H100 = (90, 132)
"""Architecture and number of multiprocessors, for which launches are planned where no GPU is at hand."""

FOLD_CHANNELS = 128
"""Up to so many channels the C x C algebra is one kernel; for more, products of PyTorch."""


class Tiles(NamedTuple):
    """How much of a feature map a program holds at a time, and on how many threads."""

    rows: int
    """Channels of the result."""
    channels: int
    """Channels summed over at a time."""
    positions: int
    warps: int
    stages: int
    resident: int
    """Programs to have running on each multiprocessor."""

    def programs(self, multiprocessors: int) -> int:
        return self.resident * multiprocessors


PRECISIONS = {"highest": "ieee", "high": "tf32x3", "medium": "tf32"}
"""`torch.get_float32_matmul_precision()` -> the `input_precision` of every product of float32 feature maps."""


def multiplication(dtype: torch.dtype) -> str:
    """How feature maps of `dtype` are multiplied: "ieee" on ordinary units, or on tensor cores."""
    if dtype == torch.float32:
        return PRECISIONS[torch.get_float32_matmul_precision()]
    return "ieee" if dtype == torch.float64 else "16-bit"


def algebra_precision(dtype: torch.dtype) -> str:
    """`input_precision` of the C x C algebra, which costs little: never below three tf32 products."""
    return "ieee" if multiplication(dtype) == "ieee" else "tf32x3"


def tiles_for(kernel: str, channels: int, dtype: torch.dtype, architecture: int) -> Tiles:
    """The table of tile sizes, for `channels` on the wider side: nothing is tuned at run time.

    Chosen so that no kernel spills registers or exceeds shared memory on sm_80, sm_90 and sm_100 (`architecture` 80,
    90, 100), for which `tests/kernels/test_compiled.py` builds them all. No entry has been tuned by measurement yet.
    """
    block = min(128, 1 << max(4, (channels - 1).bit_length()))
    mode = multiplication(dtype)
    large = block >= 64
    warps = 8 if large else 4
    if kernel == "statistics":
        return Tiles(block, block, 4096 // block if large else 64, warps, 1, 4)
    if mode == "16-bit" or mode == "tf32":
        stages = 3 if mode == "16-bit" else 1
        positions = 32 if mode == "tf32" and large else 64
        if kernel == "outer":
            return Tiles(block, block, positions, warps, stages, 1 if block == 128 else 2)
        if kernel == "matrix_backward":
            return Tiles(block, block, 32 if large else 64, warps, 1, 1 if large else 2)
        deep = block if channels <= block else 32
        if kernel == "apply":
            return Tiles(block, deep, positions, warps, stages, 2 if block == 128 else 4)
        return Tiles(block, deep, 32 if large else 64, warps, 1, 1 if large else 2)
    # three products, or none on tensor cores, hold many registers: smaller tiles, channels summed over in slices
    if kernel == "outer" and mode == "tf32x3" and block == 128 and architecture < 90:
        return Tiles(64, 64, 32, 4, 1, 2)
    if kernel == "outer":
        return Tiles(block, block, 16, 8, 1, 1)
    if kernel == "matrix_backward":
        return Tiles(min(block, 64), min(block, 64), 16, 8, 1, 2)
    return Tiles(block, 32 if mode == "tf32x3" else 16, 32, 8, 1, 2)


def share_out(positions: int, block: int, programs: int) -> tuple[int, int]:
    """How many spans share `positions`, at most `programs`, and how many positions each, a multiple of `block`."""
    blocks = max(1, -(-positions // block))
    per_span = -(-blocks // max(1, min(blocks, programs)))
    return -(-blocks // per_span), per_span * block


# ---- the route of a block -------------------------------------------------------------------------------------------

BALANCE = {"16-bit": 300.0, "tf32": 150.0, "tf32x3": 50.0, "ieee": 20.0, "cpu": 10.0}
"""FLOPs that pass while a byte moves: of an H100's data sheet by way of multiplying, and of an ordinary CPU."""


class Cost(NamedTuple):
    """Of one forward pass, for each position of each image."""

    numbers: float
    """Read and written."""
    flops: float

    def time(self, dtype: torch.dtype, device: torch.device) -> float:
        """In bytes moved: whichever of memory and arithmetic takes longer."""
        balance = BALANCE["cpu" if device.type == "cpu" else multiplication(dtype)]
        return max(self.numbers * dtype.itemsize, self.flops / balance)


def fold_cost(channels: int) -> Cost:
    """Moments, then one matrix: two reads and one write, two C x C products."""
    return Cost(3 * channels, 4 * channels * channels)


def project_cost(channels: int, keys: int, values: int, heads: int) -> Cost:
    """Queries, keys and values written out, in plain operations around the operators.

    BN 2, ReLU6 2, projections 3 and the output with its residual 4 tensors of C channels; queries and keys written once
    and read once, values and what is attended written once and read once.
    """
    flops = 2 * channels * (2 * keys + 2 * values) + 4 * keys * values / heads
    return Cost(11 * channels + 4 * keys + 4 * values, flops)


def route(channels: int, keys: int, values: int, heads: int, dtype: torch.dtype, device: torch.device) -> str:
    """``"fold"`` or ``"project"``, whichever is faster by counted bytes and FLOPs.

    Projecting first can win where keys and values are much narrower than the feature map.
    """
    project = project_cost(channels, keys, values, heads).time(dtype, device)
    return "project" if project < fold_cost(channels).time(dtype, device) else "fold"
