"""Whether the kernels are right on this card."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from aea_kernels import verify
from aea_kernels.backends import selfcheck
from aea_kernels.backends.samples import Sample, samples
from aea_kernels.core.precision import multiplication

from ..cases import arithmetic
from .visit import Visit

ROOT = Path(__file__).parents[2]
SUITES = ("test_gpu.py", "test_sanitizer.py", "test_block.py", "test_operators.py", "test_norms.py")
OUTCOMES = re.compile(r"(PASSED|FAILED|ERROR) (tests/\S+)|(tests/\S+) (PASSED|FAILED|ERROR)")
"""In a line of `pytest -v`, with pytest-xdist and without; -vv, as the project asks for -q."""


def samples_of(dtype: torch.dtype, device: torch.device, tiny: bool) -> list[Sample]:
    every = list(samples(dtype, device))
    return every[:2] if tiny else every


def verified(visit: Visit) -> None:
    """Every kernel beside float64, as `python -m aea_kernels.verify` does it."""
    right, faults = 0, []
    for dtype, precision in visit.in_time(ways()):
        with arithmetic(precision, visit.device):
            mode = multiplication(dtype)
            for sample in visit.in_time(samples_of(dtype, visit.device, visit.tiny)):
                wrong = selfcheck.fault(sample, mode)
                if wrong:
                    faults.append(f"{sample.operator} {sample.kind} {dtype} {mode}: {wrong}")
                right += not wrong
                visit.put("verify", "right", right)
                visit.put("verify", "faults", faults)


def ways() -> list[tuple[torch.dtype, str]]:
    """Every dtype, with every precision that it has."""
    return [
        (dtype, precision)
        for dtype in verify.DTYPES
        for precision in (verify.PRECISIONS if dtype == torch.float32 else ("highest",))
    ]


def tested(visit: Visit) -> None:
    """A part of the kernel tests, on the card."""
    where = [f"tests/kernels/{suite}" for suite in SUITES]
    if visit.tiny:
        where = ["tests/kernels/test_versions.py"]
    workers = 0 if visit.tiny else min(8, max(1, (os.cpu_count() or 2) - 2))
    options = ["-vv", f"-n{workers}", f"--device={visit.device.type}", "-p", "no:cacheprovider"]
    output = run([sys.executable, "-m", "pytest", *where, *options], visit.left)
    failed = [name for name, outcome in outcomes(output) if outcome != "PASSED"]
    visit.put("tests", "outcomes", count(output))
    visit.put("tests", "failed", failed)
    (visit.folder / "tests.log").write_text(output)


def sanitized(visit: Visit) -> None:
    """Every kernel on small maps under NVIDIA's tools, which find bad accesses and races."""
    tool = shutil.which("compute-sanitizer")
    if visit.device.type != "cuda" or tool is None:
        visit.put("sanitizers", "left out", "there is no compute-sanitizer, or no GPU")
        return
    for check in visit.in_time(("memcheck", "racecheck")):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, "-m", "pytest"]
        command += ["-vv", "-n0", "-m", "sanitizer", "tests/kernels", "--device=cuda"]
        output = run(command, visit.left, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        summary = re.findall(r"========= (?:ERROR|RACECHECK) SUMMARY: .*", output)
        visit.put("sanitizers", check, {"summary": summary, "tests": count(output)})
        (visit.folder / f"{check}.log").write_text(output)


def run(command: Sequence[str], seconds: float, **environment: str) -> str:
    """What a command prints until it ends, or in so many seconds."""
    # both streams in one, so that errors stand where they happened
    variables = os.environ | environment
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        # what was printed until the end of the time is a result too
        try:
            return process.communicate(timeout=max(1, seconds))[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0] + "\nThe time was over."


def outcomes(output: str) -> list[tuple[str, str]]:
    """Name and outcome of each test that `pytest -v` has run."""
    lines, _, _ = output.partition("short test summary info")
    return [(m[2] or m[3], m[1] or m[4]) for m in OUTCOMES.finditer(lines)]


def count(output: str) -> dict[str, int]:
    """How many tests have each outcome."""
    of_all = [outcome for _, outcome in outcomes(output)]
    return {outcome: of_all.count(outcome) for outcome in sorted(set(of_all))}
