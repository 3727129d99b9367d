"""The device's own clock: events of its stream, which no work of the host disturbs."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch


def mark(device: torch.device) -> Any:
    """This moment in the device's work."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(begin: Any, end: Any) -> float:
    """Of two moments; on a GPU its work must be done."""
    return end - begin if isinstance(begin, float) else 1e-3 * float(begin.elapsed_time(end))


def median_seconds(call: Callable[[], object], device: torch.device, rounds: int = 10) -> float:
    """Of one call, after two others."""
    moments = []
    for _ in range(rounds + 2):
        begin = mark(device)
        call()
        moments.append((begin, mark(device)))
    wait(device)
    return median(seconds_between(*ends) for ends in moments[2:])


def wait(device: torch.device) -> None:
    """Until the device's work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def keep_busy(device: torch.device) -> None:
    """Work of some milliseconds, so that what is launched meanwhile waits and then runs back to
    back.
    """
    if device.type == "cuda":
        factor = torch.empty(8192, 8192, dtype=torch.bfloat16, device=device)
        for _ in range(3):
            factor @ factor
