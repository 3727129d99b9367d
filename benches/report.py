"""Tables and figures from a recorded run, and nothing else: no number is typed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .contenders import OTHER_FUNCTIONS, OURS

MAP_HEADS, CARD = 2, 80e9
"""Heads of the map in the scaling suite, and the memory of the card on which it stops fitting,
bytes.
"""
PAGE = 4096
"""The least resident memory that can be told from none, bytes."""


def tables(record: dict[str, Any]) -> str:
    """Markdown, a table for each suite."""
    suites: dict[str, list[str]] = {}
    for group in record["groups"]:
        suites.setdefault(group.split(" | ")[0], []).append(group)
    return "\n\n".join(
        f"### {suite}\n\n{table(record, groups)}" for suite, groups in suites.items()
    )


def table(record: dict[str, Any], groups: list[str], *, only_measured: bool = False) -> str:
    """Every contender against ours, in the same run; those that could not run with the reason,
    unless left out.
    """
    lines = [
        "| case | contender | median | spread | memory | against aea |",
        "|---|---|---|---|---|---|",
    ]
    for group in groups:
        results = record["groups"][group]
        for name, result in results.items():
            if only_measured and "status" in result:
                continue
            note = f" ({OTHER_FUNCTIONS[name]})" if name in OTHER_FUNCTIONS else ""
            cells = [
                " ".join(group.split(" | ")[1:]),
                name + note,
                *_cells(result, results.get(OURS, {})),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(result: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Median (or error, or why there is none), spread, memory, and how the first of them there is
    compares to ours.
    """
    if "status" in result:
        return [result["status"], "", "", ""]
    measured = next(key for key in ("median", "error", "side", "bytes") if key in result)
    ratio = f"{result[measured] / ours[measured]:.2f}x" if ours.get(measured) else ""
    memory = f"{result['bytes'] / 1e6:.1f} MB" if "bytes" in result else ""
    if measured != "median":
        shown = {"error": "{error:.1e}", "side": "{side:,} x {side:,} px", "bytes": ""}[measured]
        return [shown.format(**result), "", memory, ratio]
    share = (
        f", attention {100 * result['attention_share']:.0f} %"
        if "attention_share" in result
        else ""
    )
    return [
        f"{_time(result['median'])}{share}",
        f"{100 * result['iqr'] / result['median']:.0f} %",
        memory,
        ratio,
    ]


def _time(milliseconds: float) -> str:
    if milliseconds < 1:
        return f"{1000 * milliseconds:.0f} µs"
    return f"{milliseconds:.1f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"


def conversions(record: dict[str, Any], before: str = "before") -> str:
    """Whole networks and single blocks before and after `aea_kernels.convert`, of the suite
    networks.
    """
    lines = [
        "| network | image | pass | time before | converted | memory before | converted |",
        "|---|---|---|---|---|---|---|",
    ]
    sides = ["| network | largest image before | converted |", "|---|---|---|"]
    blocks: dict[str, dict[str, list[str]]] = {}
    for group, results in record["groups"].items():
        suite, name, *rest = group.split(" | ")
        pair = [results.get(contender, {"status": "not measured"}) for contender in (before, OURS)]
        if suite == "network" and rest[0].startswith("largest"):
            cells = [r.get("status") or f"{r['side']:,} x {r['side']:,}" for r in pair]
            sides.append(f"| {name} | {' | '.join(cells)} |")
        elif suite == "network":
            times = [r.get("status") or _time(r["median"]) for r in pair]
            memory = [f"{r['bytes'] / 1e6:,.0f} MB" if "bytes" in r else "" for r in pair]
            lines.append(f"| {' | '.join([name, *rest, *times, *memory])} |")
        elif suite == "conversion":
            cells = blocks.setdefault(name, {}).setdefault(rest[0], [])
            reason = pair[0].get("status") or pair[1].get("status")
            if reason not in cells:
                cells.append(reason or f"{pair[0]['median'] / pair[1]['median']:.2f}x")
    sizes = list(dict.fromkeys(size for of_sizes in blocks.values() for size in of_sizes))
    single = [f"| block | {' | '.join(sizes)} |", f"|{'---|' * (len(sizes) + 1)}"]
    for name, of_sizes in blocks.items():
        row = [" / ".join(of_sizes.get(size, [])) for size in sizes]
        single.append(f"| {' | '.join([name, *row])} |")
    return "\n\n".join("\n".join(table) for table in (lines, sides, single) if len(table) > 2)


def scaling(record: dict[str, Any], key: str = "median") -> dict[str, list[tuple[int, float]]]:
    """Contender -> (side, ms, or bytes for the key "bytes") of every image side that ran."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for group, results in record["groups"].items():
        if group.startswith("scaling | "):
            side = int(group.split(" | ")[1].split(" ")[0])
            for name, result in results.items():
                if key in result:
                    curves.setdefault(name, []).append((side, result[key]))
    return curves


def slope(curve: list[tuple[int, float]], least_side: int = 128) -> float:
    """Of time against positions in the logarithm, by least squares, from `least_side` up; 1 is
    linear.
    """
    points = [(2 * math.log(side), math.log(ms)) for side, ms in curve if side >= least_side]
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
        (x - mean_x) ** 2 for x, _ in points
    )


def figures(record: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Time and memory against image side, and the time of every block over its floor; PNG files in
    `folder`.
    """
    import matplotlib

    matplotlib.use("Agg")
    return [
        figure
        for draw in (_draw_scaling, _draw_floor)
        if (figure := draw(record, folder / name)) is not None
    ]


def _draw_scaling(record: dict[str, Any], stem: Path) -> Path | None:
    import matplotlib.pyplot as plt

    times, memory = scaling(record), scaling(record, "bytes")
    if not times:
        return None
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 7.5), sharex=True, layout="constrained")
    for contender, curve in times.items():
        label = (
            contender if len(curve) < 4 else f"{contender}: slope {slope(curve):.2f} in positions"
        )
        _curve(upper, contender, curve, 1, label)
    for contender, curve in memory.items():
        if contender != "copy":
            _curve(
                lower,
                contender,
                [(side, max(value, PAGE)) for side, value in curve],
                1e-6,
                contender,
            )
    sides = [2**i for i in range(5, 13)]
    maps = [MAP_HEADS * 4 * side**4 / 1e6 for side in sides]
    lower.loglog(
        sides, maps, color="gray", linestyle="--", linewidth=1, label="the map alone, computed"
    )
    limit = (CARD / 4 / MAP_HEADS) ** 0.25
    for axes in (upper, lower):
        axes.axvline(limit, color="gray", linestyle=":")
        axes.set_xscale("log", base=2)
        axes.legend(fontsize=8, frameon=False)
    lower.axhline(CARD / 1e6, color="gray", linestyle=":")
    lower.text(sides[0], CARD / 1e6 * 1.3, f"{CARD / 1e9:.0f} GB", fontsize=8, color="gray")
    text = "beyond, no card of\n80 GB holds the map"
    upper.text(limit * 1.05, upper.get_ylim()[1] / 1.5, text, va="top", fontsize=8, color="gray")
    upper.set(ylabel="block, inference, ms")
    lower.set(
        xlabel="image side, pixels (32 channels, float32)",
        ylabel="memory beyond input and output, MB",
    )
    upper.set_title(f"{record['device']}, torch {record['torch']}", fontsize=9)
    return _save(figure, stem, "scaling")


def _curve(
    axes: Any, contender: str, curve: list[tuple[int, float]], unit: float, label: str
) -> None:
    sides, values = zip(*curve, strict=True)
    width = 2.5 if contender == OURS else 1.2
    axes.loglog(
        sides, [unit * v for v in values], marker="o", markersize=4, linewidth=width, label=label
    )


def _draw_floor(record: dict[str, Any], stem: Path) -> Path | None:
    """The floor is whichever is slower: a copy's three halves (two reads, one write), or the bare
    products.
    """
    import matplotlib.pyplot as plt

    rows = []
    for group, results in record["groups"].items():
        floors = [
            results.get("bare products", {}).get("median"),
            1.5 * results.get("copy", {}).get("median", 0),
        ]
        if not group.startswith("block | ") or not group.endswith("| forward") or None in floors:
            continue
        for contender in (OURS, "torch.compile", "plain eager"):
            if "median" in results.get(contender, {}):
                case = ", ".join(group.split(" | ")[1:3])
                rows.append((case, contender, results[contender]["median"] / max(floors)))
    if not rows:
        return None
    cases = list(dict.fromkeys(case for case, _, _ in rows))
    figure, axes = plt.subplots(figsize=(7, 1 + 0.5 * len(cases)), layout="constrained")
    for i, contender in enumerate((OURS, "torch.compile", "plain eager")):
        mine = [(cases.index(case), ratio) for case, name, ratio in rows if name == contender]
        if mine:
            at, ratios = zip(*mine, strict=True)
            axes.barh([y + 0.26 * (i - 1) for y in at], ratios, height=0.24, label=contender)
    axes.axvline(1, color="gray", linestyle=":")
    axes.set_yticks(range(len(cases)), cases, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="time of inference over the floor (bare products, or moving the bytes)")
    axes.legend(fontsize=8, frameon=False)
    return _save(figure, stem, "floor")


def _save(figure: Any, stem: Path, what: str) -> Path:
    import matplotlib.pyplot as plt

    path = stem.with_name(f"{stem.name}-{what}.png")
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
