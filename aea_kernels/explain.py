"""What a call will cost, before it runs: route, launches, bytes, FLOPs, time at the memory floor, peak memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .backends import backend_name
from .backends.eager import BOX_BYTES
from .folding import group_count
from .layout import accumulation_dtype
from .planning import FOLD_CHANNELS, H100, project_cost, route, share_out, tiles_for

if TYPE_CHECKING:
    from .modules import AugmentedAttention


@dataclass(frozen=True)
class Launch:
    """One kernel, or with backend "eager" one walk over the positions. Counted from shapes, not measured."""

    name: str
    reads: float = 0
    writes: float = 0
    """Of feature maps, in tensors of the input's size. An address counts once for each program that loads it."""
    flops: int = 0
    workspace: int = 0
    """Bytes of partial sums and C x C matrices that it writes."""
    by_pytorch: bool = False
    """C x C products of PyTorch, not a kernel of ours."""


@dataclass(frozen=True)
class Plan:
    """The cost of one call."""

    what: str
    route: str
    """``fold``: moments of z, C x C algebra, one matrix a position. ``project``: q, k, v and the output position by
    position, around the operators. ``summary``: the operators on given q, k, v."""
    launches: tuple[Launch, ...]
    tensor_bytes: int
    """Of one tensor of the input's size."""
    bandwidth: float
    """Bytes a second."""
    saved_bytes: int
    """Kept for backward; 0 in inference."""
    boxes_bytes: int
    """What the eager backend computes in; 0 with kernels."""
    map_bytes: int
    """What the materialised attention map would need."""

    @property
    def reads(self) -> float:
        return sum(launch.reads for launch in self.launches)

    @property
    def writes(self) -> float:
        return sum(launch.writes for launch in self.launches)

    @property
    def bytes_moved(self) -> int:
        """Of feature maps; the workspace is small beside them."""
        return round((self.reads + self.writes) * self.tensor_bytes)

    @property
    def flops(self) -> int:
        """A multiply-add is two."""
        return sum(launch.flops for launch in self.launches)

    @property
    def workspace_bytes(self) -> int:
        """Beyond input and output (and their gradients) while running."""
        return self.boxes_bytes + sum(launch.workspace for launch in self.launches)

    @property
    def floor_seconds(self) -> float:
        """The time in which the bytes can move at `bandwidth`."""
        return self.bytes_moved / self.bandwidth

    def __str__(self) -> str:
        rows = [
            ("route", self.route),
            ("launches", ", ".join(launch.name for launch in self.launches)),
            ("feature maps", f"{self.reads:g} reads + {self.writes:g} writes = {_bytes(self.bytes_moved)}"),
            ("arithmetic", f"{self.flops / 1e9:.2f} GFLOP"),
            ("time at the floor", f"{self.floor_seconds * 1e3:.3f} ms at {self.bandwidth / 1e12:g} TB/s"),
            ("saved for backward", _bytes(self.saved_bytes)),
            ("workspace", _bytes(self.workspace_bytes)),
            ("materialised map", f"would need {_bytes(self.map_bytes)}"),
        ]
        return "\n".join([self.what, *(f"  {name:<20}{text}" for name, text in rows)])


def explain(
    module_or_shape: AugmentedAttention | tuple[int, ...],
    shape: tuple[int, ...] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    backward: bool = False,
    bandwidth: float = 3.35e12,
) -> Plan:
    """The plan of a call on the present backend; ``print(aea.explain(block, x.shape))`` shows it.

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


class _Counter:
    """What each launch moves, for feature maps of `channels` on both sides of every product."""

    def __init__(self, images: int, channels: int, positions: int, dtype: torch.dtype) -> None:
        self.images, self.channels, self.positions, self.dtype = images, channels, positions, dtype
        self.wide = accumulation_dtype(dtype).itemsize
        self.product = 2 * images * positions * channels * channels
        self.triton = backend_name() == "triton"

    def tiles(self, kernel: str) -> int:
        """Into how many tiles the kernel cuts the channels."""
        return -(-self.channels // tiles_for(kernel, self.channels, self.dtype, H100[0]).rows) if self.triton else 1

    def partial(self, kernel: str, numbers: int, programs: int) -> int:
        """Bytes of the partial sums of all spans, `numbers` each, where `programs` share a span."""
        if not self.triton:
            return 0
        tiles = tiles_for(kernel, self.channels, self.dtype, H100[0])
        share = tiles.programs(H100[1]) // (self.images * programs)
        spans, _ = share_out(self.positions, tiles.positions, share)
        return self.images * spans * numbers * self.wide

    def outer(self, name: str, *, same: bool, numbers: int) -> Launch:
        """`same`: both sides are one feature map, which tiles on the diagonal read once."""
        t = self.tiles("outer")
        reads, partial = 2 * t - same, self.partial("outer", numbers, t * t)
        return Launch(name, reads, 0, self.product, partial)

    def apply(self, name: str) -> Launch:
        return Launch(name, self.tiles("apply"), 1, self.product)


def _folded(counter: _Counter, own: int, norm: bool, backward: bool) -> list[Launch]:
    channels, wide = counter.channels, counter.wide
    groups = group_count(counter.images, own)
    matrix, gram = groups * channels * (channels + 1) * wide, groups * (channels + 1) ** 2 * wide
    batch_statistics = norm and backward  # they cannot come from the moments: ReLU6 stands between
    launches = []
    if batch_statistics:
        partial = counter.partial("statistics", 2 * channels, counter.tiles("statistics"))
        launches += [Launch("statistics", 1, 0, 0, partial), Launch("join statistics", workspace=2 * channels * 8)]
    launches += [
        counter.outer("moments", same=True, numbers=channels * (channels + 1)),
        Launch("gather", workspace=gram),
        Launch("fold", workspace=matrix, by_pytorch=not counter.triton or channels > FOLD_CHANNELS),
        counter.apply("apply"),
    ]
    if not backward:
        return launches
    launches += [
        counter.outer("outer", same=False, numbers=channels * (channels + 1)),
        Launch("gather", workspace=matrix),
        Launch("fold backward", workspace=gram, by_pytorch=True),
    ]
    t = counter.tiles("features_backward")
    sums = counter.partial("features_backward", 2 * channels, t)
    if not norm:
        return [*launches, Launch("backward", 2 * t, 1, 2 * counter.product)]
    if counter.triton:
        launches += [
            Launch("sums of backward", 2 * t, 0, 2 * counter.product, sums),
            Launch("gather", workspace=2 * channels * wide),
        ]
        return [*launches, Launch("backward", 2 * t, 1, 2 * counter.product)]
    return [*launches, Launch("backward", 2, 1, 2 * counter.product), Launch("through statistics", 2, 1)]


def _projected(counter: _Counter, keys: int, values: int, heads: int, backward: bool) -> list[Launch]:
    """Counted in the gross: the forward pass, and twice as much backward."""
    cost, times = project_cost(counter.channels, keys, values, heads), 3 if backward else 1
    tensors, positions = cost.numbers / counter.channels, counter.images * counter.positions
    reads = times * (tensors - 4)
    return [Launch("plain operations", reads, times * 4, round(times * cost.flops * positions))]


def _explain_block(
    block: AugmentedAttention, shape: tuple[int, ...] | None, dtype: torch.dtype, backward: bool, bandwidth: float
) -> Plan:
    if shape is None or not 3 <= len(shape) <= 5 or shape[1] != block.channels:
        got = None if shape is None else tuple(shape)
        raise ValueError(f"shape is {got}, expected (N, {block.channels}, *spatial) with 1, 2 or 3 spatial axes")
    batch, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    references = 0 if block.references is None else block.references.shape[0]
    keys, values, heads = block.key.out_features, block.value.out_features, block.heads
    counter = _Counter(batch, channels, positions, dtype)
    tensor = batch * channels * positions * dtype.itemsize
    way = route(channels, keys, values, heads, dtype, block.key.weight.device)
    if way == "fold":
        own = batch // 2 if backward and block.batch_aware else batch
        launches = _folded(counter, own, block.norm is not None, backward)
        saved = tensor + group_count(batch, own) * (channels + 1) * (2 * channels + 1) * counter.wide
    else:
        launches = _projected(counter, keys, values, heads, backward)
        saved = round(tensor * (3 + (2 * keys + 2 * values) / channels))
    return Plan(
        what=f"AugmentedAttention on {tuple(shape)}, {dtype}, " + ("forward + backward" if backward else "inference"),
        route=way,
        launches=tuple(launches),
        tensor_bytes=tensor,
        bandwidth=bandwidth,
        saved_bytes=saved if backward else 0,
        boxes_bytes=_boxes(batch * positions * channels * counter.wide, 4 if backward else 2),
        map_bytes=positions * (references + positions) * heads * batch * dtype.itemsize,
    )


def _explain_operator(shape: tuple[int, ...], dtype: torch.dtype, backward: bool, bandwidth: float) -> Plan:
    if len(shape) != 4:
        raise ValueError(f"shape is {shape}, expected (B, H, N, E) of query, key and value")
    batch, heads, positions, width = shape
    counter = _Counter(batch * heads, width, positions, dtype)
    tensor = math.prod(shape) * dtype.itemsize
    square = batch * heads * width * width * counter.wide
    launches = [
        counter.outer("outer", same=False, numbers=width * width),
        Launch("gather", workspace=square),
        counter.apply("apply"),
    ]
    if backward:
        if counter.tiles("matrix_backward") == 1:
            partial = counter.partial("matrix_backward", width * width, 1)
            launches.append(Launch("backward", 2, 1, 2 * counter.product, partial))
        else:
            launches += [counter.apply("apply"), counter.outer("outer", same=False, numbers=width * width)]
        launches += [Launch("gather", workspace=square), counter.apply("apply"), counter.apply("apply")]
    return Plan(
        what=f"linear_attention on {shape}, {dtype}, " + ("forward + backward" if backward else "inference"),
        route="summary",
        launches=tuple(launches),
        tensor_bytes=tensor,
        bandwidth=bandwidth,
        saved_bytes=3 * tensor + square if backward else 0,
        boxes_bytes=_boxes(math.prod(shape) * counter.wide, 2),
        map_bytes=batch * heads * positions * positions * dtype.itemsize,
    )


def _boxes(feature_map: int, boxes: int) -> int:
    """What the eager backend computes in: some boxes of positions that stay in the cache."""
    return boxes * min(BOX_BYTES, feature_map) if backend_name() == "eager" else 0


def _bytes(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
