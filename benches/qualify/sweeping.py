"""Other tiles for the kernels that are far from their floor."""

from __future__ import annotations

import time

import torch

import aea_kernels as aea
from aea_kernels.backends.triton import launching, tiles

from .. import tune
from ..contenders import TRITON
from .blocks import Case, cases, measure
from .checks import verified
from .visit import Visit

FAR = 1.3
"""Times its floor; a kernel that takes longer is swept."""


def sweep(visit: Visit) -> None:
    """`benches.tune` for those kernels; the times anew; and the table as before if a kernel is
    wrong with it.
    """
    # only kernels far from their floor; a part of the time is kept to measure them anew
    if visit.device.type != "cuda":
        return
    far = far_kernels(visit)
    chosen = [case for case in tune.CASES if (case.kernel, case.channels, case.mode) in far]
    architecture, _ = launching.device_of(torch.device("cuda", torch.cuda.current_device()))
    before = tiles.MEASURED.read_text()
    with aea.use_backend("triton"):
        tune.compile_all(chosen, architecture)
        log = visit.folder / f"tune-sm{architecture}.json"
        deadline = time.monotonic() + 0.6 * visit.left
        tune.sweep(chosen, tune.microseconds, architecture, log, deadline)

    # what was found before stays in the record, beside what is found with the new tiles
    visit.record["before the sweep"] = {
        part: dict(visit.record[part]) for part in ("groups", "launches", "verify")
    }
    verified(visit)
    if visit.record["verify"]["faults"]:
        tiles.MEASURED.write_text(before)
        tune.read_table_anew()
        return

    # only blocks of as many channels as a swept kernel had
    for case in visit.in_time(cases(visit.tiny)):
        if case.shape[1] in {channels for _, channels, _ in far}:
            measure(visit, case, TRITON)


def far_kernels(visit: Visit) -> set[tuple[str, int, str]]:
    """Kernel, channels and way of multiplying of each launch that takes longer than `FAR` times its
    floor.
    """
    found = set()
    for case in cases(visit.tiny):
        for launch in visit.record.get("launches", {}).get(case.group(), []):
            if launch["us"] > FAR * launch.get("floor_us", float("inf")):
                found.add((launch["name"], case.shape[1], _mode(case)))
    return found


def _mode(case: Case) -> str:
    dtype = str(case.dtype).removeprefix("torch.")
    return tune.Case("", case.shape[1], dtype, case.precision or "highest").mode
