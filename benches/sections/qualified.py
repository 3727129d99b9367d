"""What visits to cards found (`python -m benches.qualify`)."""

from __future__ import annotations

import json
from typing import Any

from .. import report
from ..contenders import COPY, TRITON
from ..record import RESULTS

COLUMNS = {"plain eager": "plain eager", "torch.compile": "torch.compile", COPY: "copy"}
"""Contenders beside ours, and the heads of their columns."""


def qualified_section() -> str:
    """A part for each card that was visited."""
    records = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*-qualified.json"))]
    if not records:
        return "No card was visited yet."
    return "\n\n".join(card(record) for record in records)


def card(record: dict[str, Any]) -> str:
    """What is right on a card, and the block's times there."""
    rates = record["card"]
    teraflops = rates["bfloat16"] / 1e12
    verify, tests = record.get("verify", {}), record.get("tests", {})
    about = (
        f"**{record['device']}**, torch {record['torch']}, triton {record['triton']}, at "
        f"{record['commit']}. A copy moves {rates['copy'] / 1e12:.2f} TB/s, a product in bfloat16 "
        f"reaches {teraflops:,.0f} TFLOP/s. {verify.get('right', 0)} kernels agree with float64, "
        f"{len(verify.get('faults', []))} do not; "
        f"{tests.get('outcomes', {}).get('PASSED', 0)} tests passed, "
        f"{len(tests.get('failed', []))} did not."
    )
    return f"{about}\n\n{blocks(record)}\n\n{launches(record)}"


def blocks(record: dict[str, Any]) -> str:
    """The block: called from Python, as a CUDA graph, the floor, and others."""
    # launches were timed forward and with gradients: each such group has its CUDA graph beside it
    head = ["block", "call", "CUDA graph", "floor", "graph / floor", *COLUMNS.values()]
    rows = []
    for group, found in record.get("launches", {}).items():
        suite, *case, direction = group.split(" | ")
        graph = " | ".join([suite, *case, "CUDA graph", direction])
        called, replayed = (record["groups"].get(name, {}) for name in (group, graph))

        # the floor is of the launches that a plan names; without it there is no ratio
        floor = 1e-3 * sum(launch.get("floor_us", 0) for launch in found)
        ours = replayed.get(TRITON, {})
        ratio = f"{ours['median'] / floor:.2f}" if "median" in ours and floor else ""
        others = [_time(replayed.get(name) or called.get(name)) for name in COLUMNS]
        cells = [_time(called.get(TRITON)), _time(ours), report.shown_time(floor), ratio, *others]
        rows.append([" ".join([*case, direction]), *cells])
    return report.markdown(head, rows)


def launches(record: dict[str, Any]) -> str:
    """Each launch beside the time in which its feature maps move."""
    rows = [
        [
            " ".join(group.split(" | ")[1:]),
            launch["name"],
            f"{launch['us']:.1f} µs",
            f"{launch['floor_us']:.1f} µs" if "floor_us" in launch else "",
        ]
        for group, found in record.get("launches", {}).items()
        for launch in found
    ]
    return report.markdown(["block", "launch", "time", "floor"], rows)


def _time(result: dict[str, Any] | None) -> str:
    """Of a contender; why there is none; or nothing, if it was not its turn."""
    if not result:
        return ""
    return result.get("status") or report.shown_time(result["median"])
