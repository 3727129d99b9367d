"""The time of the denoisers that need no training, in a process of their own (`denoise`)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..denoising.scores import Scores
from . import denoise
from .files import MAGNIFICATION, copies

FURTHER = 3  # images after the first: every one takes as long
LONGEST = 240.0  # s: a large image that takes longer is given up


def measure(image: Path, large: Path, name: str, scores: Scores) -> dict[str, Any]:
    """Seconds of the first image, of each further one, and of a large one at 1x, None where that
    takes longer than `LONGEST`.

    Place and strength are those that `benches.denoising` found for real pairs.
    """
    # one strength for all images, as a user would set it
    place, strength = scores.place_and_strength(name)
    with tempfile.TemporaryDirectory() as folder:
        files = copies(image, Path(folder), 1 + FURTHER)
        how = [name, place, str(strength), "--out", folder, "--magnification"]
        usual = [*how, str(MAGNIFICATION)]

        # the difference of both runs is the further images, without the start of the program
        first = _seconds([*usual, *map(str, files[:1])])
        many = _seconds([*usual, *map(str, files)])
        try:
            of_large = _seconds([*how, "1", str(large)], LONGEST)
        except subprocess.TimeoutExpired:
            of_large = None
    return {
        "first_seconds": first,
        "further_seconds": round((many - first) / FURTHER, 3),
        "large_seconds": of_large,
    }


def _seconds(arguments: list[str], longest: float | None = None) -> float:
    """Of the program.

    Raises:
        TimeoutExpired: it takes too long.
    """
    start = time.perf_counter()
    program = [sys.executable, "-m", denoise.__name__]
    subprocess.run([*program, *arguments], check=True, timeout=longest)
    return round(time.perf_counter() - start, 3)
