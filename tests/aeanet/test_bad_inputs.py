"""No bad input ends in a traceback, loses a good image or leaves half a file: `bad_inputs`, by the
command.
"""

import errno
import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from bad_files import assert_no_part_of_a_file, model, picture, within_seconds
from bad_inputs import CASES, Case
from toys import aeanet

from aeanet.data.synthetic import simulate_pair
from aeanet.io.images import Micrograph, read_image, write_image


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model `run`, an image `good.png` and a folder `pairs`."""
    folder = tmp_path_factory.mktemp("good")
    model()(folder)
    picture("good.png")(folder)
    field = simulate_pair(0, shape=(236, 320))
    for kind in ("lr", "hr"):
        (folder / "pairs" / kind).mkdir(parents=True)
        write_image(folder / "pairs" / kind / "a.png", getattr(field, kind))
    # Imports what all cases need.
    aeanet("predict", folder / "run", folder / "good.png", "--out", folder / "out")
    return folder


def test_there_are_enough() -> None:
    assert len(CASES) >= 120


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input(case: Case, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.make(Path())
    words = {"RUN": good / "run", "GOOD": good / "good.png", "PAIRS": good / "pairs"}
    arguments = [
        str(words.get(word, word)).replace("PAIRS/", f"{good}/pairs/")
        for word in shlex.split(case.command)
    ]
    with within_seconds():
        result = aeanet(*arguments)
    assert result.exit_code == case.code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    said = result.stdout if case.code == 0 else result.stderr
    assert case.says in (said if case.code != 2 else " ".join(said.replace("│", " ").split())), (
        result.output
    )
    if case.code == 1:
        assert result.stderr.rstrip().endswith("."), result.stderr
    if "--json" in arguments and case.code == 0:
        json.loads(result.stdout, parse_constant=pytest.fail)
    restored = "could not be restored" in result.output or case.code == 0
    if restored and str(good / "good.png") in arguments and "run" not in arguments:
        assert read_image(tmp_path / "out" / "good.png").pixels.shape == (24, 32)
    assert_no_part_of_a_file(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.mrc"])
def test_a_file_without_permission(
    name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a substitute: who runs the tests may be allowed to read everything."""
    path = tmp_path / name
    path.write_bytes(b"secret")
    opened = Path.open

    def forbidden(file: Path, *arguments: Any, **options: Any) -> object:
        if file == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return opened(file, *arguments, **options)

    monkeypatch.setattr(Path, "open", forbidden)
    result = aeanet("predict", good / "run", path, good / "good.png", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{path} cannot be read: Permission denied." in result.stderr
    assert (tmp_path / "out" / "good.png").exists()


def test_a_defect_of_ours_loses_no_image_and_keeps_its_traceback(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, **options: bool) -> Micrograph:
        if path.name == "a.png":
            raise ZeroDivisionError("a defect")
        return read_image(path, **options)

    monkeypatch.setattr("aeanet.inference.files.read_image", read)
    picture("a.png")(tmp_path)
    result = aeanet(
        "predict", good / "run", tmp_path / "a.png", good / "good.png", "--out", tmp_path / "out"
    )
    assert isinstance(result.exception, ZeroDivisionError)
    assert "a.png fails by a defect of aeanet: ZeroDivisionError: a defect" in result.stderr
    assert "1 of 2 images could not be restored" in result.stderr
    assert (tmp_path / "out" / "good.png").exists()
