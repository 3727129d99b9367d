"""How feature maps are handed to kernels, and how work is shared out among programs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...layout import accumulation_dtype
from ...planning import H100, Tiles, multiplication, share_out, tiles_for

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DTYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


@lru_cache
def device_of(device: torch.device) -> tuple[int, int]:
    """Architecture (90 for sm_90) and number of multiprocessors; an H100's where there is no GPU."""
    if device.type != "cuda":
        return H100
    properties = torch.cuda.get_device_properties(device)
    return 10 * properties.major + properties.minor, properties.multi_processor_count


def launch(kernel: Any, programs: int, *arguments: Any, tiles: Tiles, **constants: Any) -> None:
    """`programs` programs on grid x, the only axis without a small limit, on the device of the first argument."""
    device = arguments[0].device
    elsewhere = device.type == "cuda" and device.index != torch.cuda.current_device()
    with torch.cuda.device(device) if elsewhere else nullcontext():
        kernel[(programs,)](*arguments, **constants, num_warps=tiles.warps, num_stages=tiles.stages)


def arithmetic(dtype: torch.dtype) -> dict[str, Any]:
    """The constants of a kernel that multiplies, for feature maps of `dtype`."""
    # the interpreter multiplies the bits of bfloat16 as if they were integers
    exact = torch.float32 if INTERPRETED and dtype == torch.bfloat16 else dtype
    return {
        "ACC": _DTYPES[accumulation_dtype(dtype)],
        "ROUNDED": _DTYPES[dtype],
        "OPERAND": _DTYPES[exact],
        "PRECISION": multiplication(dtype) if dtype == torch.float32 else "ieee",
    }


def norm_arguments(norm: Sequence[Tensor], eps: float, unused: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """The four pointers, any tensor where there is no norm, and the constants."""
    tensors = tuple(t.contiguous() for t in norm) if norm else (unused,) * 4
    return tensors, {"NORM": bool(norm), "EPS": eps}


class Maps:
    """How feature maps (batch, heads, C, n0, n1, n2) of equal batch and spatial shape are addressed."""

    def __init__(self, *maps: Tensor) -> None:
        merged = [_merge_spatial(x) for x in maps]
        self.flat = all(x is not None for x in merged)
        self.maps = [x for x in merged if x is not None] if self.flat else list(maps)
        batch, self.heads, _, *self.spatial = self.maps[0].shape
        self.images, self.positions = batch * self.heads, math.prod(self.spatial)
        self.dtype = maps[0].dtype
        extents = [sum((n - 1) * abs(st) for n, st in zip(x.shape, x.stride(), strict=True)) for x in self.maps]
        # offsets reach past the end of a map by at most a tile, behind a mask
        self.wide = max(extents) + max(x.shape[2] for x in self.maps) * 1024 >= 2**31

    def strides(self, i: int) -> tuple[int, ...]:
        return self.maps[i].stride()

    def tiles(self, kernel: str, channels: int) -> Tiles:
        return tiles_for(kernel, channels, self.dtype, device_of(self.maps[0].device)[0])

    def spans(self, tiles: Tiles, programs: int) -> tuple[int, int]:
        """How many spans an image has, and how many positions each, where `programs` work on a span."""
        resident = tiles.programs(device_of(self.maps[0].device)[1])
        return share_out(self.positions, tiles.positions, resident // (self.images * programs))

    @property
    def inner(self) -> tuple[int, int]:
        """The extents of the two inner spatial axes."""
        return self.spatial[1], self.spatial[2]

    @property
    def constants(self) -> dict[str, Any]:
        return {"FLAT": self.flat, "WIDE": self.wide}


def feature_map(x: Tensor) -> Tensor:
    """(B, C, *spatial) -> (B, 1, C, n0, n1, n2), a view."""
    x = x.unsqueeze(1)
    while x.dim() < 6:
        x = x.unsqueeze(3)
    return x


def operator_map(x: Tensor) -> Tensor:
    """(B, H, N, E) -> (B, H, E, 1, 1, N), a view."""
    return x.mT.unsqueeze(3).unsqueeze(3)


def _merge_spatial(x: Tensor) -> Tensor | None:
    """The three spatial axes as one, (..., 1, 1, S), where that is a view."""
    try:
        return x.view(*x.shape[:3], 1, 1, math.prod(x.shape[3:]))
    except RuntimeError:
        return None


def power_of_two(n: int, least: int = 16) -> int:
    return max(least, triton.next_power_of_2(n))
