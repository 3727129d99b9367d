"""The time of the denoisers that need no training: a program that reads, denoises, enlarges and
writes images, as `aeanet restore` does, and how long it takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np

from aeanet.imaging.upsampling import upsample
from aeanet.io.images import read_image, write_image

from ..denoising.methods import METHODS, Place
from ..denoising.scores import Scores
from .files import copies

FURTHER = 3  # images after the first: every one takes as long
LONGEST = 240.0  # s: a large image that takes longer is given up


def measure(image: Path, large: Path, name: str, scores: Scores) -> dict[str, Any]:
    """Seconds of the first image, of each further one, and of a large one at 1x, None where that
    takes longer than `LONGEST`.

    Place and strength are those that `benches.denoising` found for real pairs.
    """
    place, strength = scores.place_and_strength(name)
    with tempfile.TemporaryDirectory() as folder:
        files = copies(image, Path(folder), 1 + FURTHER)
        how = [name, place, str(strength), "--out", folder]
        first = _seconds([*how, *map(str, files[:1])])
        many = _seconds([*how, *map(str, files)])
        try:
            of_large = _seconds([*how, "--magnification", "1", str(large)], LONGEST)
        except subprocess.TimeoutExpired:
            of_large = None
    return {
        "first_seconds": first,
        "further_seconds": round((many - first) / FURTHER, 3),
        "large_seconds": of_large,
    }


def _seconds(arguments: list[str], longest: float | None = None) -> float:
    """Of this program.

    Raises:
        TimeoutExpired: it takes too long.
    """
    start = time.perf_counter()
    program = [sys.executable, "-m", __spec__.name]
    subprocess.run([*program, *arguments], check=True, timeout=longest)
    return round(time.perf_counter() - start, 3)


def restore(path: Path, out: Path, name: str, place: Place, strength: float, by: float) -> None:
    """Denoise one image before or after it is enlarged, and write it as 8 bits."""
    pixels = read_image(path).pixels
    if place == "interpolated":
        pixels = upsample(pixels, by)
    clean = np.asarray(METHODS[name].run(pixels, strength), np.float32)
    if place == "LR":
        clean = upsample(clean, by)
    write_image(out / f"{path.stem}-restored.png", clean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=METHODS)
    parser.add_argument("place", choices=get_args(Place))
    parser.add_argument("strength", type=float)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--magnification", type=float, default=2.0)
    chosen = parser.parse_args()
    for path in chosen.images:
        how = chosen.name, chosen.place, chosen.strength, chosen.magnification
        restore(path, chosen.out, *how)


if __name__ == "__main__":
    main()
