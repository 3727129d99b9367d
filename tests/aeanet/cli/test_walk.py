"""A microscopist's walk: two folders of images in, a better picture out, and not a line of
Python.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import tifffile
from toys import aeanet

from aeanet.data.synthetic import simulate_pair
from aeanet.io.makers import Header, stated_by_maker
from aeanet.io.pixel_size import PixelSize, ome_metadata

BRIEF = ["--steps", "2", "--crop", "16", "--batch", "2"]


def shown(*arguments: object) -> str:
    """What the command prints."""
    done = aeanet(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_from_two_folders_to_a_picture(tmp_path: Path) -> None:
    for kind, side in (("lr", 8.0), ("hr", 4.0)):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for seed in range(2):
            pixels = getattr(simulate_pair(seed, shape=(236, 320)), kind)
            metadata = ome_metadata(PixelSize(side, side, "nm"))
            path = tmp_path / "pairs" / kind / f"{seed}.tif"
            tifffile.imwrite(
                path, np.rint(pixels * 65535).astype(np.uint16), ome=True, metadata=metadata
            )

    shown("register", tmp_path / "pairs", "--out", tmp_path / "aligned")
    assert len(list((tmp_path / "aligned").rglob("*.tif"))) >= 4

    shown("train", tmp_path / "pairs", "--out", tmp_path / "run", *BRIEF)
    # in a process of its own, as from a terminal: it knows of the training only what is in the
    # folder
    words = [
        "predict",
        tmp_path / "run",
        tmp_path / "pairs" / "lr" / "0.tif",
        "--out",
        tmp_path / "restored",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "aeanet", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with tifffile.TiffFile(tmp_path / "restored" / "0.tif") as file:
        size = stated_by_maker(Header.of_page(file, file.pages.first), "TIFF")[1].pixel_size
        restored = file.asarray()
    assert restored.dtype == np.uint16
    assert size is not None
    assert abs(size.x - 4) < 0.1  # nm: half of LR's, as far as the pairs' own magnification is two
    assert (
        max(
            abs(length - 2 * before)
            for length, before in zip(restored.shape, (236, 320), strict=True)
        )
        < 10
    )
    assert restored.std() > 0

    found = json.loads(shown("info", tmp_path / "run", "--json"))
    assert found["training"]["steps_done"] == 2
