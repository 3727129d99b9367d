"""What a call will cost, before it runs: route, launches, bytes, FLOPs, time at the memory floor,
peak memory.

Nothing is counted a second time: the call is made on tensors of the meta device, which hold
nothing, and what the primitives would launch is written down instead of launched.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .backends import backend_name, resolved
from .backends.devices import DEVICES, HOST_SECONDS, Device, slowest
from .backends.eager.walking import CHUNK_BYTES, stays_in_cache
from .backends.recording import Launch, launches_of
from .block.function import AttentionBlock
from .block.modules import projections_of
from .block.norms import OVER_CHANNELS
from .block.route import project_cost, route
from .block.spec import BlockSpec
from .core.checks import DTYPES
from .core.dtypes import acc_dtype
from .families import channel_attention, efficient_attention, relu_linear_attention
from .functional import linear_attention
from .nn import AugmentedAttention


@dataclass(frozen=True)
class Plan:
    """The cost of one call, counted from shapes. Prints as a table.

    Attributes:
        what: the call.
        route: "fold": moments of z, C x C algebra, one matrix a position. "project": q, k, v and
            the output position by position, around the operators. "summary": the operators on given
            q, k, v.
        launches: the kernels, or on the eager backend the walks over the positions.
        tensor_bytes: of one tensor of the input's size.
        bandwidth: bytes a second.
        saved_bytes: kept for backward; 0 in inference.
        chunk_bytes: what the eager backend computes in; 0 with kernels.
        map_bytes: what the materialised attention map would need.
    """

    what: str
    route: str
    launches: tuple[Launch, ...]
    tensor_bytes: int
    bandwidth: float
    saved_bytes: int
    chunk_bytes: int
    map_bytes: int

    @property
    def reads(self) -> float:
        """Of feature maps, in tensors of the input's size."""
        return sum(launch.reads for launch in self.launches)

    @property
    def writes(self) -> float:
        """Of feature maps, in tensors of the input's size."""
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
        return self.chunk_bytes + sum(launch.workspace for launch in self.launches)

    @property
    def floor_seconds(self) -> float:
        """The time in which the bytes can move at `bandwidth`."""
        return self.bytes_moved / self.bandwidth

    @property
    def host_seconds(self) -> float:
        """About what the host needs to launch the kernels; 0 on the eager backend."""
        return 0.0 if self.chunk_bytes else HOST_SECONDS * len(self.launches)

    def __str__(self) -> str:
        maps = f"{self.reads:g} reads + {self.writes:g} writes = {_bytes(self.bytes_moved)}"
        rows = [
            ("route", self.route),
            ("launches", ""),
            *((f"  {launch.name}", self._row(launch)) for launch in self.launches),
            ("feature maps", maps),
            ("arithmetic", f"{self.flops / 1e9:.2f} GFLOP"),
            (
                "time at the floor",
                f"{self.floor_seconds * 1e3:.3f} ms at {self.bandwidth / 1e12:g} TB/s",
            ),
            ("saved for backward", _bytes(self.saved_bytes)),
            ("workspace", _bytes(self.workspace_bytes)),
            ("materialised map", f"would need {_bytes(self.map_bytes)}"),
        ]

        # where launching takes longer than running, a CUDA graph replays all launches at once
        text = "\n".join([self.what, *(f"  {name:<30}{value}".rstrip() for name, value in rows)])
        if self.host_seconds > self.floor_seconds:
            text += (
                f"\n  The host needs about {self.host_seconds * 1e3:.2f} ms to launch this, longer "
                "than the GPU to run it: capture the call in a CUDA graph (aea.graphed), or give "
                "it more images at a time."
            )
        return text

    def _row(self, launch: Launch) -> str:
        moved = _bytes((launch.reads + launch.writes) * self.tensor_bytes)
        row = f"{moved} of feature maps, {_bytes(launch.workspace)} of sums and matrices"
        return f"{row}, waits for {launch.waits_for}" if launch.waits_for else row


def explain(
    module_or_shape: AugmentedAttention | tuple[int, ...],
    shape: tuple[int, ...] | None = None,
    *,
    operator: Callable[..., Tensor] = linear_attention,
    dtype: torch.dtype = torch.float32,
    backward: bool = False,
    device: str | None = None,
    bandwidth: float | None = None,
) -> Plan:
    """The plan of a call; ``print(aea.explain(block, x.shape, device="h200"))`` shows it.

    Args:
        module_or_shape: an `AugmentedAttention`, with the `shape` (N, C, *spatial) of its input; or
            the shape
            (B, H, N, E) of query, key and value of an operator.
        operator: with a shape alone, `linear_attention`, `relu_linear_attention`,
            `efficient_attention` or `channel_attention`.
        dtype: of the input.
        backward: count forward and backward of a training step; else one forward in inference.
        device: plan the Triton kernels for a GPU of this name, one of `DEVICES`, which need not be
            there. None: plan for the present backend.
        bandwidth: bytes a second, for the floor; by default that of the device, or 3.35 TB/s, an
            H100's.

    Raises:
        ValueError: a shape that does not fit, an unknown device, or another operator.
        TypeError: neither a block nor a shape, or a dtype that no block takes.
        RuntimeError: kernels are asked for, and the package triton is not installed.
    """
    if device is not None and device.lower() not in DEVICES:
        raise ValueError(f"device is {device!r}, expected one of {', '.join(DEVICES)}")

    # a data sheet is enough: the GPU need not be there; without one the floor is an H100's
    gpu = None if device is None else DEVICES[device.lower()]
    if bandwidth is None:
        bandwidth = (gpu or DEVICES["h100"]).bandwidth
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype is {dtype!r}, expected a torch.dtype")
    if dtype not in DTYPES:
        raise TypeError(f"dtype is {dtype}, expected one of {', '.join(map(str, DTYPES))}")
    if isinstance(shape, Tensor):
        raise TypeError("shape is a Tensor, expected the shape (N, C, *spatial) of one")
    _check_sizes(module_or_shape)
    _check_sizes(shape)
    setting = _Setting(dtype, backward, gpu, bandwidth)
    if isinstance(module_or_shape, tuple):
        return _explain_operator(operator, module_or_shape, setting)
    if not isinstance(module_or_shape, AugmentedAttention):
        given = type(module_or_shape).__name__
        raise TypeError(f"expected an AugmentedAttention or a shape, a tuple, not a {given}")
    return _explain_block(module_or_shape, shape, setting)


def _check_sizes(shape: object) -> None:
    """One sentence if a shape holds anything but sizes."""
    if isinstance(shape, tuple) and not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"shape is {tuple(shape)}, expected whole numbers, 0 or more")


# ---- a call on tensors that hold nothing ---------------------------------------------------------


class _Setting(NamedTuple):
    """What `explain` is told beside the call."""

    dtype: torch.dtype
    backward: bool
    gpu: Device | None
    bandwidth: float

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """An input."""
        return torch.empty(shape, dtype=self.dtype, device="meta", requires_grad=self.backward)

    def timed(self, launch: Launch, x: Tensor) -> Launch:
        """The launch with what it waits for, for feature maps like x."""
        moved = (launch.reads + launch.writes) * x.nbytes + launch.workspace
        device = (self.gpu or DEVICES["h100"])._replace(bandwidth=self.bandwidth)
        return replace(launch, waits_for=slowest(launch, moved, x.dtype.itemsize, device))

    def plan(self, what: str, route: str, tensor: Tensor, map_elements: int) -> Plan:
        """Without launches."""
        return Plan(
            what=f"{what}, {self.dtype}, {'forward + backward' if self.backward else 'inference'}",
            route=route,
            launches=(),
            tensor_bytes=tensor.nbytes,
            bandwidth=self.bandwidth,
            saved_bytes=0,
            chunk_bytes=0,
            map_bytes=map_elements * self.dtype.itemsize,
        )

    def counted(
        self,
        plan: Plan,
        call: Callable[[], Tensor],
        parameters: list[Tensor],
        x: Tensor,
        channels: int,
        backend: str,
        device: torch.device,
    ) -> Plan:
        """The plan with what `call`, with `backward` its derivative too, launches, and what it
        keeps beside `parameters`.
        """
        kept: dict[int, int] = {}
        known = {id(p) for p in parameters}

        def keep(t: Tensor) -> Tensor:
            kept[id(t)] = 0 if id(t) in known else t.nbytes
            return t

        def run() -> None:
            hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t)
            with torch.set_grad_enabled(self.backward), hooks:
                y = call()
            if self.backward:
                y.backward(torch.empty_like(y))

        gpu = self.gpu and (self.gpu.architecture, self.gpu.multiprocessors)
        launches = launches_of(run, x.numel(), channels, backend, gpu)

        # eager computes in workspaces of a chunk each: two forward, four with the backward pass
        chunks = 0
        if backend == "eager":
            chunk = x.numel() * acc_dtype(x.dtype).itemsize
            if stays_in_cache(device):
                chunk = min(CHUNK_BYTES, chunk)
            chunks = chunk * (4 if self.backward else 2)
        else:
            launches = [self.timed(launch, x) for launch in launches]
        saved = sum(kept.values())
        return replace(plan, launches=tuple(launches), saved_bytes=saved, chunk_bytes=chunks)


def _explain_block(
    block: AugmentedAttention, shape: tuple[int, ...] | None, setting: _Setting
) -> Plan:
    if not isinstance(shape, tuple) or not 3 <= len(shape) <= 5 or shape[1] != block.channels:
        expected = f"(N, {block.channels}, *spatial) with 1, 2 or 3 spatial axes"
        raise ValueError(f"shape is {shape}, expected {expected}")
    batch, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    device = torch.device("cuda") if setting.gpu else block.key.weight.device
    backend = "triton" if setting.gpu else resolved(backend_name(), device)

    # the block as it trains or predicts, on tensors that hold nothing
    twin = copy.deepcopy(block).to("meta").train(setting.backward)
    norm, projections = twin._norm(setting.dtype), projections_of(twin)
    references = 0 if twin.references is None else len(twin.references)
    heads, keys, values = block.heads, len(projections.key_bias), len(projections.value_bias)
    spec = BlockSpec(
        heads,
        block.scale,
        batch // 2 if setting.backward and block.batch_aware else batch,
        (norm.kind, norm.eps, norm.groups),
        norm.kind == "batch" and norm.mean is None,
        None,
        backend,
    )
    x = setting.empty(shape)

    def call() -> Tensor:
        tensors = norm.weight, norm.bias, norm.mean, norm.variance
        y, _, _ = AttentionBlock.apply(x, *tensors, twin.references, spec, *projections)
        return y

    # the way that the block takes, and the map that it never forms: references are keys too
    kernels, over_channels = backend == "triton", norm.kind in OVER_CHANNELS
    taken = route(channels, keys, values, heads, setting.dtype, device, kernels, over_channels)
    entries = positions * (references + positions) * heads * batch
    plan = setting.plan(f"AugmentedAttention on {shape}", taken, x, entries)
    if taken == "fold":
        parameters = [*twin.parameters(), *twin.buffers()]
        return setting.counted(plan, call, parameters, x, channels, backend, device)

    # around the operators stand PyTorch's own operations: counted as a whole, and backward as twice
    # the forward pass
    cost, times = project_cost(channels, keys, values, heads), 3 if setting.backward else 1
    reads = times * (cost.numbers / channels - 4)
    flops = round(times * cost.flops * batch * positions)
    launch = Launch("plain operations", reads, times * 4, flops)
    saved = round(x.nbytes * (3 + (2 * keys + 2 * values) / channels)) if setting.backward else 0
    return replace(plan, launches=(launch,), saved_bytes=saved)


OPERATORS = (linear_attention, relu_linear_attention, efficient_attention, channel_attention)


def _explain_operator(
    operator: Callable[..., Tensor], shape: tuple[int, ...], setting: _Setting
) -> Plan:
    if operator not in OPERATORS:
        expected = ", ".join(known.__name__ for known in OPERATORS)
        given = getattr(operator, "__name__", operator)
        raise ValueError(f"operator is {given!r}, expected one of {expected}")
    if len(shape) != 4:
        raise ValueError(f"shape is {shape}, expected (B, H, N, E) of query, key and value")
    # the map is one of positions on positions, or in channel attention of channels on channels
    batch, heads, positions, width = shape
    query, key, value = (setting.empty(shape) for _ in range(3))
    of_channels = operator is channel_attention
    side = width if of_channels else positions
    temperature = [torch.empty(heads, device="meta")] if of_channels else []
    device = torch.device("cuda" if setting.gpu else "cpu")
    backend = "triton" if setting.gpu else resolved(backend_name(), device)
    name = f"{operator.__name__} on {shape}"
    plan = setting.plan(name, "summary", query, batch * heads * side * side)

    def call() -> Tensor:
        return operator(query, key, value, *temperature)

    return setting.counted(plan, call, temperature, query, width, backend, device)


def _bytes(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
