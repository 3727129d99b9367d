"""``--device compiled``: kernels run on a CPU as Triton's own front end compiles them for sm_90.

The package ttsem (Python 3.12 or 3.13, torch 2.14, Triton 3.8) executes the compiled kernels. It
stops at an access out of bounds, and at two programs that touch the same element where one of them
writes it. Memory that nobody wrote holds NaN. Every launch is counted, and the summary says which
kernels ran and what no launch had.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

SUITES = ("block", "norms", "operators", "families", "func", "triton", "sanitizer")
"""The files of tests/kernels that run, beside those of tests/kernels/conversion."""
NORMS = ("batch", "group", "layer", "rms")
"""By the number that a kernel knows a norm by."""

NORMED = ("outer", "apply", "features_backward")
"""Kernels that compute a norm."""
OF_PHI = ("phi_outer", "phi_outer_backward", "phi_apply", "phi_matrix_backward")
OVER_POSITIONS = (*NORMED, *OF_PHI, "statistics", "matrix_backward")
"""Kernels that read feature maps."""
OF_MAPS = {
    "dtype": ("bfloat16", "float16", "float32", "float64"),
    "layout": ("position", "channel"),
    "alignment": ("16 bytes", "single"),
}
PRECISIONS = ("ieee", "tf32", "bf16x3", "bf16x6")
OF_NORMED = OF_MAPS | {"norm": ("none", *NORMS), "precision": PRECISIONS}
OF_MATRICES = {"dtype": ("float32", "float64")}
"""What each kernel has to be launched with, in several programs on the same data."""


class Kind(NamedTuple):
    """What a launch is."""

    kernel: str
    phi: str
    """Of the other families."""
    dtype: str
    precision: str
    """In which float32 is multiplied."""
    layout: str
    """Whose stride is 1, of feature maps."""
    alignment: str
    """How much of a feature map is read at a time."""
    norm: str
    shared: bool
    """Several programs work on the same data."""


def kind_of(kernel: str, programs: int, arguments: dict[str, Any]) -> Kind:
    """What a launch with these arguments is."""
    kernel = kernel.removesuffix("_kernel")
    norm = arguments.get("norm")
    x = arguments.get("x") or arguments.get("a")
    if x is None:
        tensors = [t for t in _leaves(arguments) if torch.is_tensor(t)]
        dtype = min((t.dtype for t in tensors if t.is_floating_point()), key=lambda d: d.itemsize)
        return Kind(kernel, "", str(dtype)[6:], "", "", "", "", programs > 1)
    layout = x.layout.value
    return Kind(
        kernel,
        arguments.get("PHI", ""),
        str(x.pointer.dtype)[6:],
        arguments["MATH"].PRECISION,
        layout.INNER,
        "16 bytes" if layout.UNIT > 1 else "single",
        "none" if norm is None else NORMS[norm.kind.value],
        programs > x.pointer.shape[0] * arguments.get("heads", 1),
    )


def _leaves(arguments: dict[str, Any]) -> Iterator[Any]:
    """The arguments, and what is within their tuples."""
    for value in arguments.values():
        yield from value if isinstance(value, tuple) else (value,)


def front_end_only(*arguments: Any) -> tuple[str, str] | None:
    """For Triton's `add_stages_inspection_hook`: kernels are not compiled further than ttsem runs
    them, which takes a third of the time. Without arguments it is asked for its key in the cache.
    """
    if not arguments:
        return "front end", "front end"
    _, stages, *_ = arguments
    for name in ("ttgir", "llir", "ptx"):
        del stages[name]

    def no_machine_code(module: Any, metadata: dict[str, Any]) -> bytes:
        metadata |= {"name": "kernel", "shared": 0, "tmem_size": 0}
        return b""

    stages["cubin"] = no_machine_code
    return None


class CompiledDevice:
    """The pytest plugin, in the process that reports and in each that runs tests."""

    def __init__(self, config: pytest.Config) -> None:
        if find_spec("ttsem") is None:
            raise pytest.UsageError(
                "--device compiled needs Python 3.12 or 3.13 with torch 2.14.0, Triton 3.8.0 and "
                "ttsem: pip install torch==2.14.0 ttsem==0.1.0"
            )
        self.config = config
        self.began = time.monotonic()
        self.kinds: Counter[Kind] = Counter()
        self.too_large = 0
        self.is_worker = hasattr(config, "workerinput")
        self.runs_tests = self.is_worker or not config.option.numprocesses
        if not self.is_worker:
            # an empty cache for all processes: kernels that others compiled are printed in a form
            # that ttsem has to compile again at every launch
            self.cache = tempfile.TemporaryDirectory()
            os.environ["TRITON_CACHE_DIR"] = self.cache.name

    # ---- where tests run -------------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        """From here on every launch is executed by ttsem."""
        if not self.runs_tests:
            return
        self.session = import_module("ttsem.sanitize").session(cuda_is_cpu=False)
        self.state = self.session.__enter__()
        import_module("triton.knobs").runtime.add_stages_inspection_hook = front_end_only
        # kernels alone believe that there is a GPU: torch.compile asks torch.cuda too
        import_module("ttsem._fakedriver").unstub_torch_cuda()
        jit = import_module("triton.runtime.jit").JITFunction
        run = jit.run

        def counted(kernel: Any, *args: Any, grid: Any, warmup: bool, **arguments: Any) -> Any:
            result = run(kernel, *args, grid=grid, warmup=warmup, **arguments)
            if not warmup:
                # a known call gives all arguments by their places
                named = dict(zip(kernel.arg_names, args, strict=False)) | arguments
                self.kinds[kind_of(kernel.fn.__name__, grid[0], named)] += 1
            return result

        jit.run = counted
        import_module("aea_kernels.backends").kernels_run_on_cpu = True
        # memory that nobody wrote holds NaN
        torch.utils.deterministic.fill_uninitialized_memory = True
        torch.use_deterministic_algorithms(True, warn_only=True)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The suites of `SUITES` where they run kernels."""
        chosen = [item for item in items if _runs_kernels(item)]
        left_out = [item for item in items if not _runs_kernels(item)]
        self.config.hook.pytest_deselected(items=left_out)
        items[:] = chosen

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.runs_tests:
            self.session.__exit__(None, None, None)
            self.too_large = self.state.races_unchecked
        if self.is_worker:
            kinds = [[*kind, number] for kind, number in self.kinds.items()]
            self.config.workeroutput["compiled"] = {"too_large": self.too_large, "kinds": kinds}
        elif self.too_large or (self.config.getoption("--compiled-record") and self.missing()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    # ---- where results are reported --------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """What a worker counted is added to the sum."""
        found = getattr(node, "workeroutput", {}).get("compiled", {"too_large": 0, "kinds": []})
        self.too_large += found["too_large"]
        for *kind, number in found["kinds"]:
            self.kinds[Kind(*kind)] += number

    def missing(self) -> list[str]:
        """What some kernel was never launched with, in several programs on the same data."""
        found = []
        for name in _every_kernel():
            wanted = OF_MAPS if name in OVER_POSITIONS else OF_MATRICES
            for feature, values in (OF_NORMED if name in NORMED else wanted).items():
                had = {getattr(k, feature) for k in self.kinds if k.kernel == name and k.shared}
                found += [f"{name}: {feature} {value}" for value in values if value not in had]
        return found

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        record = self.record(terminalreporter)
        terminalreporter.section("kernels as compiled")
        terminalreporter.line(
            f"{len(record['kernels'])} of {len(_every_kernel())} kernels, "
            f"{record['launches']:,} launches, {record['shared']:,} of several programs on the "
            f"same data, {record['too_large']} too large to be checked for races, "
            f"{record['seconds']} s"
        )
        missing = self.missing()
        terminalreporter.line("Not launched so: " + "; ".join(missing or ["nothing"]))
        path = self.config.getoption("--compiled-record")
        if path:
            Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def record(self, terminalreporter: pytest.TerminalReporter) -> dict[str, Any]:
        """What ran, as it is written to `--compiled-record`; "shared" counts the launches in which
        several programs worked on the same data.
        """
        kernels: dict[str, dict[str, Any]] = {}
        for kind, number in sorted(self.kinds.items()):
            row = kernels.setdefault(kind.kernel, {"launches": 0, "shared": 0})
            row["launches"] += number
            row["shared"] += number * kind.shared
            for feature in Kind._fields[1:-1]:
                value = getattr(kind, feature)
                if kind.shared and value and value not in row.setdefault(feature, []):
                    row[feature].append(value)
        stats = terminalreporter.stats
        return {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "triton", "ttsem")},
            "target": "sm_90",
            "commit": _commit(),
            "date": date.today().isoformat(),
            "tests": {name: len(stats.get(name, [])) for name in ("passed", "failed", "error")},
            "launches": sum(self.kinds.values()),
            "shared": sum(number for kind, number in self.kinds.items() if kind.shared),
            "too_large": self.too_large,
            "seconds": round(time.monotonic() - self.began),
            "missing": self.missing(),
            "kernels": kernels,
        }


def _commit() -> str:
    """The revision that is tested, short; empty outside a repository."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _every_kernel() -> list[str]:
    kernels = import_module("aea_kernels.backends.triton.kernels").__all__
    return [name.removesuffix("_kernel") for name in kernels]


def _runs_kernels(item: pytest.Item) -> bool:
    if item.path.parent.name == "conversion":
        return True
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return item.path.stem.removeprefix("test_") in SUITES and parameters.get("backend") == "triton"
