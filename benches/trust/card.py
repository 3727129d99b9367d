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
    kinds = record["kinds"]
    return f"{_sentences(kinds, record.get('bfloat16'))}\n\n{_table(kinds)}"


def totals(kinds: dict[str, Any]) -> dict[str, int]:
    """Images outside the training and hits among them; images as in training, those warned of
    without need, and those whose lost pattern is lost in truth.
    """
    outside = [kind for kind in kinds.values() if kind["group"] not in (LIKE_TRAINING, REAL)]
    hits, number = share(outside)
    warned, usual = share([kinds[LIKE_TRAINING]])
    lost = kinds[LIKE_TRAINING]["pattern"]
    return {
        "outside": number,
        "hits": hits,
        "usual": usual,
        "needless": warned - lost,
        "lost pattern": lost,
    }


def _sentences(kinds: dict[str, Any], in_bfloat16: dict[str, int] | None) -> str:
    # hits are of images outside the training, false alarms of images like those in it
    found = totals(kinds)
    number, usual = found["outside"], found["usual"]
    text = (
        f"`aeanet restore` warns of {found['hits'] / number:.0%} of {number} images that lie "
        f"outside the training, and without need of {found['needless'] / usual:.1%} of {usual} "
        f"that do not (`python -m benches.trust`). Of another {found['lost pattern'] / usual:.1%} "
        f"of these it warns that a regular pattern may be lost, and in the truth it is."
    )
    if in_bfloat16:
        text += (
            f" With products in bfloat16 these are {in_bfloat16['hits'] / number:.0%}, "
            f"{in_bfloat16['needless'] / usual:.1%} and "
            f"{in_bfloat16['lost pattern'] / usual:.1%}."
        )

    # whether a warning means a worse result: errors with and without one, where the truth is known
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
