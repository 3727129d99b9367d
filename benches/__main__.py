"""`python -m benches`: run the suites, print their tables, write `results/DEVICE.json` and draw the
figures from it.

python -m benches --quick            two minutes
python -m benches                    everything
python -m benches --suite networks   one suite
python -m benches --device cuda      on a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
import torch

from aeanet.io.text import write_json

from .figures import figures
from .report import tables

HERE = Path(__file__).parent
SUITES = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))
KEPT = ("backend", "bytes", "status", "error", "side", "attention_share")


def main() -> int:
    chosen = parsed_arguments()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        status = run_suites(raw, chosen)
        if not raw.exists() or not raw.stat().st_size:
            return status
        record = condense(json.loads(raw.read_text()), chosen.device)

    parts = [record["name"], chosen.suite, "quick" if chosen.quick else None]
    name = "-".join(part for part in parts if part)
    chosen.out.mkdir(parents=True, exist_ok=True)
    target = chosen.out / f"{name}.json"
    write_json(target, record, 1)

    print(tables(record))
    for figure in figures(record, chosen.out, name):
        print(figure)
    print(target)
    return status


def parsed_arguments() -> argparse.Namespace:
    """What was asked for. Ends the program where it cannot be had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only the cases that matter most")
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument(
        "--suite", help="one of " + ", ".join(SUITES), choices=SUITES, metavar="SUITE"
    )
    parser.add_argument("--out", type=Path, help="folder of the results", default=HERE / "results")
    chosen = parser.parse_args()

    if chosen.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"--device {chosen.device} needs a GPU, and PyTorch sees none")
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("Unset TRITON_INTERPRET: the time of Triton's interpreter is not measured")
    return chosen


def run_suites(raw: Path, chosen: argparse.Namespace) -> int:
    """Run them in pytest, which writes to `raw`; returns its exit status."""
    options = [
        "-v",
        "-n0",  # one case at a time has the machine
        "--benchmark-enable",
        "--benchmark-quiet",
        f"--benchmark-json={raw}",
        f"--device={chosen.device}",
    ]
    if chosen.quick:
        options.append("--quick")
    where = HERE / f"test_{chosen.suite}.py" if chosen.suite else HERE
    return int(pytest.main([str(where), *options]))


def condense(raw: dict[str, Any], device: str) -> dict[str, Any]:
    """The record of a run, from what pytest-benchmark wrote.

    Returns:
        Device, versions, commit and date, and under "groups" for each group and contender what was
        measured (times in ms), or under "status" why nothing was.
    """
    groups: dict[str, dict[str, Any]] = {}
    for entry in raw["benchmarks"]:
        name = entry["extra_info"]["name"]
        groups.setdefault(entry["group"], {})[name] = _result(entry)

    cuda = device != "cpu"
    if cuda:
        machine = torch.cuda.get_device_name()
    else:
        machine = raw["machine_info"]["cpu"].get("brand_raw", platform.processor())
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
        "groups": groups,
    }


def _result(entry: dict[str, Any]) -> dict[str, Any]:
    """One contender of one group."""
    stats, extra = entry["stats"], entry["extra_info"]
    result = {key: extra[key] for key in KEPT if key in extra}
    if result.keys() & {"status", "error", "side"} or entry["group"].endswith("memory"):
        return result  # no time was measured

    # repeated times of another process stand in the place of pytest-benchmark's own
    if "seconds" in extra:
        low, middle, high = quantiles(extra["seconds"], n=4)
        stats = {"median": middle, "iqr": high - low, "min": min(extra["seconds"])}
        stats["rounds"] = len(extra["seconds"])
    result |= {key: 1e3 * stats[key] for key in ("median", "iqr", "min")}
    return result | {"rounds": stats["rounds"]}


def commit() -> str:
    """The revision that is measured, short; empty outside a repository."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
