"""Tables from a recorded run, and nothing else: no number is typed."""

from __future__ import annotations

import math
from typing import Any

from .contenders import BACKENDS, BEFORE, OTHER_FUNCTIONS, OUR_NAMES, OURS

Record = dict[str, Any]
"""What `python -m benches` writes: about the run, and under "groups" what was measured."""


def tables(record: Record) -> str:
    """Markdown, a table for each suite."""
    suites: dict[str, list[str]] = {}
    for group in record["groups"]:
        suites.setdefault(group.split(" | ")[0], []).append(group)
    return "\n\n".join(
        f"### {suite}\n\n{table(record, groups)}" for suite, groups in suites.items()
    )


def table(record: Record, groups: list[str], *, only_measured: bool = False) -> str:
    """Every contender of some groups, with its ratio to ours in the same run.

    Args:
        record: of a run.
        groups: names of groups, in the order of the table.
        only_measured: leaves out what could not run; otherwise it is shown with the reason.
    """
    head = ["case", "contender", "median", "spread", "memory", "against aea"]
    rows = []
    for group in groups:
        case = " ".join(group.split(" | ")[1:])
        results = record["groups"][group]
        for name, result in results.items():
            if only_measured and "status" in result:
                continue
            cells = _cells(result, results.get(ours(results), {}))
            rows.append([case, contender(name, result.get("backend")), *cells])
    return markdown(head, rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def ours(results: dict[str, Any]) -> str:
    """The name of this library in a group, or among curves: the first of `OUR_NAMES` that was
    measured.
    """
    for name in OUR_NAMES:
        if name in results and "status" not in results[name]:
            return name
    return OURS


def contender(name: str, backend: str | None = None) -> str:
    """The name, in what it differs if it computes another function, and which backend computed it
    if its name does not say so.
    """
    if name in OTHER_FUNCTIONS:
        return f"{name} ({OTHER_FUNCTIONS[name]})"
    return f"{name} (by {backend})" if backend and name not in BACKENDS else name


def shown_time(milliseconds: float) -> str:
    """In a unit that fits."""
    if milliseconds < 1:
        return f"{1000 * milliseconds:.0f} µs"
    return f"{milliseconds:.1f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"


def _cells(result: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Measured value or why there is none, spread, memory, ratio to ours."""
    # no number: the reason stands in the place of the time
    if "status" in result:
        return [result["status"], "", "", ""]

    # a group measures one of these, and its ratio is of that one
    measured = next(key for key in ("median", "error", "side", "bytes") if key in result)
    ratio = f"{result[measured] / ours[measured]:.2f}x" if ours.get(measured) else ""
    memory = f"{result['bytes'] / 1e6:.1f} MB" if "bytes" in result else ""

    # in the columns of a time, what each suite measures in its place
    if measured == "error":
        return [f"{result['error']:.1e}", "", memory, ratio]
    if measured == "side":
        return [f"{result['side']:,} x {result['side']:,} px", "", memory, ratio]
    if measured == "bytes":
        return ["", "", memory, ratio]
    time = shown_time(result["median"])
    if "attention_share" in result:
        time += f", attention {100 * result['attention_share']:.0f} %"
    return [time, f"{100 * result['iqr'] / result['median']:.0f} %", memory, ratio]


# ---- of the suite networks -----------------------------------------------------------------------


def conversions(record: Record) -> str:
    """Whole networks, largest images and single blocks before and after `aea_kernels.convert`."""
    found = [whole_networks(record), largest_images(record), single_blocks(record)]
    return "\n\n".join(part for part in found if part)


def whole_networks(record: Record) -> str:
    """Time and memory of each network and pass. Empty if there is none."""
    head = ["network", "image", "pass", "time before", "converted", "memory before", "converted"]
    rows = []
    for group, before, after in pairs(record, "network"):
        if group[1].startswith("largest"):
            continue
        times = [r.get("status") or shown_time(r["median"]) for r in (before, after)]
        memory = [f"{r['bytes'] / 1e6:,.0f} MB" if "bytes" in r else "" for r in (before, after)]
        rows.append([*group, *times, *memory])
    return markdown(head, rows) if rows else ""


def largest_images(record: Record) -> str:
    """Side of the largest square image within a given memory. Empty if there is none."""
    rows = []
    for (name, what, *_), before, after in pairs(record, "network"):
        if what.startswith("largest"):
            sides = [r.get("status") or f"{r['side']:,} x {r['side']:,}" for r in (before, after)]
            rows.append([name, *sides])
    return markdown(["network", "largest image before", "converted"], rows) if rows else ""


def single_blocks(record: Record) -> str:
    """How many times as fast each block is, forward / forward + backward; may be empty."""
    # forward comes before forward + backward, and a reason that both share is said once
    blocks: dict[str, dict[str, list[str]]] = {}
    for (name, size, _), before, after in pairs(record, "conversion"):
        cell = blocks.setdefault(name, {}).setdefault(size, [])
        reason = before.get("status") or after.get("status")
        if reason is None:
            cell.append(f"{before['median'] / after['median']:.2f}x")
        elif reason not in cell:
            cell.append(reason)

    # a block has the sizes that it was measured at, the table all of them
    sizes = list(dict.fromkeys(size for of_sizes in blocks.values() for size in of_sizes))
    rows = [
        [name, *(" / ".join(of_sizes.get(size, [])) for size in sizes)]
        for name, of_sizes in blocks.items()
    ]
    return markdown(["block", *sizes], rows) if rows else ""


def pairs(record: Record, suite: str) -> list[tuple[list[str], dict[str, Any], dict[str, Any]]]:
    """The groups of a suite: the parts of its name, and what was measured before and after."""
    missing = {"status": "not measured"}
    return [
        (group.split(" | ")[1:], results.get(BEFORE, missing), results.get(OURS, missing))
        for group, results in record["groups"].items()
        if group.startswith(f"{suite} | ")
    ]


# ---- of the suite scaling ------------------------------------------------------------------------


def scaling(record: Record, key: str = "median") -> dict[str, list[tuple[int, float]]]:
    """Contender -> (image side, value) where it ran: ms, or bytes for the key "bytes"."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for group, results in record["groups"].items():
        if not group.startswith("scaling | "):
            continue
        side = int(group.split(" | ")[1].split(" ")[0])
        for name, result in results.items():
            if key in result:
                curves.setdefault(name, []).append((side, result[key]))
    return curves


def slope(curve: list[tuple[int, float]], least_side: int = 128) -> float:
    """Slope of log time against log positions, by least squares from `least_side` up; 1 is
    linear.
    """
    points = [(2 * math.log(side), math.log(ms)) for side, ms in curve if side >= least_side]
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return covariance / sum((x - mean_x) ** 2 for x, _ in points)
