"""`python -m benches.precision [PAIRS]`: what computing in bfloat16 costs the shipped model.

On simulated images held back, on clean ones at 1x, and on real pairs, where they are given. Writes
`results/precision.json`. `benches.ship` notes the cost in the model's file, by which
`--precision auto` decides.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from aeanet.data.pairs import load_pairs
from aeanet.data.synthetic import WholeImage
from aeanet.imaging.precision import Precision
from aeanet.inference.prediction import restore, super_resolve
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import load_model
from aeanet.training.card import VISIBLE
from aeanet.training.pretraining import held_back_images, score_simulated

from .denoising.scores import gain

RECORD = Path(__file__).parent / "results" / "precision.json"
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def bfloat16_cost(model: Network, images: Sequence[WholeImage]) -> float:
    """Mean PSNR in float32 less that in bfloat16, dB; a PSNR beyond what can be seen counts as the
    least such.
    """
    means = []
    for precision in PRECISIONS:
        scores = score_simulated(model, images, precision=precision)
        means.append(statistics.fmean(min(score["psnr"], VISIBLE) for score in scores))
    return round(means[0] - means[1], 5)


def change_of_clean(model: Network, images: Sequence[WholeImage]) -> dict[str, float]:
    """The difference between the results in both precisions for clean images at 1x, in grey levels
    of 8 bits: root of the mean square over all images, and over the image where it is largest.
    """
    squares = []
    for image in images:
        first, second = (
            super_resolve(model, image.hr, magnification=1, precision=precision)
            for precision in PRECISIONS
        )
        squares.append(255**2 * float(np.mean((first - second) ** 2)))
    return {
        "rms_levels": round(statistics.fmean(squares) ** 0.5, 4),
        "largest_rms_levels": round(max(squares) ** 0.5, 4),
    }


def real_gains(model: Network, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Pair -> precision -> gain over bicubic interpolation, dB of PSNR and SSIM."""
    gains: dict[str, dict[str, list[float]]] = {}
    for pair in load_pairs(folder).pairs:
        gains[pair.name] = {}
        for precision in PRECISIONS:
            restored = restore(model, pair.lr, precision=precision)
            gains[pair.name][precision] = [round(value, 4) for value in gain(pair, restored)[1]]
    return gains


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path, nargs="?", help="folder of real pairs")
    parser.add_argument("--model", default="sem", help="name, run folder or file")
    parser.add_argument("--images", type=int, default=48, help="simulated images")
    chosen = parser.parse_args()

    # the same images in both precisions, noisy ones for the cost, clean ones for what can be seen
    model, images = load_model(chosen.model), held_back_images(chosen.images)
    record: dict[str, object] = {
        "model": str(chosen.model),
        "simulated": {"images": len(images), "cost_db": bfloat16_cost(model, images)},
        "clean": {"images": len(images), **change_of_clean(model, images)},
    }
    if chosen.pairs:
        record["real"] = real_gains(model, chosen.pairs)
    write_json(RECORD, record, 1)
    print(record["simulated"], record["clean"])


if __name__ == "__main__":
    main()
