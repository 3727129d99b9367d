"""How a kernel is launched over positions: tile sizes, splits, and what a launch moves."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

MEASURED = Path(__file__).with_name("tiles.json")
"""What `python -m benches.tune` found: by architecture and `row_name`, positions, warps, stages and
programs.
"""

H100 = (90, 132)
"""Architecture and number of multiprocessors, for which launches are planned where no GPU is at
hand.
"""

FOLD_CHANNELS, FOLD_GROUPS = 128, 16
"""Up to so many channels, and groups in backward, the C x C algebra has kernels; for more, products
of PyTorch.
"""

LARGE_SHARED_MEMORY = (80, 87, 90, 100, 101, 103, 110)
"""Architectures where a program may have 163 KB and more; on others, such as those of GeForce
cards, 99 KB.
"""

# ---- tiles ---------------------------------------------------------------------------------------


class Tiles(NamedTuple):
    """How much of a feature map a program holds at a time, and on how many threads."""

    block_a: int
    """Channels of the result."""
    block_k: int
    """Channels of the other side: summed over at a time, or columns of an outer product."""
    block_s: int
    """Positions."""
    warps: int
    stages: int
    programs_per_sm: int
    """So many run on a multiprocessor at a time."""


def tiles_for(kernel: str, channels: int, mode: str, aligned: bool, architecture: int) -> Tiles:
    """The table of tile sizes by reasoning: nothing is tuned at run time.

    Chosen so that no kernel exceeds shared memory on any architecture from sm_80 on, and that few
    spill registers on sm_80, sm_90 and sm_100; `tests/kernels/test_compiled.py` builds them.
    `MEASURED` takes the place of what it has.

    Args:
        kernel: "outer", "apply", "features_backward", "matrix_backward", "outer_backward" or
            "statistics"; with "phi_" before it, what it computes for the other families.
        channels: on the wider side.
        mode: of `multiplication`.
        aligned: maps are read 16 bytes at a time.
        architecture: 90 for sm_90, and so on.
    """
    if kernel.startswith("phi_"):
        tiles = tiles_for(kernel.removeprefix("phi_"), channels, mode, aligned, architecture)
        full = (
            kernel == "phi_outer"
            if architecture >= 100
            else architecture < 90 and kernel != "phi_apply"
        )
        if tiles.block_a == 128 and full:
            # maxima, sums and exponentials are held in registers too
            return tiles._replace(block_s=max(16, tiles.block_s // 2))
        if kernel == "phi_outer" and mode == "tf32" and tiles.block_a == 64 and architecture >= 100:
            return tiles._replace(
                block_s=32, programs_per_sm=2
            )  # has no norm over channels, and spills of 16
        return tiles
    block = channel_block(channels)
    sliced = channels > block  # channels are summed over in slices
    if kernel == "statistics":
        stages = 3 if aligned else 2
        if block < 64:
            return Tiles(block, block, 64, 4, stages, 4)
        return Tiles(block, block, 4096 // block, 8, stages, 2)
    if mode == "16-bit":
        return _tiles_of_16_bits(kernel, block, sliced, aligned, architecture)
    if mode == "tf32" and (block < 128 or architecture in LARGE_SHARED_MEMORY):
        return _tiles_of_tf32(kernel, block, sliced, architecture)
    # three products, or none on tensor cores, hold many registers: smaller tiles, channels summed
    # over in slices
    if kernel == "outer" and mode == "tf32x3" and block == 128 and architecture < 90:
        return Tiles(64, 64, 32, 4, 1, 2)
    if kernel == "outer":
        return Tiles(block, block, 16, 8, 1 if block == 128 and mode == "ieee" else 2, 1)
    if kernel in ("matrix_backward", "outer_backward"):
        return Tiles(min(block, 64), min(block, 64), 16, 8, 2, 1)
    return Tiles(block, 16 if mode == "ieee" else 32, 32, 8, 2, 1)


def channel_block(channels: int) -> int:
    """Channels of a tile, of so many."""
    return min(128, power_of_two(channels))


def row_name(kernel: str, channels: int, mode: str, aligned: bool) -> str:
    """Which row of `MEASURED` serves a launch; arguments as in `tiles_for`."""
    block = channel_block(channels)
    return (
        f"{kernel} {block}{'+' if channels > block else ''} {mode}{' aligned' if aligned else ''}"
    )


@lru_cache
def measured_rows(architecture: int) -> dict[str, list[int]]:
    """The rows of `MEASURED` for an architecture: block_s, warps, stages, programs_per_sm of
    `Tiles`.
    """
    rows: dict[str, list[int]] = json.loads(MEASURED.read_text()).get(str(architecture), {})
    return rows


def _tiles_of_16_bits(
    kernel: str, block: int, sliced: bool, aligned: bool, architecture: int
) -> Tiles:
    large, hopper = block >= 64, architecture == 90
    warps = 8 if large else 4
    positions = 64 if aligned else 32
    if kernel == "outer":
        return Tiles(block, block, positions, warps, 3, {128: 1, 64: 2}.get(block, 4))
    if kernel in ("matrix_backward", "outer_backward"):
        return Tiles(block, block, 32 if large else 64, warps, 2, 1 if large else 2)
    deep = 32 if sliced else block
    if kernel == "apply":
        programs = (2 if large else 4) if aligned and not sliced else 1 if large else 2
        stages = 2 if block == 128 and architecture <= 90 else 3
        positions = positions if large else 2 * positions
        if block == 128 and not hopper:
            positions, deep = 32, deep if architecture >= 100 else 32
        return Tiles(block, deep, positions, warps, stages, programs)
    if hopper and aligned and not sliced:
        return Tiles(block, deep, 64, 8, 2, 1) if block == 128 else Tiles(block, deep, 64, 4, 2, 2)
    if hopper and block == 128 and not aligned and not sliced:
        return Tiles(block, deep, 16, warps, 1, 1)  # of 32 positions Triton 3.8 spills with BN
    if hopper or block < 128:
        return Tiles(block, deep, 32, warps, 2 if sliced else 1, 1)
    return Tiles(block, 32, 32, warps, 2, 1) if aligned else Tiles(block, 32, 16, warps, 1, 1)


def _tiles_of_tf32(kernel: str, block: int, sliced: bool, architecture: int) -> Tiles:
    large = block >= 64
    warps = 8 if large else 4
    stages = 2 if architecture >= 90 else 1
    positions = 32 if large else 64
    if kernel == "outer":
        if block == 64 and architecture >= 100:
            return Tiles(
                64, 64, 16, 8, 2, 4
            )  # of 32 positions ptxas spills with a norm over channels
        return Tiles(block, block, positions, warps, stages, 1 if block == 128 else 2)
    if kernel in ("matrix_backward", "outer_backward"):
        return Tiles(block, block, positions, warps, stages, 1 if large else 2)
    deep = 32 if sliced else block
    if kernel == "apply":
        return Tiles(
            block, deep, positions, warps, stages, 1 if block == 128 else 2 if large else 4
        )
    if block == 128 and architecture < 90:
        positions = 16  # of 32, a norm over channels exceeds shared memory
    return Tiles(block, deep, positions, warps, stages, 1 if large else 2)


@lru_cache
def split_positions(positions: int, block: int, programs: int, places: int) -> tuple[int, int]:
    """How many splits share the positions of an image, and how many blocks of positions each.

    `programs` work on a split of every image, and `places` run at a time. Of the numbers of splits
    from one that fills the places once, the one is taken with which all programs end first; a
    program costs about two blocks to begin.
    """
    blocks = max(1, -(-positions // block))
    least = min(blocks, max(1, places // max(1, programs)))

    def duration(splits: int) -> int:
        return -(-splits * programs // places) * (-(-blocks // splits) + 2)

    steps = -(-blocks // min(range(least, min(blocks, 4 * least) + 1), key=duration))
    return -(-blocks // steps), steps


class LaunchPlan(NamedTuple):
    """One kernel: how it is launched, and what it moves. Counted from shapes, not measured."""

    name: str
    programs: int
    splits: int
    steps: int
    tiles: Tiles
    precision: str
    one_tile: bool
    """A tile holds all channels of both sides."""
    reads: int
    writes: int
    """Elements of feature maps. An address counts once for each program that loads it."""
    flops: int
    """A multiply-add is two."""


def power_of_two(n: int) -> int:
    """The least that is not below n, and at least 16, as `tl.dot` needs it."""
    return 1 << max(4, (n - 1).bit_length())


@lru_cache(maxsize=4096)
def plan_launch(
    kernel: str,
    rows: int,
    columns: int,
    images: int,
    positions: int,
    mode: str,
    aligned: bool,
    device: tuple[int, int],
    same: bool = False,
) -> LaunchPlan:
    """A launch over the positions of `images` feature maps.

    Args:
        kernel: as in `tiles_for`.
        rows: channels of the result; columns: channels summed over, or of the other side of an
            outer product.
        device: architecture and number of multiprocessors.
        same: both sides of an outer product are one feature map, or no result is written by
            "features_backward".
    """
    launched = kernel, max(rows, columns), mode, aligned
    tiles = tiles_for(*launched, device[0])
    measured = measured_rows(device[0]).get(row_name(*launched))
    if measured:
        tiles = Tiles(tiles.block_a, tiles.block_k, *measured)
    tiles = tiles._replace(
        block_a=min(tiles.block_a, power_of_two(rows)),
        block_k=min(tiles.block_k, power_of_two(columns)),
    )
    over_rows, over_columns = -(-rows // tiles.block_a), -(-columns // tiles.block_k)
    shape = kernel.removeprefix("phi_")
    programs = over_rows * over_columns if shape == "outer" else over_rows
    splits, steps = split_positions(
        positions, tiles.block_s, images * programs, tiles.programs_per_sm * device[1]
    )
    product, row, column = (
        2 * images * positions * rows * columns,
        images * positions * rows,
        images * positions * columns,
    )
    reads, writes, flops = {
        "statistics": (row, 0, 0),
        "outer": (over_columns * row + over_rows * column - same * row, 0, product),
        "apply": (over_rows * column, row, product),
        "matrix_backward": (row + column, column, 2 * product),
        "outer_backward": (row + column, row + column, 2 * product),
        "features_backward": (2 * over_rows * row, 0 if same else row, 2 * product),
    }[shape]
    one = over_rows == 1 and over_columns == 1
    return LaunchPlan(
        kernel, images * splits * programs, splits, steps, tiles, mode, one, reads, writes, flops
    )
