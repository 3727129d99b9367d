"""No bad input ends in a traceback, loses a good image or leaves half a file: `bad_inputs`, by the command."""

import json
import shlex
from pathlib import Path

import pytest
from bad_files import assert_no_part_of_a_file, model, picture, within_seconds
from bad_inputs import CASES, Case
from toys import aeanet

from aeanet.data.synthetic import simulate_pair
from aeanet.io.images import read_image, write_image


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model `run`, an image `good.png` and a folder `pairs`."""
    folder = tmp_path_factory.mktemp("good")
    model()(folder)
    picture("good.png")(folder)
    field = simulate_pair(0, shape=(120, 160))
    for kind in ("lr", "hr"):
        (folder / "pairs" / kind).mkdir(parents=True)
        write_image(folder / "pairs" / kind / "a.png", getattr(field, kind))
    return folder


def test_there_are_enough() -> None:
    assert len(CASES) >= 120


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input(case: Case, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.make(Path())
    words = {"RUN": good / "run", "GOOD": good / "good.png", "PAIRS": good / "pairs"}
    arguments = [str(words.get(word, word)).replace("PAIRS/", f"{good}/pairs/") for word in shlex.split(case.command)]
    with within_seconds():
        result = aeanet(*arguments)
    assert result.exit_code == case.code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    said = result.stdout if case.code == 0 else result.stderr
    assert case.says in (said if case.code != 2 else " ".join(said.replace("│", " ").split())), result.output
    if case.code == 1:
        assert result.stderr.rstrip().endswith("."), result.stderr
    if "--json" in arguments and case.code == 0:
        json.loads(result.stdout, parse_constant=pytest.fail)
    restored = "could not be restored" in result.output or case.code == 0
    if restored and str(good / "good.png") in arguments and "run" not in arguments:
        assert read_image(tmp_path / "out" / "good.png").pixels.shape == (24, 32)
    assert_no_part_of_a_file(tmp_path)
