"""The READMEs as a specification: their Python runs, their commands, names and links exist, their
numbers are recorded ones.
"""

import io
import os
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout
from glob import glob
from importlib.util import find_spec
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
from benches.readme import PAGES as GENERATED
from benches.readme import ROOT, sections_of, with_records
from benches.sections import SECTIONS

TEXTS = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in [*GENERATED, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
}
README = TEXTS["README.md"]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = {page: FENCED.sub("", text) for page, text in TEXTS.items()}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
NEEDS = {
    "from monai": ("monai", "einops"),
    "from mmcv": ("mmcv",),
    "import triton": ("triton",),
    'device="h200"': ("triton",),
}
"""What a block with these words needs."""


def blocks(kind: str) -> dict[str, str]:
    """The code blocks of that kind in all pages, by page and number."""
    found = {}
    for page, text in TEXTS.items():
        codes = [code for language, code in FENCED.findall(text) if language == kind]
        found |= {f"{page} {number}": code for number, code in enumerate(codes, 1)}
    return found


PYTHON = blocks("python")
TESTS = {place: code for place, code in PYTHON.items() if "\ndef test_" in code}
SCRIPTS = {place: code for place, code in PYTHON.items() if place not in TESTS}
LINES = [
    (place, line)
    for place, code in blocks("sh").items()
    for line in code.splitlines()
    if line and not line.startswith(("#", "export ", "unset "))
]
INLINE = [(page, code) for page, text in PROSE.items() for code in re.findall(r"`([^`\n]+)`", text)]


# ---- Python --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader who has trained a model and has a new image."""
    torch.manual_seed(0)
    model = build_model("aeanet", references=4)
    model.magnification = 2.0
    save_model(model, tmp_path / "runs" / "first" / "model.safetensors")
    (tmp_path / "new").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new" / "a.tif")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("place", SCRIPTS)
def test_a_python_block_runs(place: str, folder: Path) -> None:
    for words, packages in NEEDS.items():
        for package in packages if words in SCRIPTS[place] else ():
            reason = f"the package {package} is not installed"
            pytest.importorskip(package, reason=reason, exc_type=ImportError)

    block = folder / "block.py"
    block.write_text(SCRIPTS[place], encoding="utf-8")
    if "import triton" in SCRIPTS[place]:
        compile_outside_the_interpreter(block)
    else:
        runpy.run_path(str(block))


def compile_outside_the_interpreter(block: Path) -> None:
    """A process of its own, since Triton reads the variable once, when it is imported."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, block], check=True, env=environment)


@pytest.mark.parametrize("place", TESTS)
def test_a_python_block_of_tests_passes(place: str, folder: Path) -> None:
    """In a session of its own, as its reader has it."""
    block = folder / "test_block.py"
    block.write_text(TESTS[place], encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", block.name]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


# ---- commands ------------------------------------------------------------------------------------


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


def source_of(program: str) -> str | None:
    """The text of a program of this repository, by its module `benches.NAME` or its file; None for
    others.
    """
    if program.endswith(".py"):
        return (ROOT / program).read_text(encoding="utf-8")
    if not program.startswith(("benches.", "aea_kernels.")):
        return None
    spec = find_spec(program)
    if spec is not None and spec.submodule_search_locations:
        spec = find_spec(f"{program}.__main__")
    assert spec is not None, f"there is no {program}"
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def check_program(
    program: str, rest: list[str], options_of_benches: set[str], config: pytest.Config
) -> bool:
    """That a program knows its arguments; False for a program of others."""
    if program == "aeanet":
        COMMANDS[rest[0]].make_context(rest[0], rest[1:])
    elif program == "pytest":
        assert_known_to_pytest(rest, config)
    elif program == "benches":
        assert options_of(rest) <= options_of_benches
    else:
        source = source_of(program)
        if source is None:
            return program in ("pip", "ruff", "mypy", "pre-commit", "git", ".ci/run")
        assert [option for option in options_of(rest) if f'"{option}"' not in source] == []
    assert all((ROOT / word).exists() for word in rest if word.startswith("tests/"))
    return True


@pytest.mark.parametrize(("place", "line"), LINES)
def test_a_shell_line_names_what_exists(
    place: str, line: str, options_of_benches: set[str], pytestconfig: pytest.Config
) -> None:
    """Arguments of `aeanet` are parsed, without running the command; options of other programs are
    known to them.
    """
    known = False
    for part in re.split(r"&&|;", line):
        words = shlex.split(part, comments=True)
        if "-m" in words:
            words = words[words.index("-m") + 1 :]
        for number, word in enumerate(words):
            if check_program(word, words[number + 1 :], options_of_benches, pytestconfig):
                known = True
                break  # the rest are its arguments
    assert known, f"{place} runs no program that this test knows"


IN_README = [line for place, line in LINES if place.startswith("README.md")]
RESTORING = re.findall(r"aeanet (?:restore|predict) .*", "\n".join(IN_README))


@pytest.mark.parametrize("command", RESTORING)
def test_a_command_that_restores_runs(command: str, folder: Path) -> None:
    """Those of the top README, which take seconds; what trains takes minutes."""
    example = folder / "benches" / "results" / "example.png"
    example.parent.mkdir(parents=True)
    shutil.copy(ROOT / "benches" / "results" / "example.png", example)

    arguments = []
    for word in shlex.split(command, comments=True)[1:]:
        arguments += sorted(glob(word)) or [word]
    app(arguments, standalone_mode=False)
    (out,) = {folder / name for name in ("restored", "better")} & set(folder.iterdir())
    (image,) = [Path(name) for name in arguments if Path(name).is_file()]
    before, after = Image.open(image).size, Image.open(out / image.name).size
    assert after == (2 * before[0], 2 * before[1])


@pytest.mark.parametrize(("page", "code"), [(p, code) for p, code in INLINE if "--" in code])
def test_an_option_in_the_text_exists(
    page: str, code: str, options_of_benches: set[str], pytestconfig: pytest.Config
) -> None:
    words = shlex.split(code)
    of_commands = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in COMMANDS.items()
    }
    if words[0] == "aeanet" and words[1] in of_commands:
        assert options_of(words) <= of_commands[words[1]]
    elif words[:2] == ["python", "-m"]:
        rest = words[3:]
        assert check_program(words[2], rest, options_of_benches, pytestconfig)
    elif not options_of(words) <= {"--help"}.union(options_of_benches, *of_commands.values()):
        assert_known_to_pytest(words, pytestconfig)


def test_readme_has_two_commands() -> None:
    """One runs the main job and one passes the tests; `.ci/run` takes the latter from the text."""
    commands = [line for line in IN_README if "pip" in line]
    job, tests = (line.partition(" && ")[2] for line in commands)
    assert (job.split()[0], tests) == ("aeanet", "pytest")


# ---- names, links, numbers -----------------------------------------------------------------------

NAMES = re.compile(r"\b((?:aea|aeanet|aea_kernels)(?:\.\w+)+)")


@pytest.mark.parametrize(
    "name", sorted({name for text in PROSE.values() for name in NAMES.findall(text)})
)
def test_a_name_in_the_text_exists(name: str) -> None:
    if not (ROOT / name).exists():  # a file of that name, otherwise
        pkgutil.resolve_name(re.sub(r"^aea\.", "aea_kernels.", name))


@pytest.mark.parametrize("page", TEXTS)
def test_every_place_in_the_text_exists(page: str) -> None:
    """Paths from the top, anywhere; in tables also files and folders beside the page."""
    from_top = re.compile(r"(aea_kernels|aeanet|benches|tests)/[\w./]*")
    places = [word for p, code in INLINE if p == page for word in code.split()]
    missing = [word for word in places if from_top.fullmatch(word) and not (ROOT / word).exists()]

    beside = (ROOT / page).parent
    for row in re.findall(r"^\|.*$", PROSE[page], re.MULTILINE):
        for name in re.findall(r"`([\w./]+(?:/|\.py))`", row):
            if not (beside / name).exists() and not (ROOT / name).exists():
                missing.append(name)
    assert missing == []


def test_every_device_that_can_be_planned_for_is_named() -> None:
    with pytest.raises(ValueError, match="expected one of") as error:
        aea.explain((1, 1, 1, 1), device="abacus")
    names = str(error.value).partition("expected one of ")[2].split(", ")
    assert [name for name in names if f"`{name}`" not in TEXTS["aea_kernels/README.md"]] == []


def anchors_of(path: Path) -> set[str]:
    """The anchors of a Markdown file's headings, as GitHub makes them."""
    prose = FENCED.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page: str) -> None:
    here = ROOT / page
    for target in re.findall(r"\]\(([^)]+)\)", PROSE[page]):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = here.parent / file if file else here
        assert path.exists(), target
        assert not anchor or anchor in anchors_of(path), target


@pytest.mark.parametrize("page", GENERATED, ids=list(TEXTS)[: len(GENERATED)])
def test_every_number_of_a_result_is_the_recorded_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_records(text) == text


def test_every_generated_part_has_one_place() -> None:
    places = Counter(name for text in TEXTS.values() for name in sections_of(text))
    assert places == dict.fromkeys(SECTIONS, 1)


# ---- to be read to the end -----------------------------------------------------------------------


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 160


def test_each_door_is_short() -> None:
    """The four doors come before any result, and none is longer than 15 lines of text and code."""
    before = README.partition("\n## Results\n")[0]
    sections = re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", before, re.MULTILINE)
    lengths = {title: sum(bool(line) for line in body.splitlines()) for title, body in sections}
    doors = ["Restore my images", "Use the attention in my network"]
    doors += ["Make the attention of my network linear", "Test symmetries in my CI"]
    assert {door: lengths[door] for door in doors if lengths[door] > 15} == {}


def test_no_sentence_is_written_twice() -> None:
    """In the prose of all pages: tables and headings may repeat each other."""
    sentences: Counter[str] = Counter()
    for text in PROSE.values():
        lines = [
            line for line in text.splitlines() if not line.startswith(("|", "<!--", "#", "- ["))
        ]
        for paragraph in re.split(r"\n(?:\n|(?=- ))", "\n".join(lines)):
            found = re.split(r"(?<=[.:]) ", " ".join(paragraph.split()))
            sentences.update(sentence for sentence in found if sentence.count(" ") >= 5)
    assert [sentence for sentence, times in sentences.items() if times > 1] == []
