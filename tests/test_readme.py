"""Every Python block of README.md runs as it stands there: as tests where it defines some, else as a script."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs(number, tmp_path):
    block = tmp_path / "test_block.py"
    block.write_text(BLOCKS[number], encoding="utf-8")
    as_tests = re.search(r"^def test_", BLOCKS[number], re.MULTILINE)
    command = ["-m", "pytest", "-p", "no:cacheprovider", block.name] if as_tests else [block.name]
    ran = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
