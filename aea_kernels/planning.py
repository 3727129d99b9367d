"""What a call will cost, before it runs: route, bytes, FLOPs, time at the memory floor, peak memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from .layout import accumulation_dtype

if TYPE_CHECKING:
    from .modules import AugmentedAttention


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

    Chosen so that no kernel spills registers or exceeds shared memory on sm_80, sm_90 and sm_100, which
    `tests/kernels/test_compiled.py` builds them for. The architecture makes no difference yet: no entry has been tuned
    by measurement.
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
    if kernel == "outer":
        return (
            Tiles(min(block, 64), min(block, 64), 32, 4, 1, 2) if mode == "tf32x3" else Tiles(block, block, 16, 8, 1, 1)
        )
    if kernel == "matrix_backward":
        return Tiles(min(block, 64), min(block, 64), 16, 8, 1, 2)
    return Tiles(block, 32 if mode == "tf32x3" else 16, 32, 8, 1, 2)


@dataclass(frozen=True)
class Plan:
    """The cost of one call. Bytes and FLOPs are counted from shapes, not measured."""

    what: str
    route: str
    """``fold``: moments of z, C x C algebra, one matrix a position. ``summary``: the operators on given q, k, v."""
    reads: float
    writes: float
    """The least the route can move, in tensors of the input's size."""
    bytes_moved: int
    flops: int
    """Of the two passes over positions and the algebra between; a multiply-add is two."""
    projected_flops: int | None
    """Of the block with q, k, v and the output projected position by position instead; None for the operators."""
    bandwidth: float
    """Bytes a second."""
    saved_bytes: int
    """Kept for backward; 0 in inference."""
    workspace_bytes: int
    """Beyond input and output (and their gradients) while running."""
    map_bytes: int
    """What the materialised attention map would need."""

    @property
    def floor_seconds(self) -> float:
        """The time in which the bytes can move at `bandwidth`."""
        return self.bytes_moved / self.bandwidth

    def __str__(self) -> str:
        rows = [
            ("route", self.route),
            ("memory floor", f"{self.reads:g} reads + {self.writes:g} writes = {_bytes(self.bytes_moved)}"),
            ("arithmetic", f"{self.flops / 1e9:.2f} GFLOP" + self._projected()),
            ("time at the floor", f"{self.floor_seconds * 1e3:.3f} ms at {self.bandwidth / 1e12:g} TB/s"),
            ("saved for backward", _bytes(self.saved_bytes)),
            ("workspace", _bytes(self.workspace_bytes)),
            ("materialised map", f"would need {_bytes(self.map_bytes)}"),
        ]
        return "\n".join([self.what, *(f"  {name:<20}{text}" for name, text in rows)])

    def _projected(self) -> str:
        return "" if self.projected_flops is None else f" ({self.projected_flops / 1e9:.2f} if projected first)"


def explain(
    module_or_shape: AugmentedAttention | tuple[int, ...],
    shape: tuple[int, ...] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    backward: bool = False,
    bandwidth: float = 3.35e12,
) -> Plan:
    """The plan of a call; ``print(aea.explain(block, x.shape))`` shows it.

    Args:
        module_or_shape: an `AugmentedAttention`, with the `shape` (N, C, *spatial) of its input; or the shape
            (B, H, N, E) of query, key and value of `linear_attention`.
        dtype: of the input.
        backward: count forward and backward of a training step; else one forward in inference.
        bandwidth: bytes a second, for the floor; 3.35 TB/s is an H100's data sheet.

    Raises:
        ValueError: a shape that does not fit.
    """
    if isinstance(module_or_shape, tuple):
        return _explain_operator(tuple(module_or_shape), dtype, backward, bandwidth)
    return _explain_block(module_or_shape, shape, dtype, backward, bandwidth)


def _explain_block(
    block: AugmentedAttention, shape: tuple[int, ...] | None, dtype: torch.dtype, backward: bool, bandwidth: float
) -> Plan:
    if shape is None or not 3 <= len(shape) <= 5 or shape[1] != block.channels:
        got = None if shape is None else tuple(shape)
        raise ValueError(f"shape is {got}, expected (N, {block.channels}, *spatial) with 1, 2 or 3 spatial axes")
    batch, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    references = 0 if block.references is None else len(block.references)
    keys, values = block.key.out_features, block.value.out_features
    wide = accumulation_dtype(dtype).itemsize
    homogeneous = channels + 1
    # BN's statistics cannot come from the moments: ReLU6 stands between them
    statistics = block.norm is not None and backward
    reads, writes = (6 + 3 * statistics, 2) if backward else (2, 1)
    passes = 5 if backward else 2
    algebra = batch * homogeneous * (values * homogeneous + 2 * values * keys // block.heads + values * channels)
    x_bytes = batch * channels * positions * dtype.itemsize
    matrices = batch * homogeneous * homogeneous * wide
    pairs = positions * (references + positions) * block.heads * batch
    projecting = channels * (2 * keys + 2 * values) + 2 * keys * values // block.heads
    return Plan(
        what=f"AugmentedAttention on {tuple(shape)}, {dtype}, " + ("forward + backward" if backward else "inference"),
        route="fold",
        reads=reads,
        writes=writes,
        bytes_moved=(reads + writes) * x_bytes,
        flops=passes * 2 * batch * positions * channels * channels + (3 if backward else 1) * 2 * algebra,
        projected_flops=(3 if backward else 1) * 2 * batch * positions * projecting,
        bandwidth=bandwidth,
        saved_bytes=x_bytes + 4 * matrices if backward else 0,
        workspace_bytes=_boxes_in_flight(batch * positions * channels * wide, 4 if backward else 2) + 4 * matrices,
        map_bytes=pairs * dtype.itemsize,
    )


def _explain_operator(shape: tuple[int, ...], dtype: torch.dtype, backward: bool, bandwidth: float) -> Plan:
    if len(shape) != 4:
        raise ValueError(f"shape is {shape}, expected (B, H, N, E) of query, key and value")
    batch, heads, positions, width = shape
    tensor = math.prod(shape) * dtype.itemsize
    wide = accumulation_dtype(dtype).itemsize
    reads, writes = (7, 4) if backward else (3, 1)
    products = 6 if backward else 2
    return Plan(
        what=f"linear_attention on {shape}, {dtype}, " + ("forward + backward" if backward else "inference"),
        route="summary",
        reads=reads,
        writes=writes,
        bytes_moved=(reads + writes) * tensor,
        flops=products * 2 * batch * heads * positions * width * width,
        projected_flops=None,
        bandwidth=bandwidth,
        saved_bytes=3 * tensor if backward else 0,
        workspace_bytes=_boxes_in_flight(math.prod(shape) * wide, 2) + 4 * batch * heads * width * width * wide,
        map_bytes=batch * heads * positions * positions * dtype.itemsize,
    )


def _boxes_in_flight(feature_map: int, boxes: int) -> int:
    from .backends.eager import BOX_BYTES

    return boxes * min(BOX_BYTES, feature_map)


def _bytes(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
