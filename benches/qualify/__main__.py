"""`python -m benches.qualify --device cuda --minutes 9 --out DIR`: a card in one visit.

What matters most comes first, each result is written as it is found, and it ends in time: rates of
the card, the kernels beside float64, times of the block and of its launches beside their floor, a
part of the tests, other ways to compute the same, whole networks, other tiles, and NVIDIA's
sanitizers. `--tiny` runs all of it on small inputs, to see that it works.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ..report import tables
from . import blocks, building, card, checks, networks, sweeping
from .visit import Visit

STAGES = [
    ("card", card.measure, 0.05),
    ("build", building.build, 0.25),
    ("verify", checks.verified, 0.15),
    ("ours", blocks.ours, 0.3),
    ("tests", checks.tested, 0.2),
    ("networks", networks.measure, 0.15),
    ("others", blocks.others, 0.25),
    ("sweep", sweeping.sweep, 0.4),
    ("sanitizers", checks.sanitized, 1.0),
]
"""By worth; and the share of the time that each may take at most."""


def main() -> int:
    chosen = parsed()
    visit = Visit(chosen.device, chosen.out, chosen.minutes, tiny=chosen.tiny)
    for stage in STAGES:
        visit.run(*stage)
    print(tables(visit.record))
    print(visit.file)
    faults = visit.record.get("verify", {}).get("faults", [])
    return 1 if faults or visit.record.get("tests", {}).get("failed") else 0


def parsed() -> argparse.Namespace:
    """What was asked for. Ends the program where it cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.qualify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cuda", help="cuda (the default), or cpu with --tiny")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (default 9)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="of the records")
    parser.add_argument("--tiny", action="store_true", help="small inputs, to see that it works")
    chosen = parser.parse_args()

    # on a CPU only Triton's interpreter computes, whose times say nothing
    if chosen.device == "cpu" and not chosen.tiny:
        parser.error("on a CPU there is only --tiny")
    if chosen.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {chosen.device} needs a GPU, and PyTorch sees none")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
