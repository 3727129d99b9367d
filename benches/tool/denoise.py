"""A program that reads, denoises, enlarges and writes images, as `aeanet restore` does.

`python -m benches.tool.denoise NAME PLACE STRENGTH IMAGES... --out FOLDER`. It imports no more than
it needs, as its start is timed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np

from aeanet.imaging.upsampling import upsample
from aeanet.io.images import read_image, write_image

from ..denoising.methods import METHODS, Place


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=METHODS)
    parser.add_argument("place", choices=get_args(Place))
    parser.add_argument("strength", type=float)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--magnification", type=float, required=True)
    chosen = parser.parse_args()
    for path in chosen.images:
        how = chosen.name, chosen.place, chosen.strength, chosen.magnification
        restore(path, chosen.out, *how)


if __name__ == "__main__":
    main()
