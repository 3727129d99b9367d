"""`python -m benches`: run the suites, print their tables, write `results/DEVICE.json` and draw the
figures from it.

python -m benches --quick          two minutes
python -m benches                  everything
python -m benches --suite networks
python -m benches --device cuda
"""

from __future__ import annotations

import argparse
import json
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

from . import report

HERE = Path(__file__).parent
SUITES = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))
KEPT = ("bytes", "status", "error", "side", "attention_share")


def main() -> int:
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
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        options = [
            "-v",
            "-n0",  # one case at a time has the machine
            "--benchmark-enable",
            "--benchmark-quiet",
            f"--benchmark-json={raw}",
            f"--device={chosen.device}",
        ]
        where = HERE / f"test_{chosen.suite}.py" if chosen.suite else HERE
        status = pytest.main([str(where), *options, *(["--quick"] if chosen.quick else [])])
        if not raw.exists() or not raw.stat().st_size:
            return int(status)
        record = condense(json.loads(raw.read_text()), chosen.device)
    chosen.out.mkdir(parents=True, exist_ok=True)
    name = "-".join(
        [record["name"], *filter(None, [chosen.suite, "quick" if chosen.quick else ""])]
    )
    target = chosen.out / f"{name}.json"
    write_json(target, record, 1)
    print(report.tables(record))
    for figure in report.figures(record, chosen.out, name):
        print(figure)
    print(target)
    return int(status)


def condense(raw: dict[str, Any], device: str) -> dict[str, Any]:
    """Device, versions, commit, date, and for every group its contenders: median and spread in ms,
    or why not.
    """
    groups: dict[str, dict[str, Any]] = {}
    for entry in raw["benchmarks"]:
        stats, extra = entry["stats"], entry["extra_info"]
        result = {key: extra[key] for key in KEPT if key in extra}
        if "seconds" in extra:
            quarters = quantiles(extra["seconds"], n=4)
            stats = {
                "median": quarters[1],
                "iqr": quarters[2] - quarters[0],
                "min": min(extra["seconds"]),
            }
            stats["rounds"] = len(extra["seconds"])
        if not result.keys() & {"status", "error", "side"} and not entry["group"].endswith(
            "memory"
        ):
            result |= {key: 1e3 * stats[key] for key in ("median", "iqr", "min")} | {
                "rounds": stats["rounds"]
            }
        groups.setdefault(entry["group"], {})[extra["name"]] = result
    cuda = device != "cpu"
    machine = (
        torch.cuda.get_device_name()
        if cuda
        else raw["machine_info"]["cpu"].get("brand_raw", platform.processor())
    )
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


def commit() -> str:
    """The revision that is measured, short; empty outside a repository."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
