"""`python -m benches.tune --device cuda`: other rows of the tile table, timed on this GPU; the
faster are kept.

A row is, for each kernel, number of channels and way of multiplying: channels and positions of a
tile, warps, stages, programs a multiprocessor. One that spills or does not fit is none. The winners
go to `aea_kernels/backends/triton/tiles.json`, which `tiles.py` reads, all times to
`benches/results/tune-smNN.json`. What stands there is not timed again, so that an interrupted sweep
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

import aea_kernels as aea
from aea_kernels.backends.triton import tiles
from aea_kernels.backends.triton.tiles import Tiles
from aea_kernels.core import known_calls
from aea_kernels.core.precision import PRECISIONS
from aeanet.io.text import write_json

from .racing import capture, copies

SIZES = {32: (944, 1280), 64: (944, 1280), 128: (236, 320)}
MODES = [("bfloat16", "highest")]
MODES += [("float32", setting) for setting in ("medium", "highest", "high")]
KERNELS = ("outer", "apply", "features_backward", "statistics", "matrix_backward")
GAIN = 0.97
"""A row takes the place of the planned one where its time is at most this part."""


class Case(NamedTuple):
    """Feature maps (1, channels, *SIZES[channels]), in NCHW and in channels_last."""

    kernel: str
    channels: int
    dtype: str
    precision: str
    """As `torch.set_float32_matmul_precision` takes it."""

    @property
    def mode(self) -> str:
        return "16-bit" if self.dtype != "float32" else PRECISIONS[self.precision]

    @property
    def name(self) -> str:
        return tiles.row_name(self.kernel, self.channels, self.mode, aligned=True)


CASES = [
    Case(kernel, channels, *mode)
    for mode in MODES
    for channels in (128, 64, 32)
    for kernel in KERNELS
    if kernel != "statistics" or mode[1] == "highest"  # it has no products
]


def planned_row(case: Case, architecture: int) -> Tiles:
    """The row of the present table."""
    return tiles.tiles_for(case.kernel, case.channels, case.mode, True, architecture)


def candidates(case: Case, planned: Tiles) -> Iterator[Tiles]:
    """The planned row first, then its neighbours, then tiles of fewer or more channels."""
    yield planned
    sides = planned.block_a, planned.block_k
    block_s = planned.block_s
    for near in product((block_s // 2, block_s, 2 * block_s), (4, 8), (1, 2, 3, 4), (1, 2, 3, 4)):
        row = Tiles(*sides, *near)
        if 16 <= row.block_s <= 128 and row != planned:
            yield row
    for other in _sides(case):
        if other != sides:
            for near in product((max(16, block_s // 2), block_s), (4, 8), (1, 2), (1, 2)):
                yield Tiles(*other, *near)


def _sides(case: Case) -> list[tuple[int, int]]:
    """Channels of the result in a tile, and of the other side."""
    whole = tiles.channel_block(case.channels)
    if case.kernel == "statistics":
        return [(whole, whole)]
    blocks = [block for block in (16, 32, 64, 128) if block <= whole]
    if case.kernel in ("outer", "matrix_backward"):
        return [(block, block) for block in blocks if block >= 32]
    return [(whole, block) for block in blocks]


def sweep(
    cases: list[Case],
    timer: Callable[[Case, Tiles], float],
    architecture: int,
    log: Path,
    deadline: float = math.inf,
) -> bool:
    """Time the candidates of every case that is not in `log`, and write the log and
    `tiles.MEASURED` after each.

    Args:
        timer: microseconds of a case with a row; infinite where the row is none.
        deadline: of `time.monotonic`.

    Returns:
        Whether nothing is left.
    """
    # an interrupted case is begun anew, a finished one is not
    done: dict[str, Any] = json.loads(log.read_text()) if log.exists() else {}
    for case in cases:
        if case.name in done:
            continue
        planned = planned_row(case, architecture)
        times: dict[Tiles, float] = {}
        for row in candidates(case, planned):
            if time.monotonic() > deadline:
                read_table_anew()  # the row that was timed last is not the case's
                return False
            times[row] = timer(case, row)

        # the planned row stays, unless another is faster by more than the noise
        best = min(times, key=lambda row: times[row])
        chosen = best if times[best] <= GAIN * times[planned] else planned
        found = {str(list(row)): round(us, 2) for row, us in times.items() if math.isfinite(us)}
        done[case.name] = {"planned": planned, "chosen": chosen, "microseconds": found}
        log.parent.mkdir(parents=True, exist_ok=True)
        write_json(log, done, 1)
        write_rows(architecture, done)
        before, after = (f"{tuple(row)} {times[row]:.1f} us" for row in (planned, chosen))
        print(f"{case.name}: {before} -> {after}", flush=True)
    return True


def write_rows(architecture: int, done: dict[str, Any]) -> None:
    table = json.loads(tiles.MEASURED.read_text())
    table[str(architecture)] = {
        name: entry["chosen"]
        for name, entry in sorted(done.items())
        if entry["chosen"] != entry["planned"]
    }
    write_json(tiles.MEASURED, table, 1)
    read_table_anew()


def read_table_anew() -> None:
    """Launches take the tiles of `tiles.MEASURED` as it is now, also in calls made before."""
    tiles.measured_rows.cache_clear()
    tiles.plan_launch.cache_clear()
    known_calls.forget()


# ---- on a GPU ------------------------------------------------------------------------------------


def architecture_here() -> int:
    """Of the GPU in use: 90 for sm_90."""
    from aea_kernels.backends.triton import launching

    architecture, _ = launching.device_of(torch.device("cuda", torch.cuda.current_device()))
    return architecture


def plan_with(case: Case, row: Tiles) -> None:
    """Every launch of the case takes this row from now on."""
    architecture = architecture_here()
    torch.set_float32_matmul_precision(case.precision)
    tiles.measured_rows(architecture)[case.name] = list(row)
    tiles.plan_launch.cache_clear()


@lru_cache(maxsize=1)
def calls(case: Case, size: tuple[int, int], device: str = "cuda") -> list[Callable[[], Any]]:
    """The case on as many inputs as no cache holds, each in both layouts."""
    from aea_kernels.backends.triton import operands, primitives, products, prologue

    # a norm that changes nothing, and matrices that leave results small
    channels = case.channels
    ones, zeros = torch.ones(channels, device=device), torch.zeros(channels, device=device)
    norm = "batch", [ones, zeros, zeros.double(), ones.double()], 1e-5
    matrix = torch.randn(1, channels, channels + 1, device=device) / channels
    grams = torch.randn(1, channels + 1, channels + 1, device=device) / channels

    def outer(x: torch.Tensor) -> None:
        maps = operands.feature_map(x), operands.feature_map(x)
        products.outer(x, *maps, prologue.prologue_of(x, *norm), gram=True)
        products.outer(x, *maps, prologue.prologue_of(x, *norm))

    def apply(x: torch.Tensor) -> None:
        maps = operands.feature_map(x), operands.feature_map(torch.empty_like(x))
        products.apply(x, *maps, matrix, prologue.prologue_of(x, *norm), residual=True)

    def matrix_backward(x: torch.Tensor) -> None:
        a = x.flatten(2).mT[:, None]
        primitives.apply_matrix_backward(a, a, matrix[:, None, :, :channels])

    # each kernel by what launches it in the library
    run = {
        "outer": outer,
        "apply": apply,
        "statistics": primitives.statistics,
        "features_backward": lambda x: primitives.features_backward(
            x, x, *norm, True, matrix, grams
        ),
        "matrix_backward": matrix_backward,
    }[case.kernel]

    # both layouts in turn, and so many inputs that none is left in a cache
    shape, dtype = (1, channels, *size), getattr(torch, case.dtype)
    inputs = []
    for i in range(max(2, min(8, copies(math.prod(shape) * dtype.itemsize)))):
        x = torch.randn(shape, device=device).to(dtype)
        inputs.append(x if i % 2 == 0 else x.to(memory_format=torch.channels_last))
    return [lambda x=x: run(x) for x in inputs]


def caches_of(case: Case) -> dict[int, Any]:
    """Device -> what Triton keeps of a kernel there: first of all what is compiled, by its key."""
    from aea_kernels.backends.triton import kernels

    caches: dict[int, Any] = getattr(kernels, f"{case.kernel}_kernel").device_caches
    return caches


_fitting: dict[tuple[Case, Tiles], int] = {}


def programs_that_fit(case: Case, row: Tiles) -> int:
    """On a multiprocessor, of the row's kernels; 0 where they cannot run, or spill registers."""
    # programs a multiprocessor are no part of what is compiled
    key = case, row._replace(programs_per_sm=1)
    if key in _fitting:
        return _fitting[key]

    # Forgotten first, so that what is there afterwards is the row's; the files of Triton's compiler
    # stay. Both layouts are run, which are compiled apart.
    caches_of(case).clear()
    plan_with(*key)
    try:
        for call in calls(case, SIZES[case.channels])[:2]:
            call()
        torch.cuda.synchronize()
    except Exception as error:  # too much shared memory, say: a result too
        print(f"{case.name} {row}: {type(error).__name__}")
        return _fitting.setdefault(key, 0)

    built = [kernel for cache in caches_of(case).values() for kernel in cache[0].values()]
    spilled = any(kernel.n_spills for kernel in built)
    return _fitting.setdefault(key, 0 if spilled else occupancy(built, warps=row.warps))


def occupancy(kernels: list[Any], warps: int) -> int:
    """Programs of so many warps that fit a multiprocessor: its threads, registers and shared
    memory each set a limit.
    """
    gpu = torch.cuda.get_device_properties()
    limits = [gpu.max_threads_per_multi_processor // (32 * warps)]
    for kernel in kernels:
        registers = -(-kernel.n_regs // 8) * 8 * 32 * warps  # allocated by eights for a thread
        limits.append(gpu.regs_per_multiprocessor // registers)
        limits.append(gpu.shared_memory_per_multiprocessor // (kernel.metadata.shared + 1024))
    return min(limits)


def microseconds(case: Case, row: Tiles) -> float:
    """Median time of the case on one input, from memory, as a CUDA graph; infinite where the row is
    none.
    """
    # more programs than fit would run as fewer, which is another row
    if row.programs_per_sm > programs_that_fit(case, row):
        return math.inf
    plan_with(case, row)

    # as one graph, so that the host does not count
    several = calls(case, SIZES[case.channels])
    (graph,) = capture(lambda: [call() for call in several], [()])

    # the first replay warms up
    times = []
    for _ in range(8):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * begin.elapsed_time(end) / len(several))
    return statistics.median(times[1:])


def compile_row(job: tuple[Case, Tiles]) -> None:
    """In a process of its own: the compiler's cache holds the row's kernels from then on."""
    plan_with(*job)
    try:
        for call in calls(job[0], (16, 16)):
            call()
    except Exception:  # whoever times the row says why
        return


def compile_all(cases: list[Case], architecture: int) -> None:
    jobs: dict[tuple[Case, Tiles], None] = {}
    for case in cases:
        for row in candidates(case, planned_row(case, architecture)):
            jobs[case, row._replace(programs_per_sm=1)] = None

    # two cores stay free
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 2) - 2), mp_context=context) as pool:
        list(pool.map(compile_row, jobs, chunksize=8))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of the times"
    )
    chosen = parser.parse_args()
    if chosen.device != "cuda" or not torch.cuda.is_available():
        sys.exit("benches.tune times kernels on a CUDA device, and PyTorch sees none")

    # all kernels are compiled first, on all cores; only then the GPU is timed
    deadline = time.monotonic() + 60 * chosen.minutes
    architecture = architecture_here()
    log = chosen.out / f"tune-sm{architecture}.json"
    done = json.loads(log.read_text()) if log.exists() else {}
    with aea.use_backend("triton"):
        compile_all([case for case in CASES if case.name not in done], architecture)
        whole = sweep(CASES, microseconds, architecture, log, deadline)
    print("all cases are timed" if whole else "time is up; the same command goes on from here")


if __name__ == "__main__":
    main()
