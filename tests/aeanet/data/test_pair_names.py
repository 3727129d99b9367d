"""Pairs of one name: none of them is lost without a word."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeanet.data.pairs import find_pairs, load_pairs
from aeanet.data.synthetic import simulate_pair
from aeanet.errors import PairError

PAIR = simulate_pair(3, shape=(240, 320))
STEMS = ("b_10000", "b_20000", "b10000", "b20000", "b-10000", "c10000", "c20000")


def save(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = PAIR.hr if "20000" in path.stem or path.parent.name == "hr" else PAIR.lr
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)


def test_two_pairs_of_one_name_are_both_named(tmp_path: Path) -> None:
    for stem in STEMS:
        if stem != "b-10000":
            save(tmp_path / f"{stem}.png")
    found = load_pairs(tmp_path)
    assert [pair.name for pair in found.pairs] == ["c"]
    assert found.refused == {
        "b": "the name b is spelled in 2 ways (b10000.png, b20000.png, b_10000.png, b_20000.png): "
        "rename the files so that each pair has one name of its own."
    }


@pytest.mark.parametrize("number", range(1, len(STEMS)))
def test_each_file_is_in_a_pair_or_named(tmp_path: Path, number: int) -> None:
    """For every choice of files: a name is that of one pair or of one refusal, never of both."""
    for index, chosen in enumerate(combinations(STEMS, number)):
        folder = tmp_path / str(index)
        for stem in chosen:
            folder.mkdir(exist_ok=True)
            (folder / f"{stem}.png").touch()

        # by the definition: LR and HR of one spelling, which no other file has the name of
        spellings: dict[str, set[str]] = {}
        for stem in chosen:
            spellings.setdefault(stem[0], set()).add(stem[:-5])
        whole = [
            name
            for name, ways in sorted(spellings.items())
            if len(ways) == 1
            and {f"{way}{end}" for way in ways for end in (10000, 20000)} <= {*chosen}
        ]
        if whole:
            assert [pair.name for pair in find_pairs(folder)] == whole
        else:
            with pytest.raises(PairError, match="holds no complete pair"):
                find_pairs(folder)


def test_a_complete_pair_is_kept_beside_a_file_of_its_name(tmp_path: Path) -> None:
    for path in ("lr/b10000.png", "hr/b10000.png", "b10000.png", "c20000.png"):
        save(tmp_path / path)
    found = load_pairs(tmp_path)
    assert [pair.name for pair in found.pairs] == ["b10000"]
    assert [*found.refused] == ["b10000.png", "c20000.png"]
