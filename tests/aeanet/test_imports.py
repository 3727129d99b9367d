"""What is imported when, and that setup.py declares every package that aeanet imports."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("cv2", "skimage", "matplotlib", "tensorboard", "tifffile", "zarr", "scipy")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_a_network_needs_pytorch_alone() -> None:
    code = f"import sys; from aeanet import build_model; build_model('aeanet'); print({{*{HEAVY}}} & {{*sys.modules}})"
    assert python(code).stdout == "set()\n"


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
        "The package typer is not installed: aeanet needs more packages here, pip install 'aeanet[em]'.\n"
    )


def test_every_package_that_is_imported_is_declared() -> None:
    imported = set()
    for file in (ROOT / "aeanet").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    declared = {
        name.lower().replace("_", "-") for name in re.findall(r'"([\w-]+)(?:\[\w+\])?>=', setup)
    }
    homes = packages_distributions()
    for name in sorted(imported - {*sys.stdlib_module_names, "aeanet", "aea_kernels"}):
        known = homes.get(
            name, [name]
        )  # packages of an extra that is not installed go by the name of their module
        assert declared & {home.lower().replace("_", "-") for home in known}, (
            f"setup.py does not declare {name}"
        )
