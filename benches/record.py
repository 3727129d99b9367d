"""What a record says: of the machine and the versions, and of each contender."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
"""The records from which the READMEs are made."""

KEPT = ("backend", "bytes", "status", "error", "side", "attention_share")


def header(device: str, cpu: str) -> dict[str, Any]:
    """Device, versions, commit and date of a run.

    Args:
        device: of the run, as PyTorch names it.
        cpu: the name of the processor.
    """
    # records of GPUs are named by the card, those of CPUs all alike
    cuda = device != "cpu"
    machine = torch.cuda.get_device_name() if cuda else cpu
    return {
        "name": machine.replace(" ", "-") if cuda else "cpu",
        "device": machine,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "triton": version("triton") if find_spec("triton") else None,
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def result_of(entry: dict[str, Any]) -> dict[str, Any]:
    """What was measured of one contender in one group, from an entry of pytest-benchmark: times in
    ms, and memory in bytes; or under "status" why nothing was.
    """
    stats, extra = entry["stats"], entry["extra_info"]
    result = {key: extra[key] for key in KEPT if key in extra}
    if result.keys() & {"status", "error", "side"} or entry["group"].endswith("memory"):
        return result  # no time was measured

    # repeated times that were measured otherwise stand in the place of pytest-benchmark's own
    if "seconds" in extra:
        stats = statistics_of(extra["seconds"])
    result |= {key: 1e3 * stats[key] for key in ("median", "iqr", "min")}
    return result | {"rounds": stats["rounds"]}


def statistics_of(seconds: list[float]) -> dict[str, float]:
    """Median, width of the middle half, least and number of repeated times."""
    low, middle, high = quantiles(seconds, n=4)
    return {"median": middle, "iqr": high - low, "min": min(seconds), "rounds": len(seconds)}


def commit() -> str:
    """The revision that is measured, short; empty outside a repository."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()


def read(name: str) -> Any:
    """The record `results/NAME.json`."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
