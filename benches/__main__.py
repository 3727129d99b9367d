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
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from aeanet.io.text import write_json

from .figures import figures
from .record import RESULTS, header, result_of
from .report import tables

HERE = Path(__file__).parent
SUITES = sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))


def main() -> int:
    # pytest writes what it measured to a file, which may be missing where it could not begin
    chosen = parsed_arguments()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        status = run_suites(raw, chosen)
        if not raw.exists() or not raw.stat().st_size:
            return status
        record = condense(json.loads(raw.read_text()), chosen.device)

    # named by the machine and the part that was run, so that a part replaces no whole record
    parts = [record["name"], chosen.suite, "quick" if chosen.quick else None]
    name = "-".join(part for part in parts if part)
    chosen.out.mkdir(parents=True, exist_ok=True)
    target = chosen.out / f"{name}.json"
    write_json(target, record, 1)

    # tables and figures are made from the record alone, as the READMEs are
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
    parser.add_argument("--out", type=Path, help="folder of the results", default=RESULTS)
    chosen = parser.parse_args()

    # what would make the whole run worthless is said before it
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
    """The record of a run, from what pytest-benchmark wrote: `header`, and under "groups" for each
    group and contender its `result_of`.
    """
    groups: dict[str, dict[str, Any]] = {}
    for entry in raw["benchmarks"]:
        name = entry["extra_info"]["name"]
        groups.setdefault(entry["group"], {})[name] = result_of(entry)
    cpu = raw["machine_info"]["cpu"].get("brand_raw", platform.processor())
    return header(device, cpu) | {"groups": groups}


if __name__ == "__main__":
    sys.exit(main())
