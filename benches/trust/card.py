"""The section of the model card on the warnings, from their record."""

import statistics
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parents[1] / "results" / "trust.json"
LIKE_TRAINING, REAL = "simulated, as in training", "real pairs, LR"


def share(kinds: list[dict[str, Any]]) -> tuple[int, int]:
    return sum(kind["warned"] for kind in kinds), sum(kind["images"] for kind in kinds)


def card_section(record: dict[str, Any]) -> str:
    """The table of the model card, and how large the error is where there is a warning."""
    return f"{_sentences(record['kinds'])}\n\n{_table(record['kinds'])}"


def _sentences(kinds: dict[str, Any]) -> str:
    outside = [kind for kind in kinds.values() if kind["group"] not in (LIKE_TRAINING, REAL)]
    hits, number = share(outside)
    warned, usual = share([kinds[LIKE_TRAINING]])
    lost = kinds[LIKE_TRAINING]["pattern"]
    text = (
        f"`aeanet restore` warns of {hits / number:.0%} of {number} images that lie outside the "
        f"training, and without need of {(warned - lost) / usual:.1%} of {usual} that do not "
        f"(`python -m benches.trust`). Of another {lost / usual:.1%} of these it warns that a "
        f"regular pattern may be lost, and in the truth it is."
    )

    gains = [gain for kind in kinds.values() for gain in kind["gains"]]
    errors = [[error for warned, _, error in gains if warned is which] for which in (False, True)]
    if not all(errors):
        return text
    calm, alarmed = (10 ** (statistics.median(found) / 20) for found in errors)
    return (
        f"{text} Where there is a warning the median error of the result against the truth is "
        f"{alarmed:.1%} of the range, elsewhere {calm:.1%}."
    )


def _table(kinds: dict[str, Any]) -> str:
    """A row for each kind, and one above each group of several."""
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for title, kind in kinds.items():
        groups.setdefault(kind["group"], []).append((title, kind))

    lines = ["| images | warned of | of | |", "|---|---|---|---|"]
    for group, members in groups.items():
        named = [(title, [kind]) for title, kind in members]
        if len(members) > 1:
            named.insert(0, (f"**{group}**", [kind for _, kind in members]))
        for title, counted in named:
            warned, number = share(counted)
            lines.append(f"| {title} | {warned} | {number} | {warned / number:.0%} |")
    return "\n".join(lines)
