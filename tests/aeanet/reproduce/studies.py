"""Studies of toy pairs and networks of two steps."""

from typing import Any

from toys import toy_pair

from aeanet.reproduce import (
    Study,
)
from aeanet.training import Recipe

BRIEF = Recipe.short(steps=2, batch=2, crop=16)

PAIRS = {pair.name: pair for pair in (toy_pair(seed, (150, 200)) for seed in range(3))}


def study(**changes: Any) -> Study:
    return Study(**({"pairs": PAIRS, "recipe": BRIEF, "folds": 2, "self_pairs": 2} | changes))


def silent(_label: str, _share: float) -> None: ...
