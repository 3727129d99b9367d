"""README.md as a specification: its Python runs, its commands, names and links exist, its numbers
are recorded ones.
"""

import io
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import aea_kernels as aea
from aeanet.cli import app
from aeanet.networks.registry import build_model, save_model
from benches import __main__ as measure
from benches.readme import with_records

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


PYTHON, LINES = blocks("python"), "".join(blocks("sh")).splitlines()
FOREIGN = {"monai": ("monai", "einops"), "mmcv": ("mmcv",)}
"""What a block that imports from such a library needs."""
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"`([^`\n]+)`", PROSE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader who has trained a model and has a new image."""
    torch.manual_seed(0)
    model = build_model("aeanet", references=4)
    model.magnification = 2.0
    save_model(model, tmp_path / "runs" / "first" / "model.safetensors")
    (tmp_path / "new").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8)).save(
        tmp_path / "new" / "a.tif"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "number", [n for n, code in enumerate(PYTHON) if "\ndef test_" not in code]
)
def test_a_python_block_runs(number: int, folder: Path) -> None:
    libraries = [library for library in FOREIGN if f"from {library}" in PYTHON[number]]
    for package in (package for library in libraries for package in FOREIGN[library]):
        pytest.importorskip(
            package, reason=f"the package {package} is not installed", exc_type=ImportError
        )
    block = folder / "block.py"
    block.write_text(PYTHON[number], encoding="utf-8")
    runpy.run_path(str(block))


@pytest.mark.parametrize("number", [n for n, code in enumerate(PYTHON) if "\ndef test_" in code])
def test_a_python_block_of_tests_passes(number: int, folder: Path) -> None:
    """In a session of its own, as its reader has it."""
    block = folder / "test_block.py"
    block.write_text(PYTHON[number], encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", block.name]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def options_of_benches() -> set[str]:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(sys, "argv", ["benches", "--help"])
        with pytest.raises(SystemExit):
            measure.main()
    return set(re.findall(r"--[\w-]+", said.getvalue()))


def options_of(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def assert_known_to_pytest(words: list[str], config: pytest.Config) -> None:
    for option in options_of(words):
        config.getoption(option)  # raises ValueError for an unknown one


@pytest.mark.parametrize("line", LINES)
def test_a_shell_line_names_what_exists(
    line: str, options_of_benches: set[str], pytestconfig: pytest.Config
) -> None:
    """Arguments of `aeanet` are parsed, without running the command; options of other programs are
    known to them.
    """
    known = 0
    for words in (shlex.split(part, comments=True) for part in re.split(r"&&|;", line)):
        for program in ("aeanet", "pytest", "benches"):
            if program not in words or "pip" in words:
                continue
            known += 1
            rest = words[words.index(program) + 1 :]
            if program == "aeanet":
                COMMANDS[rest[0]].make_context(rest[0], rest[1:])
            elif program == "pytest":
                assert_known_to_pytest(rest, pytestconfig)
            else:
                assert options_of(rest) <= options_of_benches
            assert all((ROOT / word).exists() for word in rest if word.startswith("tests/"))
        known += "pip" in words
    assert known, "no program that this test knows"


@pytest.mark.parametrize("code", [code for code in INLINE if "--" in code])
def test_an_option_in_the_text_exists(
    code: str, options_of_benches: set[str], pytestconfig: pytest.Config
) -> None:
    words = shlex.split(code)
    of_commands = {
        name: {o for p in command.params for o in p.opts} for name, command in COMMANDS.items()
    }
    if words[0] == "aeanet":
        assert options_of(words) <= of_commands[words[1]]
    elif not options_of(words) <= set().union(options_of_benches, *of_commands.values()):
        assert_known_to_pytest(words, pytestconfig)


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"\b((?:aea|aeanet|aea_kernels)(?:\.\w+)+)", PROSE)))
)
def test_a_name_in_the_text_exists(name: str) -> None:
    pkgutil.resolve_name(re.sub(r"^aea\.", "aea_kernels.", name))


def test_every_device_that_can_be_planned_for_is_named() -> None:
    with pytest.raises(ValueError, match="expected one of") as error:
        aea.explain((1, 1, 1, 1), device="abacus")
    names = str(error.value).partition("expected one of ")[2].split(", ")
    assert [name for name in names if f"`{name}`" not in TEXT] == []


def test_every_link_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    anchors = {
        "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
    }
    targets = [
        target
        for target in re.findall(r"\]\(([^)]+)\)", PROSE)
        if not target.startswith("https://")
    ]
    assert [
        t for t in targets if (t not in anchors if t.startswith("#") else not (ROOT / t).exists())
    ] == []


def test_each_door_is_short() -> None:
    """The four doors come before any result, and none is longer than 15 lines of text and code."""
    before = TEXT.partition("\n## Results\n")[0]
    sections = re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", before, re.MULTILINE)
    lengths = {title: sum(bool(line) for line in body.splitlines()) for title, body in sections}
    doors = ["Restore my images", "Put the attention into my network"]
    doors += ["Test equivariance in my CI", "Benchmark time and memory at full size"]
    assert {door: lengths[door] for door in doors if lengths[door] > 15} == {}


def test_every_number_of_a_result_is_the_recorded_one() -> None:
    assert with_records(TEXT) == TEXT
