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
ours = [m for name, m in sys.modules.items() if name.partition(".")[0] in ("aeanet", "aea_kernels")]
print([m.__name__ for m in ours if m.__file__ and site not in Path(m.__file__).parents])
"""
"""Prints what was not imported from the wheel."""


def pip(*arguments: str | Path) -> None:
    """Offline and without other packages."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that no earlier build is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    pip("wheel", *offline, "--wheel-dir", folder, folder / "source")
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_every_file_of_the_packages_that_is_not_a_readme(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    files = [path.relative_to(ROOT) for name in SOURCES[:2] for path in (ROOT / name).rglob("*")]
    wanted = {path.as_posix() for path in files if path.suffix not in ("", ".pyc")}
    wanted = {name for name in wanted if not name.endswith("README.md")}
    assert {"aeanet/models/sem.safetensors", "aeanet/py.typed", "aea_kernels/py.typed"} <= held
    assert wanted - held == set()


def test_it_restores_an_image_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip("install", "--no-deps", "--no-index", "--no-compile", "--target", site, wheel)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "lr.png")

    run = subprocess.run(
        [sys.executable, "-c", RESTORE, site],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
    assert Image.open(tmp_path / "restored.png").size == (64, 48)
