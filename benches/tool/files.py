"""The images that are restored."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from aeanet.io.images import read_image, write_image

MAGNIFICATION = 2
LARGE = 8192
"""Pixels a side of the large image."""


def copies(image: Path, folder: Path, number: int) -> list[Path]:
    """The same image so many times, under names of their own."""
    files = [folder / f"{index}{image.suffix}" for index in range(number)]
    for file in files:
        shutil.copy(image, file)
    return files


def write_large(image: Path, folder: Path, side: int = LARGE) -> Path:
    """A square image made of mirrored copies of a small one, so that it has no seams."""
    pixels = read_image(image).pixels
    right, below = (max(side - length, 0) for length in (pixels.shape[1], pixels.shape[0]))
    large = np.pad(pixels, ((0, below), (0, right)), mode="symmetric")[:side, :side]
    path = folder / f"{side}.png"
    write_image(path, large)
    return path
