"""``--device compiled``: kernels run on a CPU as Triton's own front end compiles them for sm_90.

The package ttsem (Python 3.12 or 3.13, torch 2.14, Triton 3.8) executes the compiled kernels. It
stops at an access out of bounds, and at two programs that touch the same element where one of them
writes it. Memory that nobody wrote holds NaN. Every launch is counted, and the summary says which
kernels ran.
"""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch

SUITES = ("block", "norms", "operators", "families", "func", "triton")
"""The files of tests/kernels that run, beside those of tests/kernels/conversion."""
NORMS = ("batch", "group", "layer", "rms")
"""By the number that a kernel knows a norm by."""
FEATURES = ("dtypes", "layouts", "aligned", "norms")
Kind = tuple[str, str, str, str, str, bool]
"""Of a launch: kernel, dtype, layout, alignment, norm, and whether programs share their data."""


def kind_of(kernel: str, programs: int, arguments: dict[str, Any]) -> Kind:
    """What a launch is, for the record: its `Kind`."""
    name = kernel.removesuffix("_kernel")
    x = arguments.get("x") or arguments.get("a")
    phi = arguments.get("PHI", "none")
    name += "" if phi == "none" else f" {phi}"
    norm = arguments.get("norm")
    norm_name = "none" if norm is None else NORMS[norm.kind.value]
    if x is None:
        dtypes = {t.dtype for t in _tensors(arguments) if t.dtype.is_floating_point}
        dtype = min(dtypes, key=lambda d: d.itemsize)
        return name, _short(dtype), "", "", norm_name, programs > 1
    images = x.pointer.shape[0] * arguments.get("heads", 1)
    layout = x.layout.value
    inner = layout.INNER if layout.FLAT else f"{layout.INNER}, sliced"
    aligned = "16 bytes" if layout.UNIT > 1 else "single"
    return name, _short(x.pointer.dtype), inner, aligned, norm_name, programs > images


def _tensors(arguments: dict[str, Any]) -> list[torch.Tensor]:
    """Those among the arguments and within their tuples."""
    found: list[torch.Tensor] = []
    for value in arguments.values():
        found += [t for t in (value if isinstance(value, tuple) else [value]) if torch.is_tensor(t)]
    return found


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class CompiledDevice:
    """The pytest plugin, in the process that reports and in each that runs tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.began = time.monotonic()
        self.kinds: Counter[Kind] = Counter()
        self.too_large = 0
        self.runs_tests = hasattr(config, "workerinput") or not config.option.numprocesses

    # ---- where tests run -------------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        """From here on every launch is executed by ttsem."""
        if not self.runs_tests:
            return
        sanitize = import_module("ttsem.sanitize")
        self.session = sanitize.session(cuda_is_cpu=False)
        self.state = self.session.__enter__()
        # kernels alone believe that there is a GPU: torch.compile asks torch.cuda too
        import_module("ttsem._fakedriver").unstub_torch_cuda()
        jit = import_module("triton.runtime.jit").JITFunction
        run = jit.run

        def counted(kernel: Any, *args: Any, grid: Any, warmup: bool, **arguments: Any) -> Any:
            result = run(kernel, *args, grid=grid, warmup=warmup, **arguments)
            if not warmup:
                self.kinds[kind_of(kernel.fn.__name__, grid[0], arguments)] += 1
            return result

        jit.run = counted
        import_module("aea_kernels.backends").kernels_run_on_cpu = True
        # memory that nobody wrote holds NaN
        torch.utils.deterministic.fill_uninitialized_memory = True
        torch.use_deterministic_algorithms(True, warn_only=True)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The suites of `SUITES` where they run kernels."""
        chosen = [item for item in items if _runs_kernels(item)]
        self.config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen

    def pytest_sessionfinish(self) -> None:
        if not self.runs_tests:
            return
        self.session.__exit__(None, None, None)
        self.too_large = self.state.races_unchecked
        if hasattr(self.config, "workeroutput"):
            kinds = [[*kind, number] for kind, number in self.kinds.items()]
            self.config.workeroutput["compiled"] = {"too_large": self.too_large, "kinds": kinds}

    # ---- where results are reported --------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """What a worker counted is added to the sum."""
        found = getattr(node, "workeroutput", {}).get("compiled", {"too_large": 0, "kinds": []})
        self.too_large += found["too_large"]
        for *kind, number in found["kinds"]:
            self.kinds[tuple(kind)] += number  # type: ignore[index]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        record = self.record(terminalreporter)
        kernels = import_module("aea_kernels.backends.triton.kernels").__all__
        ran = {name.removesuffix("_kernel") for name in kernels} & {
            kind[0].split()[0] for kind in self.kinds
        }
        terminalreporter.section("kernels as compiled")
        terminalreporter.line(
            f"{len(ran)} of {len(kernels)} kernels, {record['launches']:,} launches, "
            f"{record['launches of several programs on the same data']:,} of them of several "
            f"programs on the same data; {record['launches too large to be checked for races']} "
            f"too large to be checked for races; {record['seconds']} s"
        )
        path = self.config.getoption("--compiled-record")
        if path:
            Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def record(self, terminalreporter: pytest.TerminalReporter) -> dict[str, Any]:
        """What ran, as it is written to `--compiled-record`."""
        outcomes = {
            name: len(terminalreporter.stats.get(name, []))
            for name in ("passed", "failed", "error")
        }
        kernels: dict[str, dict[str, Any]] = {}
        for (name, *features, shared), number in sorted(self.kinds.items()):
            row = kernels.setdefault(name, {"launches": 0, "several": 0})
            row["launches"] += number
            if shared:
                row["several"] += number
                for feature, value in zip(FEATURES, features, strict=True):
                    values = row.setdefault(feature, [])
                    if value not in values:
                        values.append(value)
        return {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "triton", "ttsem")},
            "target": "sm_90",
            "tests": outcomes,
            "launches": sum(self.kinds.values()),
            "launches of several programs on the same data": sum(
                number for kind, number in self.kinds.items() if kind[-1]
            ),
            "launches too large to be checked for races": self.too_large,
            "seconds": round(time.monotonic() - self.began),
            "kernels": kernels,
        }


def _runs_kernels(item: pytest.Item) -> bool:
    path = item.path
    if path.parent.name == "conversion":
        return True
    backend = getattr(item, "callspec", None) and item.callspec.params.get("backend")
    return path.stem.removeprefix("test_") in SUITES and backend == "triton"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
