"""The wheel holds the model and the tables, and works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SOURCES = ("aea_kernels", "aeanet", "pytest_equivariance.py")
SOURCES += ("setup.py", "pyproject.toml", "README.md", "LICENSE")
RESTORE = """
import sys
from pathlib import Path

import aeanet

site = Path(sys.argv[1])
aeanet.restore_file("sem", "lr.png", "restored.png", magnification=2)
from aeanet.page import Cell, Page, Table, page_html

assert "<script>" in page_html(Page("a", [Table(["a"], [[Cell("1")]], sortable=True)]))
for name, module in sys.modules.items():
    if name.partition(".")[0] in ("aeanet", "aea_kernels") and module.__file__:
        assert site in Path(module.__file__).parents, module.__file__
print("from the wheel")
"""
UNWANTED = shutil.ignore_patterns("__pycache__")


def python(*arguments: str | Path, folder: Path, path: Path | None = None) -> str:
    """What a process of its own prints that runs in `folder`, and imports from `path` first."""
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path or "")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `python -m build` makes it, from the source distribution; offline, with the setuptools
    that is installed. The sources are copied, so that no earlier build is among them.
    """
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=UNWANTED)
        else:
            shutil.copy(ROOT / name, sources / name)

    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    python("-c", build, folder=sources)
    (distribution,) = folder.glob("*.tar.gz")
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    python("-m", "pip", "wheel", *offline, distribution, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_every_file_of_the_packages_that_is_not_a_readme(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [path.relative_to(ROOT) for name in SOURCES[:2] for path in (ROOT / name).rglob("*")]
    wanted = {path.as_posix() for path in files if path.suffix not in ("", ".pyc")}
    wanted = {name for name in wanted if not name.endswith("README.md")}
    assert {"aeanet/models/sem.safetensors", "aeanet/py.typed", "aea_kernels/py.typed"} <= held
    assert wanted - held == set()


def test_napari_finds_the_plugin(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entries,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "[napari.manifest]\naeanet = aeanet.napari:napari.yaml" in archive.read(entries).decode()
    assert "aeanet/napari/napari.yaml" in archive.namelist()


def test_it_restores_an_image_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ("--no-deps", "--no-index", "--no-compile", "--target", site)
    python("-m", "pip", "install", *options, wheel, folder=tmp_path)

    pixels = np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "lr.png")
    assert python("-c", RESTORE, site, folder=tmp_path, path=site).split() == [
        "from",
        "the",
        "wheel",
    ]
    assert Image.open(tmp_path / "restored.png").size == (64, 48)
