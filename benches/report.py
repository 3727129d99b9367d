"""Tables and figures from a recorded run, and nothing else: no number is typed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .contenders import OTHER_FUNCTIONS, OURS

MAP_HEADS, CARD = 2, 80e9
"""Heads of the map in the scaling suite, and the memory of the card on which it stops fitting, bytes."""


def tables(record: dict[str, Any]) -> str:
    """Markdown, a table for each suite."""
    suites: dict[str, list[str]] = {}
    for group in record["groups"]:
        suites.setdefault(group.split(" | ")[0], []).append(group)
    return "\n\n".join(f"### {suite}\n\n{table(record, groups)}" for suite, groups in suites.items())


def table(record: dict[str, Any], groups: list[str]) -> str:
    """Every contender against ours, in the same run; those that could not run with the reason."""
    lines = ["| case | contender | median | spread | against aea |", "|---|---|---|---|---|"]
    for group in groups:
        results = record["groups"][group]
        for name, result in results.items():
            value, spread, ratio = _cells(result, results.get(OURS, {}))
            note = f" ({OTHER_FUNCTIONS[name]})" if name in OTHER_FUNCTIONS else ""
            lines.append(f"| {' '.join(group.split(' | ')[1:])} | {name}{note} | {value} | {spread} | {ratio} |")
    return "\n".join(lines)


def _cells(result: dict[str, Any], ours: dict[str, Any]) -> tuple[str, str, str]:
    if "status" in result:
        return result["status"], "", ""
    if "median" in result:
        ratio = f"{result['median'] / ours['median']:.2f}x" if "median" in ours else ""
        share = f", attention {100 * result['attention_share']:.0f} %" if "attention_share" in result else ""
        return f"{_time(result['median'])}{share}", f"{100 * result['iqr'] / result['median']:.0f} %", ratio
    key = "error" if "error" in result else "bytes"
    text = f"{result[key]:.1e}" if key == "error" else f"{result[key] / 1e6:.1f} MB"
    return text, "", f"{result[key] / ours[key]:.2f}x" if key in ours else ""


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"


def scaling(record: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Contender -> (side, ms) of every image side that ran."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for group, results in record["groups"].items():
        if group.startswith("scaling | "):
            side = int(group.split(" | ")[1].split(" ")[0])
            for name, result in results.items():
                if "median" in result:
                    curves.setdefault(name, []).append((side, result["median"]))
    return curves


def slope(curve: list[tuple[int, float]], least_side: int = 128) -> float:
    """Of time against positions in the logarithm, by least squares, from `least_side` up; 1 is linear."""
    points = [(2 * math.log(side), math.log(ms)) for side, ms in curve if side >= least_side]
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def figures(record: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Time against image side, and the time of every block over its floor; PNG files in `folder`."""
    import matplotlib

    matplotlib.use("Agg")
    return [figure for draw in (_draw_scaling, _draw_floor) if (figure := draw(record, folder / name)) is not None]


def _draw_scaling(record: dict[str, Any], stem: Path) -> Path | None:
    import matplotlib.pyplot as plt

    curves = scaling(record)
    if not curves:
        return None
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for contender, curve in curves.items():
        sides, times = zip(*curve, strict=True)
        bold = contender == OURS
        label = contender if len(curve) < 4 else f"{contender}: slope {slope(curve):.2f} in positions"
        axes.loglog(sides, times, marker="o", markersize=4, linewidth=2.5 if bold else 1.2, label=label)
    limit = (CARD / 4 / MAP_HEADS) ** 0.25
    axes.axvline(limit, color="gray", linestyle=":")
    text = f"beyond, the map\npasses {CARD / 1e9:.0f} GB"
    axes.annotate(text, (limit * 1.05, axes.get_ylim()[1] / 2), va="top", fontsize=8, color="gray")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="image side, pixels (32 channels, float32)", ylabel="block, inference, ms")
    axes.set_title(f"{record['device']}, torch {record['torch']}", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return _save(figure, stem, "scaling")


def _draw_floor(record: dict[str, Any], stem: Path) -> Path | None:
    """The floor is whichever is slower: a copy's three halves (two reads, one write), or the bare products."""
    import matplotlib.pyplot as plt

    rows = []
    for group, results in record["groups"].items():
        floors = [results.get("bare products", {}).get("median"), 1.5 * results.get("copy", {}).get("median", 0)]
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
