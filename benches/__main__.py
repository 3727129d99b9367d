"""`python -m benches [DEVICE.json]`: run the suites, print each group with its ratios, record the numbers."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results" / "cpu.json"
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        status = pytest.main([str(HERE), "-q", "--benchmark-enable", "--benchmark-quiet", f"--benchmark-json={raw}"])
        if status != 0:
            return int(status)
        record = condense(json.loads(raw.read_text()))
    target.write_text(json.dumps(record, indent=1) + "\n")
    print(table(record))
    return 0


def condense(raw: dict[str, Any]) -> dict[str, Any]:
    """Device, versions, commit, date, and for every group its contenders: median and spread in ms, or bytes."""
    groups: dict[str, dict[str, Any]] = {}
    for entry in raw["benchmarks"]:
        stats, extra = entry["stats"], entry["extra_info"]
        result = extra or {key: 1e3 * stats[key] for key in ("median", "iqr", "min")} | {"rounds": stats["rounds"]}
        groups.setdefault(entry["group"], {})[entry["params"]["name"]] = result
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return {
        "device": raw["machine_info"]["cpu"].get("brand_raw", platform.processor()),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "groups": groups,
    }


def table(record: dict[str, Any]) -> str:
    """Markdown: every contender against aea, in the same run."""
    lines = ["| what | contender | median | against aea |", "|---|---|---|---|"]
    for group, results in record["groups"].items():
        for name, result in results.items():
            unit, key = ("MB", "bytes") if "bytes" in result else ("ms", "median")
            value = result[key] / 1e6 if unit == "MB" else result[key]
            ratio = result[key] / results["aea"][key]
            lines.append(f"| {group.removesuffix(', bytes')} | {name} | {value:.1f} {unit} | {ratio:.2f}x |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
