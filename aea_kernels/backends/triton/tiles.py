"""Tile sizes by channels and dtype, and how many spans share the positions of an image. No tuning at run time."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

PROGRAMS = 528
"""Programs to aim at: four for each of an H100's 132 multiprocessors."""


class Tiles(NamedTuple):
    channels: int
    positions: int
    warps: int
    stages: int


def tiles_for(channels: int, dtype: torch.dtype) -> Tiles:
    """One tile holds all channels up to 128, so that a feature map is read once a pass; 4,096 elements a tile."""
    block = min(128, max(16, triton.next_power_of_2(channels)))
    positions = 4096 // block if block >= 64 else 64
    return Tiles(block, positions if dtype.itemsize < 8 else positions // 2, 8 if block >= 64 else 4, 1)


def spans_for(images: int, tiles: int, positions: int, block: int) -> tuple[int, int]:
    """How many spans, and how many positions each, a multiple of `block`, for about `PROGRAMS` programs in all."""
    blocks = max(1, -(-positions // block))
    wanted = max(1, min(blocks, PROGRAMS // max(1, images * tiles)))
    per_span = -(-blocks // wanted)
    return -(-blocks // per_span), per_span * block
