"""Build every kernel as the library would launch it, for GPUs that need not be there, and read what came out.

    python tests/kernels/compiled.py --architecture 90 --channels 64 128 --dtype bfloat16

prints one row a kernel: registers, bytes spilled, shared memory, tensor-core instructions; `--json` the same as JSON.
TRITON_INTERPRET must not be set.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import aea_kernels.backends.triton as backend
from aea_kernels.backends.triton import launching
from aea_kernels.parameters import Projections

ARCHITECTURES = {"80": ("cuda", 80), "90": ("cuda", 90), "100": ("cuda", 100), "gfx942": ("hip", "gfx942")}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
PRECISIONS = {"ieee": "highest", "tf32x3": "high", "tf32": "medium"}
INSTRUCTIONS = r"wgmma\.mma_async|tcgen05\.mma|mma\.sync|v_mfma"


def every_primitive(channels: int, dtype: torch.dtype) -> None:
    """All primitives once, at 1280x944 positions of `channels` channels, on tensors that hold nothing."""

    def empty(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    x, wide = empty(2, channels, 944, 1280), torch.float32
    norm = [empty(channels, dtype=wide) for _ in range(2)] + [empty(channels, dtype=torch.float64) for _ in range(2)]
    square = (channels, channels)
    projections = Projections(*(empty(*shape, dtype=wide) for _ in range(4) for shape in (square, (channels,))))
    references = empty(64, channels, dtype=wide)
    backend.statistics(x)
    gram = backend.moments(x, norm, 1e-5, references, 1)
    matrix = backend.fold(gram, projections, 2, 0.125)
    backend.apply_to_features(x, norm, 1e-5, matrix, True)
    backend.outer_with_features(x, x, norm, 1e-5, 1)
    backend.features_backward(x, x, norm, 1e-5, True, matrix, gram)
    a = empty(1, 2, 944 * 1280, channels)
    state = backend.outer_sum(a, a)
    backend.apply_matrix(a, state)
    backend.apply_matrix_backward(a, a, state)


def launches(channels: int, dtype: torch.dtype, architecture: str) -> Iterator[tuple[Any, dict[str, Any], Any]]:
    """(kernel, its arguments by name, its tiles) of every launch, once each."""
    recorded: dict[str, tuple[Any, dict[str, Any], Any]] = {}

    def record(kernel: Any, programs: int, *arguments: Any, tiles: Any, **constants: Any) -> None:
        named = dict(zip(kernel.arg_names, arguments, strict=False)) | constants
        flags = [str(v) for v in named.values() if isinstance(v, bool)]
        recorded.setdefault(kernel.fn.__name__ + " " + "".join(flags), (kernel, named, tiles))

    number = int(architecture) if architecture.isdigit() else 90
    launch, device_of = backend.launch, launching.device_of
    try:
        backend.launch, launching.device_of = record, lambda device: (number, 132)
        every_primitive(channels, dtype)
    finally:
        backend.launch, launching.device_of = launch, device_of
    yield from recorded.values()


def source(kernel: Any, arguments: dict[str, Any]) -> ASTSource:
    """What the launcher would compile: pointers are aligned, integers that 16 divides are known to be."""
    signature, constants, attributes = {}, {}, {}
    for i, name in enumerate(kernel.arg_names):
        value = arguments[name]
        if name in {kernel.arg_names[j] for j in kernel.constexprs} or (isinstance(value, int) and value == 1):
            signature[name], constants[(i,)] = "constexpr", value
            continue
        if isinstance(value, Tensor):
            signature[name] = "*" + triton.runtime.jit.type_canonicalisation_dict[str(value.dtype).split(".")[-1]]
        else:
            signature[name] = "i64" if value >= 2**31 else "i32"
        if isinstance(value, Tensor) or value % 16 == 0:
            attributes[(i,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, attributes)


def build(kernel: Any, arguments: dict[str, Any], tiles: Any, architecture: str) -> dict[str, Any]:
    """One row of the table."""
    kind, number = ARCHITECTURES[architecture]
    target = GPUTarget(kind, number, 32 if kind == "cuda" else 64)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    compiled = triton.compile(source(kernel, arguments), target=target, options=options)
    text = compiled.asm["ptx" if kind == "cuda" else "amdgcn"]
    row = {
        "kernel": kernel.fn.__name__.removesuffix("_kernel"),
        "architecture": architecture,
        "shared": compiled.metadata.shared,
        "instructions": sorted(set(re.findall(INSTRUCTIONS, text))),
        "tiles": tuple(tiles),
    }
    if kind == "cuda":
        return row | _resources(compiled.asm["cubin"])
    registers = max(int(n) for n in re.findall(r"\.vgpr_count:\s+(\d+)", text))
    return row | {"registers": registers, "spilled": int(re.findall(r"\.private_segment_fixed_size:\s+(\d+)", text)[0])}


def _resources(cubin: bytes) -> dict[str, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        report = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", report)
    assert found is not None, report
    return {"registers": int(found[1]), "spilled": int(found[2])}


def precisions(architecture: str, dtype: str, wanted: list[str]) -> list[str]:
    """The ways to multiply that there are: only float32 has several, and only NVIDIA's compiler knows them all."""
    return wanted if dtype == "float32" and ARCHITECTURES[architecture][0] == "cuda" else ["ieee"]


def rows(architecture: str, channels: int, dtype: str, precision: str) -> Iterator[dict[str, Any]]:
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    for kernel, arguments, tiles in launches(channels, DTYPES[dtype], architecture):
        name = dtype if dtype != "float32" else precision
        yield {"channels": channels, "dtype": name} | build(kernel, arguments, tiles, architecture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", nargs="+", choices=ARCHITECTURES, default=["80", "90", "100"])
    parser.add_argument("--channels", nargs="+", type=int, default=[32, 64, 128, 256])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="of float32")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    for architecture in chosen.architecture:
        for channels in chosen.channels:
            for dtype in chosen.dtype:
                for precision in precisions(architecture, dtype, chosen.precision):
                    for row in rows(architecture, channels, dtype, precision):
                        print(json.dumps(row) if chosen.json else line(row), flush=True)


def line(row: dict[str, Any]) -> str:
    where = f"{row['architecture']:>7} {row['channels']:>4} {row['dtype']:<9} {row['kernel']:<20}"
    resources = f"{row['registers']:>4} registers {row['spilled']:>5} B spilled {row['shared']:>7} B shared  "
    return where + resources + ", ".join(row["instructions"])


if __name__ == "__main__":
    main()
