"""How a kernel is launched over positions: tile sizes, splits, and what a launch moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .tile_table import TABLE

MEASURED = Path(__file__).with_name("tiles.json")
"""What `python -m benches.tune` found: by architecture and `row_name`, the numbers of `Tiles`."""

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


class Row(NamedTuple):
    """A row of `tile_table.TABLE`."""

    kernels: list[str]
    products: str
    channels: str
    maps: str
    gpu: str
    tile: list[str]

    def fits(self, kernel: str, channels: int, mode: str, aligned: bool, architecture: int) -> bool:
        """Arguments as in `tiles_for`."""
        width = "128+" if channels > 128 else "128" if channels > 64 else "64"
        width = "<64" if channels <= 32 else width
        return (
            kernel in self.kernels
            and self.products in ("*", mode)
            and self.channels in ("*", width, f"{width.rstrip('+')}*")
            and (aligned or self.maps == "*")
            and self.gpu in ("*", *_gpu_classes(architecture))
        )


def _gpu_classes(architecture: int) -> list[str]:
    """The entries of the column "GPU" that hold for an architecture."""
    classes = [] if architecture in LARGE_SHARED_MEMORY else ["small"]
    if architecture < 90:
        return [*classes, "sm<90"]
    return [*classes, "sm>=90", "sm90" if architecture == 90 else "sm>=100"]


def _rows() -> Iterator[Row]:
    for line in TABLE.splitlines()[2:]:
        if line:
            fits, tile = line.split("|")
            kernels, products, channels, maps, gpu = fits.split()
            yield Row(kernels.split("/"), products, channels, maps, gpu, tile.split())


ROWS = list(_rows())


@lru_cache(maxsize=4096)
def tiles_for(kernel: str, channels: int, mode: str, aligned: bool, architecture: int) -> Tiles:
    """The tile sizes of `tile_table.py`: nothing is tuned at run time.

    Args:
        kernel: "outer", "apply", "features_backward", "matrix_backward", "outer_backward" or
            "statistics"; with "phi_" before it, what it computes for the other families.
        channels: on the wider side.
        mode: of `multiplication`.
        aligned: maps are read 16 bytes at a time.
        architecture: 90 for sm_90, and so on.
    """
    # Triton multiplies 16 bits on ordinary units before sm_80, where 64 KB of memory are shared
    if mode == "16-bit" and architecture < 80:
        mode = "ieee"
    launch = channels, mode, aligned, architecture
    names = kernel, kernel.removeprefix("phi_")
    row = next(row for row in ROWS if any(row.fits(name, *launch) for name in names))
    block = str(channel_block(channels))
    return Tiles(*(int(n.replace("C", block)) for n in row.tile))


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
    """The rows of `MEASURED` for an architecture, the numbers of `Tiles` each."""
    rows: dict[str, list[int]] = json.loads(MEASURED.read_text()).get(str(architecture), {})
    return rows


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
    # tiles measured on this card come first; none is larger than the matrix needs
    launched = kernel, max(rows, columns), mode, aligned
    tiles = tiles_for(*launched, device[0])
    measured = measured_rows(device[0]).get(row_name(*launched))
    if measured:
        tiles = Tiles(*measured)
    tiles = tiles._replace(
        block_a=min(tiles.block_a, power_of_two(rows)),
        block_k=min(tiles.block_k, power_of_two(columns)),
    )

    # how often the positions are walked over, and in how many parts at a time
    over_rows, over_columns = -(-rows // tiles.block_a), -(-columns // tiles.block_k)
    shape = kernel.removeprefix("phi_")
    programs = over_rows * over_columns if shape == "outer" else over_rows
    splits, steps = split_positions(
        positions, tiles.block_s, images * programs, tiles.programs_per_sm * device[1]
    )

    # what the launch reads, writes and multiplies, for its row of `explain`
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

    # where one tile holds all channels, kernels load matrices before the loop over positions
    one = over_rows == 1 and over_columns == 1
    return LaunchPlan(
        kernel, images * splits * programs, splits, steps, tiles, mode, one, reads, writes, flops
    )


BYTES_OF_PRODUCTS = {"16-bit": 2, "tf32": 4, "ieee": 4, "bf16x3": 3 * 2, "bf16x6": 6 * 2}
"""Of a factor that is read for a product; with parts, for each product of these."""


def shared_bytes(plan: LaunchPlan, architecture: int) -> float:
    """Bytes of factors that the products of a launch read from shared memory: an estimate.

    Warps share the rows and columns of a tile of the result, about as many each way, and each reads
    the factors of its part. On tensor cores four warps of sm_90 read as one, and all of a program
    from sm_100 on. Banks that are asked for twice at a time are not counted.
    """
    tiles = plan.tiles
    columns = tiles.block_k if plan.name.removeprefix("phi_") == "outer" else tiles.block_s
    readers = tiles.warps
    if plan.precision != "ieee" and architecture >= 90:
        readers = max(1, readers // 4) if architecture < 100 else 1
    over_rows = 1 << (readers.bit_length() // 2)
    factors = (readers // over_rows) / columns + over_rows / tiles.block_a
    return plan.flops / 2 * factors * BYTES_OF_PRODUCTS[plan.precision]
