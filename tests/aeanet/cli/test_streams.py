"""Standard streams of any kind, in processes of their own: no traceback, no lost image, no message
of a library.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bad_files import GREY, model, picture
from toys import simulated_folder

from aeanet.io.images import read_image

# as where neither the terminal nor Python is told of UTF-8, and the user has no home to write to
PLAIN = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii:strict",
}
HOMELESS = {"HOME": "/proc/nobody", "NO_COLOR": "1", "COLUMNS": "100"}

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the devices of Linux")


def command(folder: Path, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell, in which `aeanet` is the command."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable} | variables
    environment.pop("PYTEST_CURRENT_TEST", None)
    shell = f'aeanet() {{ "$PYTHON" -m aeanet "$@"; }}; set -o pipefail; cd "$0"; {line}'
    return subprocess.run(
        ["bash", "-c", shell, folder],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("aeanet info a.png | true", 0, ""),
        (
            "aeanet info a.png > /dev/full",
            1,
            "Standard output could not be written: No space left on device.",
        ),
        ("aeanet info a.png >&-", 0, ""),
        ("aeanet info b.png 2>&-", 1, ""),
    ],
)
def test_streams_that_take_nothing(tmp_path: Path, line: str, code: int, says: str) -> None:
    picture("a.png")(tmp_path)
    done = command(tmp_path, line)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (code, says, "")


def test_a_reader_that_has_gone_loses_no_image(tmp_path: Path) -> None:
    model()(tmp_path)
    for name in ("ä.png", "b.png", "c.png"):
        picture(name)(tmp_path)
    done = command(tmp_path, "aeanet predict run *.png --out out | true", **PLAIN)
    assert (done.returncode, done.stderr) == (0, "")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["b.png", "c.png", "ä.png"]
    assert read_image(tmp_path / "out" / "c.png").pixels.shape == (
        2 * GREY.shape[0],
        2 * GREY.shape[1],
    )


def test_ascii_without_a_home(tmp_path: Path) -> None:
    """evaluate prints and draws; nothing but its table may come, in ASCII and without colours."""
    model()(tmp_path)
    folder = simulated_folder(tmp_path / "pairs", [0])
    for kind in ("lr", "hr"):
        os.rename(folder / kind / "0.png", os.fsencode(folder / kind) + b"/gr\xf6\xdfe $x^$.png")
    done = command(tmp_path, "aeanet evaluate run pairs --out scores", **PLAIN, **HOMELESS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert "delta PSNR" in done.stdout
    record = json.loads(
        (tmp_path / "scores" / "evaluation.json").read_text(), parse_constant=pytest.fail
    )
    (name,) = (pair["name"] for pair in record["pairs"])
    assert name == "gr\\udcf6\\udcdfe $x^$"
    assert (tmp_path / "scores" / f"{name}.png").is_file()
