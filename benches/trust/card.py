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
    lines = ["| images | warned of | of | |", "|---|---|---|---|"]
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for title, kind in record["kinds"].items():
        groups.setdefault(kind["group"], []).append((title, kind))
    for group, members in groups.items():
        warned, number = share([kind for _, kind in members])
        name = "" if len(members) == 1 else f"**{group}**"
        if name:
            lines.append(f"| {name} | {warned} | {number} | {warned / number:.0%} |")
        lines += [
            f"| {t} | {k['warned']} | {k['images']} | {k['warned'] / k['images']:.0%} |"
            for t, k in members
        ]
    outside = [
        kind for kind in record["kinds"].values() if kind["group"] not in (LIKE_TRAINING, REAL)
    ]
    (hits, number), (warned, usual) = share(outside), share([record["kinds"][LIKE_TRAINING]])
    lost = record["kinds"][LIKE_TRAINING]["pattern"]
    text = (
        f"`aeanet restore` warns of {hits / number:.0%} of {number} images that lie outside the "
        f"training, and without need of {(warned - lost) / usual:.1%} of {usual} that do not "
        f"(`python -m benches.trust`). Of another {lost / usual:.1%} of these it warns that a "
        "regular pattern may be lost, and in the truth it is."
    )
    gains = [gain for kind in record["kinds"].values() for gain in kind["gains"]]
    errors = [[gain[2] for gain in gains if gain[0] is warned] for warned in (False, True)]
    if all(errors):
        calm, alarmed = (10 ** (statistics.median(found) / 20) for found in errors)
        text += (
            " Where there is a warning the median error of the result against the truth is "
            f"{alarmed:.1%} of the range, elsewhere {calm:.1%}."
        )
    return text + "\n\n" + "\n".join(lines)
