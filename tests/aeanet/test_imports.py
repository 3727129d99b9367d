"""What is imported when and from where, and that setup.py declares every package that is."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
HEAVY = ("cv2", "skimage", "matplotlib", "tensorboard", "tifffile", "zarr", "scipy")
LAYERS = (
    ("__main__", "cli", "napari", "reproduce", "demo"),
    ("training", "scoring", "figures", "page"),
    ("inference",),
    ("trust",),
    ("networks",),
    ("data",),
    ("io",),
    ("imaging",),
    ("distributed", "errors", "imports"),
)
"""The parts of aeanet from top to bottom. A part imports from its layer and from those below."""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_a_network_needs_pytorch_alone() -> None:
    build = "import sys; from aeanet import build_model; build_model('aeanet')"
    code = f"{build}; print({{*{HEAVY}}} & {{*sys.modules}})"
    assert python(code).stdout == "set()\n"


THEN_IMPORTED = """
import sys
from aeanet.__main__ import main
try:
    main()
finally:
    print("", *sys.modules, file=sys.stderr)
"""
"""Runs the command; the last line on standard error has all modules."""
NEVER_TO_RESTORE = (
    *("torch._dynamo", "torch._inductor", "sympy", "triton", "scipy", "skimage", "matplotlib"),
    *("tensorboard", "zarr", "rsciio", "markdown_it", "jinja2"),
    *("aeanet.data", "aeanet.scoring", "aeanet.figures", "aeanet.page", "aeanet.training.run"),
    *("aeanet.napari", "napari", "magicgui", "superqt"),
)
"""Modules that take long to import, or belong to other commands."""


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("restore a.png --flips 1", NEVER_TO_RESTORE),
        ("predict sem a.tif --magnification 1 --out out", NEVER_TO_RESTORE),
        ("info sem", ("torch._dynamo", "sympy", "triton", "scipy", "zarr", "aeanet.data")),
        ("info a.tif", ("torch", "scipy", "zarr", "rsciio", "aeanet.data")),
        ("--help", ("torch", "numpy.fft", *HEAVY)),
    ],
)
def test_a_command_imports_what_it_uses(
    command: str, absent: tuple[str, ...], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 96), np.uint8)
    for name in ("a.png", "a.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
    result = subprocess.run(
        [sys.executable, "-c", THEN_IMPORTED, *command.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    imported = result.stderr.splitlines()[-1].split()
    assert [name for name in absent if name in imported] == []


def test_only_napari_imports_the_plugin() -> None:
    importing = [
        file.name
        for file in (ROOT / "aeanet").rglob("*.py")
        if file.parent.name != "napari"
        for name in imported_modules(ast.parse(file.read_text(encoding="utf-8")))
        if name.startswith(("aeanet.napari", "napari", "magicgui", "superqt"))
    ]
    assert importing == []


def test_the_names_of_a_script_are_all_there() -> None:
    import aeanet

    assert {"AEANet", "build_model", "evaluate", "load_model", "register_pair", "restore_file"} < {
        *aeanet.__all__
    }
    assert all(getattr(aeanet, name) for name in aeanet.__all__)


def test_without_its_packages_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from aeanet.__main__ import main; main()"
    result = python(code)
    assert result.returncode == 1
    assert result.stderr == (
        "The package typer is not installed: aeanet needs more packages here, "
        "pip install 'aeanet[em]'.\n"
    )


def test_every_package_that_is_imported_is_declared() -> None:
    imported = set()
    for file in (ROOT / "aeanet").rglob("*.py"):
        modules = imported_modules(ast.parse(file.read_text(encoding="utf-8")))
        imported |= {name.partition(".")[0] for name in modules}
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    declared = {
        name.lower().replace("_", "-") for name in re.findall(r'"([\w-]+)(?:\[\w+\])?>=', setup)
    }
    homes = packages_distributions()
    for name in sorted(imported - {*sys.stdlib_module_names, "aeanet", "aea_kernels"}):
        # Packages of an extra that is not installed go by the name of their module.
        known = homes.get(name, [name])
        assert declared & {home.lower().replace("_", "-") for home in known}, (
            f"setup.py does not declare {name}"
        )


def test_no_import_runs_upwards() -> None:
    layer_of = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}
    upwards = []
    for file in (ROOT / "aeanet").rglob("*.py"):
        module = file.relative_to(ROOT / "aeanet").with_suffix("").parts
        if module == ("__init__",):
            continue
        # `python -m` of a part is a command, wherever the part lies.
        layer = 0 if module[-1] == "__main__" else layer_of[module[0]]
        imported = imported_modules(ast.parse(file.read_text(encoding="utf-8")))
        parts = {name.split(".")[1] for name in imported if name.startswith("aeanet.")}
        upwards += [f"{file.name}: {part}" for part in parts if layer_of[part] < layer]
    assert not upwards


def imported_modules(tree: ast.Module) -> set[str]:
    """The modules that a file imports, with the names that it takes from each."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names
