"""Build every kernel as the library would launch it, for GPUs that need not be there, and read what
came out.

    python tests/kernels/compiled.py --architecture 90 --channels 64 128 --dtype bfloat16 --case
    nchw-16 nchw-1

prints one row a kernel: registers, bytes spilled, shared memory, programs that fit a
multiprocessor, asynchronous copies, tensor-core instructions; `--json` the same as JSON.
TRITON_INTERPRET must not be set.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from built_kernel import ARCHITECTURES, describe, line
from every_primitive import every_family_primitive, every_normed_primitive, every_primitive
from launches import instead_of_launch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

import aea_kernels as aea
from aea_kernels.backends.triton import launching, primitives
from aea_kernels.block.route import NORMED_CHANNELS
from aea_kernels.core.tracer import Recorder

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
PRECISIONS = {"bf16x6": "highest", "bf16x3": "high", "tf32": "medium"}
SPACES = {16: (8, 16), 8: (8, 13), 4: (4, 13), 1: (5, 9)}
"""By the number that divides the positions S: 16, else 8, else 4, else 1."""
CASES = [f"{layout}-{s}" for layout in ("nchw", "channels_last") for s in SPACES] + [
    "sliced",
    "wide",
]
NORMS = ["batch", "group", "layer", "rms"]


class _NoDevice:
    """Stands where Triton's driver stands: it knows what to compile for, and runs nothing."""

    def __init__(self, kind: str, number: Any) -> None:
        self.target = GPUTarget(kind, number, 32 if kind == "cuda" else 64)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> str:
        return str(self.target)

    def get_current_stream(self, device: Any) -> int:
        return 0


class _NotingDevice(_NoDevice):
    """Loads every kernel, and notes with what it is launched."""

    class utils:
        @staticmethod
        def load_binary(*_: Any) -> tuple[int, ...]:
            return 1, 1, 0, 0, 1024

        @staticmethod
        def unload_module(module: Any) -> None:
            pass

        @staticmethod
        def get_device_properties(device: Any) -> dict[str, int]:
            return {"max_shared_mem": 232448, "multiprocessor_count": 132, "warpSize": 32}

    def __init__(self) -> None:
        super().__init__("cuda", 90)
        self.launches: list[tuple[Any, ...]] = []

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        return lambda *arguments: self.launches.append(arguments)


def feature_map(case: str, channels: int, dtype: torch.dtype) -> Tensor:
    """(2, channels, height, width), empty; "sliced" has gaps between rows, "wide" 2^31 elements and
    more.
    """
    layout, _, divisor = case.partition("-")
    if case == "wide":
        side = 16 * (int((2**31 / channels) ** 0.5) // 16 + 1)
        return torch.empty(2, channels, side, side, dtype=dtype, device="meta")
    if case == "sliced":
        return torch.empty(2, channels, 15, 24, dtype=dtype, device="meta")[..., :17]
    x = torch.empty(2, channels, *SPACES[int(divisor)], dtype=dtype, device="meta")
    return x.to(memory_format=torch.channels_last) if layout == "channels_last" else x


def compiled(
    case: str,
    channels: int,
    dtype: torch.dtype,
    architecture: str,
    norms: Sequence[str] = ("batch",),
) -> Iterator[tuple[str, int, Any]]:
    """(name, programs asked for on a multiprocessor or 0, compiled kernel), every kernel once."""
    kind, number = ARCHITECTURES[architecture]
    driver.set_active(_NoDevice(kind, number))
    found: dict[int, tuple[str, int, Any]] = {}

    def build(
        kernel: Any,
        programs: int,
        device: Any,
        *,
        warps: int = 8,
        stages: int = 1,
        plan: Any = None,
        **arguments: Any,
    ) -> None:
        arguments.pop("workspace", None)
        result = kernel.warmup(**arguments, grid=(programs,), num_warps=warps, num_stages=stages)
        name = kernel.fn.__name__.removesuffix("_kernel")
        found.setdefault(id(result), (name, plan.tiles.programs_per_sm if plan else 0, result))

    with launching.recording((number if kind == "cuda" else 90, 132)), instead_of_launch(build):
        x = feature_map(case, channels, dtype)
        for norm in norms:
            if norm == "batch":
                every_primitive(x)
            elif norm == "families":
                every_family_primitive(x)
            elif norm == "group" or channels <= NORMED_CHANNELS:
                every_normed_primitive(x, norm)
    yield from found.values()


def kernels_over_sizes(number: int) -> dict[str, Any]:
    """How many kernels are compiled over so many image sizes, of a block of 128 channels in
    bfloat16.
    """
    draw = random.Random(0)
    sizes = [(236, 320), (235, 319), (64, 64)]
    sizes += [(draw.randint(20, 400), draw.randint(20, 400)) for _ in range(number - len(sizes))]
    driver.set_active(_NoDevice("cuda", 90))
    block = aea.AugmentedAttention(128)

    def compiled_for(batch: int, backward: bool) -> int:
        keys = set()

        def note(
            kernel: Any,
            programs: int,
            device: Any,
            *,
            warps: int = 8,
            stages: int = 1,
            **arguments: Any,
        ) -> None:
            named = {name: value for name, value in arguments.items() if name in kernel.arg_names}
            *_, bind = kernel.device_caches[driver.active.get_current_device()]
            _, specialised, options = bind(**named, num_warps=warps, num_stages=stages)
            keys.add((kernel.fn.__name__, str(specialised), str(options)))

        with instead_of_launch(note):
            for size in sizes:
                aea.explain(
                    block,
                    (batch, 128, *size),
                    dtype=torch.bfloat16,
                    backward=backward,
                    device="h100",
                )
        return len(keys)

    return {"inference": compiled_for(1, False), "training": compiled_for(8, True)}


def launched_again() -> bool:
    """Whether the trace of a primitive launches its kernels as Triton does, for other numbers."""
    device = _NotingDevice()
    driver.set_active(device)
    first, second = torch.zeros(2, 1, 16, 8, 8)
    recorder = Recorder([first])
    results = recorder.record(lambda tensors: primitives.statistics(tensors[0]))
    number = len(device.launches)
    recorder.trace(results, first.device)([second])

    def form(value: Any) -> Any:
        """Alike for tensors of one shape, but for the two feature maps in their places."""
        if isinstance(value, tuple):
            return [form(part) for part in value]
        if isinstance(value, Tensor):
            return "x" if value is first or value is second else (value.shape, value.dtype)
        return value

    # the seventh is for profilers: a new object every time
    forms = [form((*launch[:6], *launch[7:])) for launch in device.launches]
    again = [part for launch in device.launches[number:] for part in launch]
    read = [part[0] for part in again if isinstance(part, tuple) and isinstance(part[0], Tensor)]
    return number == 2 and forms[:2] == forms[2:] and read == [second]


def precisions(architecture: str, dtype: str, wanted: list[str]) -> list[str]:
    """The ways to multiply that there are: only float32 has several, and only NVIDIA's compiler
    knows them all.
    """
    return wanted if dtype == "float32" and ARCHITECTURES[architecture][0] == "cuda" else ["ieee"]


def rows(
    architecture: str, channels: int, dtype: str, precision: str, cases: list[str], norms: list[str]
) -> Iterator[dict[str, Any]]:
    torch.set_float32_matmul_precision(PRECISIONS.get(precision, "highest"))
    aea.set_ieee_products(precision == "ieee")
    seen: list[Any] = []  # kept, so that no two have one id
    for case in cases:
        for name, wanted, kernel in compiled(case, channels, DTYPES[dtype], architecture, norms):
            if any(kernel is other for other in seen):
                continue
            seen.append(kernel)
            mode = dtype if dtype != "float32" else precision
            yield {"channels": channels, "dtype": mode, "case": case} | describe(
                name, wanted, kernel, architecture
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--architecture", nargs="+", choices=ARCHITECTURES, default=["80", "90", "100"]
    )
    parser.add_argument("--channels", nargs="+", type=int, default=[32, 64, 128, 256])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=[*PRECISIONS, "ieee"],
        default=list(PRECISIONS),
        help="of float32",
    )
    parser.add_argument(
        "--case",
        nargs="+",
        choices=CASES,
        default=CASES,
        help="layout and what divides the positions",
    )
    parser.add_argument("--norm", nargs="+", choices=NORMS, default=["batch"])
    parser.add_argument(
        "--families", action="store_true", help="the kernels of the other families, and no others"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--sizes",
        type=int,
        help="only count the kernels that so many image sizes compile, and launch some twice",
    )
    chosen = parser.parse_args()
    if chosen.sizes:
        found = kernels_over_sizes(chosen.sizes)
        print(json.dumps(found | {"launched again": launched_again()}))
        return
    norms = ["families"] if chosen.families else chosen.norm
    for architecture in chosen.architecture:
        for channels in chosen.channels:
            for dtype in chosen.dtype:
                for precision in precisions(architecture, dtype, chosen.precision):
                    for row in rows(architecture, channels, dtype, precision, chosen.case, norms):
                        print(json.dumps(row) if chosen.json else line(row), flush=True)


if __name__ == "__main__":
    main()
