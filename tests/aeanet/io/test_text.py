"""JSON that strict parsers take, and names that any terminal takes."""

import json
import math
from pathlib import Path

import pytest

from aeanet.io.text import RecordError, json_text, read_json, visible, write_json

RECORD = {
    "psnr": [math.inf, -math.inf, math.nan, 1.5],
    "size": (1, 2),
    "name": "a\udce9 µ",
    "none": None,
}


def test_numbers_that_are_not_finite_are_texts_of_them(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", RECORD)
    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert found["psnr"] == ["Infinity", "-Infinity", "NaN", 1.5]
    assert [float(text) for text in found["psnr"][:2]] == RECORD["psnr"][:2]
    assert found == read_json(tmp_path / "a.json")
    assert (found["size"], found["name"], found["none"]) == ([1, 2], "a\\udce9 µ", None)
    assert json_text(RECORD).isascii()


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": "\xff'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordError, match=r"a.json is damaged"):
        read_json(tmp_path / "a.json")


def test_what_would_act_on_a_terminal_is_shown_as_its_code() -> None:
    assert visible("größe\x1b[31m\n\udcff 日本") == "größe\\x1b[31m\\n\\udcff 日本"
