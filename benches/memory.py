"""Peak resident memory of a call on a CPU, each contender in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch


@cache
def _process(contender: str) -> Any:
    """One for all calls of a contender, so that libraries are loaded and threads started once."""
    # buffers go back to the system when freed, whatever their size: else the next measurement finds
    # them again
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLOC_MMAP_THRESHOLD_", str(1 << 16))
        return multiprocessing.get_context("spawn").Pool(1)


def measure(contender: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function(contender, *arguments)` returns when it runs in the process of `contender`.

    Raises what the function raises.
    """
    return _process(contender).apply(function, (contender, *arguments))


def resident_peak(call: Callable[[], Any]) -> tuple[int, Any]:
    """Bytes by which resident memory rose at its highest during `call`, and what the call returned.
    Linux only.
    """
    with open("/proc/self/clear_refs", "w") as handle:
        handle.write("5")  # the high-water mark falls to what is resident now
    before = _status("VmRSS")
    result = call()
    return max(0, _status("VmHWM") - before), result


def side_within(budget: float, sides: Sequence[int], peaks: Sequence[float]) -> int:
    """Where the polynomial in the number of positions through these peaks reaches the budget."""
    powers = torch.tensor(
        [[float(side) ** (2 * i) for i in range(len(sides))] for side in sides], dtype=torch.float64
    )
    constant, linear, *square = torch.linalg.solve(
        powers, torch.tensor(peaks, dtype=torch.float64)
    ).tolist()
    room = budget - constant
    if not square:
        return int((room / linear) ** 0.5)
    # the root that stays finite as the square vanishes
    return int((2 * room / (linear + (linear**2 + 4 * square[0] * room) ** 0.5)) ** 0.5)


def _status(field: str) -> int:
    with open("/proc/self/status") as handle:
        line = next(line for line in handle if line.startswith(field))
    return int(line.split()[1]) * 1024
