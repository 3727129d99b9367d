"""What kernels take: the arithmetic, feature maps and matrices with their strides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from ...core.dtypes import acc_dtype
from ...core.precision import PARTS

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DTYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}

# ---- arithmetic ----------------------------------------------------------------------------------


class Math(NamedTuple):
    """The arithmetic of a kernel, known when it is compiled."""

    ACC: tl.dtype
    """Of sums."""
    ROUNDED: tl.dtype
    """Of the factors of products: that of the feature maps."""
    FACTOR: tl.dtype
    """In which `tl.dot` is given its factors."""
    PRECISION: str
    """`input_precision` of `tl.dot`, or a name in `core.precision.PARTS`."""
    PARTS: int
    """As the sum of so many numbers in FACTOR a factor is multiplied; 1: as it is."""
    HALF: bool
    """Feature maps have 16 bits."""


@lru_cache
def math_of(dtype: torch.dtype, products: str) -> Math:
    """For feature maps of `dtype`, multiplied as `core.precision.multiplication` says."""
    parts = PARTS.get(products, 1)
    factor = torch.bfloat16 if parts > 1 else dtype
    if INTERPRETED and factor == torch.bfloat16:
        # the interpreter multiplies the bits of bfloat16 as if they were integers
        factor = torch.float32
    precision = "ieee" if products == "16-bit" else products
    summed, rounded, held = _DTYPES[acc_dtype(dtype)], _DTYPES[dtype], _DTYPES[factor]
    return Math(summed, rounded, held, precision, parts, dtype.itemsize == 2)


# ---- tensors -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """What is known of a feature map when a kernel is compiled."""

    INNER: str
    """Whose stride is 1: "position", "channel" or "none"."""
    FLAT: bool
    """Positions are equally spaced."""
    WIDE: bool
    """Offsets take 64 bits."""
    UNIT: int
    """Elements in which the other strides, and with "position" the number of positions, are handed
    over.
    """


class FeatureMap(NamedTuple):
    """A feature map as kernels take it, (batch, heads, channels, n0, n1, n2); strides
    `in_units`.
    """

    pointer: Tensor
    batch_stride: int
    head_stride: int
    channel_stride: int
    stride0: int
    stride1: int
    stride2: int
    extent1: int
    extent2: int
    channels: int
    positions: int
    layout: Layout
    """In a `tl.constexpr`, which the interpreter does not need."""

    @property
    def aligned(self) -> bool:
        """Whether it is read 16 bytes at a time."""
        layout: Any = self.layout
        unit: int = (layout if INTERPRETED else layout.value).UNIT
        return unit > 1


class Matrix(NamedTuple):
    """Matrices (groups, rows, columns) of any strides."""

    pointer: Tensor
    group_stride: int
    row_stride: int
    column_stride: int


def in_units(number: int, unit: int) -> int:
    """An odd number: Triton compiles a kernel anew for numbers that are 1 or that 16 divides, so
    for every other size.

    A stride in units of `unit` elements tells it that vectors of so many may be loaded, whatever
    the size.
    """
    return number // unit * 2 + 1


def feature_map(x: Tensor) -> FeatureMap:
    """x (B, C, *spatial), 1 to 3 spatial axes."""
    return FeatureMap(x, *_described(tuple(x.shape), x.stride(), x.dtype.itemsize))


def operator_map(a: Tensor) -> FeatureMap:
    """a (B, H, N, E): N positions of E channels."""
    batch, heads, positions, channels = a.shape
    b, h, n, e = a.stride()
    return FeatureMap(
        a, *_described((batch, channels, positions), (b, e, n), a.dtype.itemsize, heads, h)
    )


@lru_cache(maxsize=4096)
def _described(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    itemsize: int,
    heads: int = 1,
    head_stride: int = 0,
) -> tuple[Any, ...]:
    """All of a `FeatureMap` but its pointer."""
    (batch, channels, *space), (batch_stride, channel_stride, *inner) = shape, strides

    # an axis of size 1 is never stepped along; positions at equal distances are one axis
    axes = [(n, stride) for n, stride in zip(space, inner, strict=True) if n != 1] or [(1, 1)]
    flat = all(stride == n * below for (_, stride), (n, below) in pairwise(axes))
    positions = 1
    for n in space:
        positions *= n
    if flat:
        axes = [(positions, axes[-1][1])]

    # three axes in any case, of which the last are in use
    axes = [(1, 0)] * (3 - len(axes)) + axes
    position_stride = axes[-1][1]

    # the axis with stride 1; vectors along it need all the rest to be multiples of their length
    where, rest = "none", [1]
    if channel_stride == 1 and channels > 1:
        where, rest = "channel", [batch_stride, head_stride, position_stride]
    elif position_stride == 1:
        where, rest = "position", [batch_stride, head_stride, channel_stride, positions]
    vector = 16 // itemsize
    aligned = flat and all(number % vector == 0 for number in rest)
    unit = vector if aligned else 1

    # the largest offset, by which 32 bits suffice or not
    extent = (
        (batch - 1) * batch_stride + (heads - 1) * head_stride + (channels - 1) * channel_stride
    )
    extent += sum((n - 1) * stride for n, stride in axes)
    # offsets reach past the end of a map by at most a tile, behind a mask
    wide = extent + 1024 * max(channel_stride, position_stride) >= 2**31

    # in the order of `FeatureMap`
    every = (batch_stride, head_stride, channel_stride, *(stride for _, stride in axes))
    layout = Layout(where, flat, wide, unit)
    return (
        *(in_units(stride, unit) for stride in every),
        *((1, 1) if flat else (n for n, _ in axes[1:])),
        channels,
        in_units(positions, unit if where == "position" else 1),
        layout if INTERPRETED else tl.constexpr(layout),
    )


def contiguous(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t if t.is_contiguous() else t.contiguous() for t in tensors]
