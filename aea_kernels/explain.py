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
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .backends import backend_name, resolved, use_backend
from .backends.eager.walking import CHUNK_BYTES
from .block.function import AttentionBlock
from .block.norms import OVER_CHANNELS
from .block.route import project_cost, route
from .block.spec import BlockSpec
from .core.dtypes import acc_dtype
from .families import channel_attention, efficient_attention, relu_linear_attention
from .functional import linear_attention
from .nn import AugmentedAttention


class Device(NamedTuple):
    """A GPU as its data sheet has it."""

    bandwidth: float
    """Bytes a second."""
    architecture: int
    multiprocessors: int


DEVICES = {
    "a10": Device(0.600e12, 86, 72),
    "a100": Device(1.555e12, 80, 108),
    "a100-80gb": Device(2.039e12, 80, 108),
    "b200": Device(8.0e12, 100, 148),
    "h100": Device(3.35e12, 90, 132),
    "h200": Device(4.8e12, 90, 132),
    "l4": Device(0.300e12, 89, 58),
    "l40s": Device(0.864e12, 89, 142),
    "rtx3090": Device(0.936e12, 86, 82),
    "rtx4090": Device(1.008e12, 89, 128),
}
"""By the names that `explain` takes; SXM versions where there are several."""

HOST_SECONDS = 25e-6
"""Of the host for each launch of a kernel, with its share of Python and PyTorch: an order of
magnitude.
"""


@dataclass(frozen=True)
class Launch:
    """One kernel, or with backend "eager" one walk over the positions. Counted from shapes, not
    measured.
    """

    name: str
    reads: float = 0
    writes: float = 0
    """Of feature maps, in tensors of the input's size. An address counts once for each program that
    loads it.
    """
    flops: int = 0
    workspace: int = 0
    """Bytes of partial sums and C x C matrices that it writes."""


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
        text = "\n".join([self.what, *(f"  {name:<30}{text}".rstrip() for name, text in rows)])
        if self.host_seconds > self.floor_seconds:
            text += (
                f"\n  The host needs about {self.host_seconds * 1e3:.2f} ms to launch this, longer than the GPU to run"
                " it: capture the call in a CUDA graph, or give it more images at a time."
            )
        return text

    def _row(self, launch: Launch) -> str:
        moved = _bytes((launch.reads + launch.writes) * self.tensor_bytes)
        return f"{moved} of feature maps, {_bytes(launch.workspace)} of sums and matrices"


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
        TypeError: neither a block nor a shape, or a dtype that is none.
        RuntimeError: kernels are asked for, and the package triton is not installed.
    """
    if device is not None and device.lower() not in DEVICES:
        raise ValueError(f"device is {device!r}, expected one of {', '.join(DEVICES)}")
    gpu = None if device is None else DEVICES[device.lower()]
    if bandwidth is None:
        bandwidth = (gpu or DEVICES["h100"]).bandwidth
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype is {dtype!r}, expected a torch.dtype")
    if isinstance(shape, Tensor):
        raise TypeError("shape is a Tensor, expected the shape (N, C, *spatial) of one")
    for given in (module_or_shape, shape):
        if isinstance(given, tuple) and not all(
            isinstance(size, int) and size >= 0 for size in given
        ):
            raise ValueError(f"shape is {tuple(given)}, expected whole numbers, 0 or more")
    if isinstance(module_or_shape, tuple):
        return _explain_operator(operator, tuple(module_or_shape), dtype, backward, gpu, bandwidth)
    if not isinstance(module_or_shape, AugmentedAttention):
        raise TypeError(
            f"expected an AugmentedAttention or a shape, a tuple, not a {type(module_or_shape).__name__}"
        )
    return _explain_block(module_or_shape, shape, dtype, backward, gpu, bandwidth)


# ---- a call on tensors that hold nothing ---------------------------------------------------------

EAGER_WALKS = {
    "apply_matrix": (1, 1, 1),
    "apply_matrix_backward": (2, 1, 2),
    "attend_to_moments": (1, 1, 1),
    "attend_to_moments_backward": (2, 0, 1),
    "features_backward": (2, 1, 2),
    "keys": (0, 0, 0),
    "moments": (1, 0, 1),
    "outer_sum": (2, 0, 1),
    "outer_sum_and_squares": (2, 0, 1),
    "outer_sum_and_squares_backward": (2, 2, 2),
    "phi_apply": (1, 1, 1),
    "phi_apply_backward": (2, 1, 2),
    "phi_outer_sum": (2, 0, 1),
    "phi_outer_sum_backward": (2, 2, 2),
    "pivot": (0, 0, 0),
    "statistics": (1, 0, 0),
}
"""Of each primitive of the eager backend: feature maps read and written, and products with a C x C
matrix.
"""


class _Primitives(TorchDispatchMode):
    """Runs the operators ``aea::`` on meta tensors by `run`, and all others as they are."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.run = run

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.namespace == "aea":
            return self.run(function, *args)
        return function(*args, **kwargs or {})


def _launches(
    call: Callable[[], Any], gpu: Device | None, tensor: int, channels: int
) -> list[Launch]:
    """What `call` launches, for feature maps of `tensor` elements."""
    if backend_name() != "triton":
        return _eager_launches(call, 2 * tensor * channels)
    try:
        primitives = import_module(".backends.triton", __package__)
        launching = import_module(".backends.triton.launching", __package__)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"kernels cannot be planned: {error}") from error

    def run(operator: Any, *arguments: Any) -> Any:
        return getattr(primitives, operator._opname)(*arguments[:-1])

    device = gpu and (gpu.architecture, gpu.multiprocessors)
    with launching.recording(device) as recorded, _Primitives(run):
        call()
    found = []
    for name, plan, written in recorded:
        reads, writes, flops = (0, 0, 0) if plan is None else (plan.reads, plan.writes, plan.flops)
        found.append(Launch(name, reads / max(tensor, 1), writes / max(tensor, 1), flops, written))
    return found


def _eager_launches(call: Callable[[], Any], product_flops: int) -> list[Launch]:
    """The walks of `call` over feature maps, with `product_flops` in a C x C product over one."""
    launches: list[Launch] = []

    def walk(operator: Any, *arguments: Any) -> Any:
        name = operator._opname
        reads, writes, products = EAGER_WALKS[name]
        if reads:
            launches.append(Launch(name, reads, writes, products * product_flops))
        named = {
            a.name: given for a, given in zip(operator._schema.arguments, arguments, strict=False)
        }
        if named.get("batch_statistics"):
            launches.append(Launch(name, 2, 1))  # through BN's mean and variance
        return operator(*arguments)

    with _Primitives(walk):
        call()
    return launches


def _count(
    plan: Plan, call: Callable[[], Tensor], parameters: list[Tensor], x: Tensor, channels: int, backward: bool,
    gpu: Device | None,
) -> Plan:  # fmt: skip
    """The plan with what `call`, with `backward` its derivative too, launches and keeps beside
    `parameters`.
    """
    kept: dict[int, int] = {}
    known = {id(p) for p in parameters}

    def keep(t: Tensor) -> Tensor:
        kept[id(t)] = 0 if id(t) in known else t.nbytes
        return t

    def run() -> None:
        with (
            torch.set_grad_enabled(backward),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
        ):
            y = call()
        if backward:
            y.backward(torch.empty_like(y))

    with_kernels = gpu is not None or backend_name() == "triton"
    with use_backend("triton" if with_kernels else "eager"):
        launches = _launches(run, gpu, x.numel(), channels)
    chunks = min(CHUNK_BYTES, x.numel() * acc_dtype(x.dtype).itemsize) * (4 if backward else 2)
    chunks = 0 if with_kernels else chunks
    return replace(
        plan, launches=tuple(launches), saved_bytes=sum(kept.values()), chunk_bytes=chunks
    )


def _explain_block(
    block: AugmentedAttention, shape: tuple[int, ...] | None, dtype: torch.dtype, backward: bool,
    gpu: Device | None, bandwidth: float,
) -> Plan:  # fmt: skip
    if not isinstance(shape, tuple) or not 3 <= len(shape) <= 5 or shape[1] != block.channels:
        raise ValueError(
            f"shape is {shape}, expected (N, {block.channels}, *spatial) with 1, 2 or 3 spatial axes"
        )
    batch, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    device = torch.device("cuda") if gpu else block.key.weight.device

    # the block as it trains or predicts, on tensors that hold nothing
    twin = copy.deepcopy(block).to("meta").train(backward)
    norm, projections = twin._norm(dtype), twin._projections()
    references = 0 if twin.references is None else len(twin.references)
    heads, keys, values = block.heads, len(projections.key_bias), len(projections.value_bias)
    spec = BlockSpec(
        heads,
        block.scale,
        batch // 2 if backward and block.batch_aware else batch,
        (norm.kind, norm.eps, norm.groups),
        norm.kind == "batch" and norm.mean is None,
        None,
        "triton",  # `_launches` chooses by itself
    )
    x = torch.empty(shape, dtype=dtype, device="meta", requires_grad=backward)

    def call() -> Tensor:
        tensors = norm.weight, norm.bias, norm.mean, norm.variance
        y, _, _ = AttentionBlock.apply(x, *tensors, twin.references, spec, *projections)
        return y

    with_kernels = gpu is not None or resolved(backend_name(), device) == "triton"
    whole = with_kernels and norm.kind in OVER_CHANNELS
    plan = Plan(
        what=f"AugmentedAttention on {tuple(shape)}, {dtype}, "
        + ("forward + backward" if backward else "inference"),
        route=route(channels, keys, values, heads, dtype, device, whole),
        launches=(),
        tensor_bytes=x.nbytes,
        bandwidth=bandwidth,
        saved_bytes=0,
        chunk_bytes=0,
        map_bytes=positions * (references + positions) * heads * batch * dtype.itemsize,
    )
    if plan.route == "fold":
        with use_backend("triton" if with_kernels else "eager"):
            known = [*twin.parameters(), *twin.buffers()]
            return _count(plan, call, known, x, channels, backward, gpu)
    # around the operators stand PyTorch's own operations: counted in the gross, and backward as
    # twice the forward pass
    cost, times = project_cost(channels, keys, values, heads), 3 if backward else 1
    reads, flops = (
        times * (cost.numbers / channels - 4),
        round(times * cost.flops * batch * positions),
    )
    saved = round(x.nbytes * (3 + (2 * keys + 2 * values) / channels)) if backward else 0
    return replace(
        plan, launches=(Launch("plain operations", reads, times * 4, flops),), saved_bytes=saved
    )


OPERATORS = (linear_attention, relu_linear_attention, efficient_attention, channel_attention)


def _explain_operator(
    operator: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype, backward: bool, gpu: Device | None,
    bandwidth: float,
) -> Plan:  # fmt: skip
    if operator not in OPERATORS:
        expected = ", ".join(known.__name__ for known in OPERATORS)
        raise ValueError(
            f"operator is {getattr(operator, '__name__', operator)!r}, expected one of {expected}"
        )
    if len(shape) != 4:
        raise ValueError(f"shape is {shape}, expected (B, H, N, E) of query, key and value")
    batch, heads, positions, width = shape
    query, key, value = (
        torch.empty(shape, dtype=dtype, device="meta", requires_grad=backward) for _ in range(3)
    )
    side = width if operator is channel_attention else positions
    others = (
        [torch.empty(heads, device="meta")] if operator is channel_attention else []
    )  # its temperature
    plan = Plan(
        what=f"{operator.__name__} on {shape}, {dtype}, "
        + ("forward + backward" if backward else "inference"),
        route="summary",
        launches=(),
        tensor_bytes=query.nbytes,
        bandwidth=bandwidth,
        saved_bytes=0,
        chunk_bytes=0,
        map_bytes=batch * heads * side * side * dtype.itemsize,
    )
    return _count(
        plan, lambda: operator(query, key, value, *others), others, query, width, backward, gpu
    )


def _bytes(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
