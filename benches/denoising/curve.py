"""Gain against the strength of the noise, on simulated images at 1x, beside BM3D that is told the
noise.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aeanet.data.synthetic import FINGERPRINT, Acquisition, simulate_image
from aeanet.inference.prediction import super_resolve
from aeanet.io.text import write_json
from aeanet.networks.registry import load_model, to_device

from .methods import METHODS

LEVELS = (
    0.5,
    1,
    2,
    4,
    8,
    16,
    32,
    48,
)  # grey levels of 255: standard deviation of the noise at a mean grey level
KINDS = ("particles", "porous", "fibres", "grains")
STRENGTHS = (
    1.0,
    1.4,
)  # sigma of BM3D over the noise: the noise is correlated, so more than 1 can be better
SHAPE = (128, 128)
SEED = 2_700_000_000


def measure(model: str, path: Path) -> dict[str, Any]:
    """Level -> contender -> gain in dB over the noisy image, image by image.

    What the record has of BM3D is kept, unless it is of images of another simulator.
    """
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    simulator = FINGERPRINT[:12]
    if found.get("simulator") != simulator:
        found = {"simulator": simulator, "levels": {}}
    network = to_device(load_model(model))
    for level in LEVELS:
        gains = found["levels"].setdefault(str(level), {"bm3d": []}) | {"shipped": []}
        found["levels"][str(level)] = gains
        for index in range(len(KINDS)):
            scan = Acquisition(magnification=1.0, shot=level**2 / 88, read=0.3 * level)
            image = simulate_image(
                SEED + index, SHAPE, kind=KINDS[index], acquisition=replace(scan, spot=0.6)
            )
            if index >= len(gains["bm3d"]):
                tried = [
                    METHODS["bm3d"].run(image.lr, max(k * image.noise, 1e-3)) for k in STRENGTHS
                ]
                gains["bm3d"].append(max(_gain(image.lr, result, image.hr) for result in tried))
            gains["shipped"].append(
                _gain(image.lr, super_resolve(network, image.lr, magnification=1.0), image.hr)
            )
        write_json(path, found, 1)
        print(
            level,
            {name: round(statistics.fmean(values), 2) for name, values in gains.items()},
            flush=True,
        )
    return found


def _gain(noisy: np.ndarray, result: np.ndarray, truth: np.ndarray) -> float:
    before, after = (
        float(np.mean((np.clip(image, 0, 1) - truth) ** 2)) for image in (noisy, result)
    )
    return round(10 * float(np.log10(before / after)), 3)


def draw(found: dict[str, Any], path: Path) -> Path:
    """The mean of each contender, a point for each image."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    titles = {
        "shipped": "the shipped model",
        "bm3d": "BM3D, told the noise, the better of two strengths",
    }
    levels = [float(level) for level in found["levels"]]
    for contender, title in titles.items():
        values = [entry[contender] for entry in found["levels"].values()]
        (line,) = axes.plot(
            levels,
            [statistics.fmean(each) for each in values],
            marker="o",
            markersize=4,
            label=title,
        )
        for level, each in zip(levels, values, strict=True):
            axes.plot(
                [level] * len(each), each, ".", color=line.get_color(), alpha=0.35, markersize=4
            )
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    axes.set(
        xlabel="noise, grey levels of 8 bits (simulated, 1x)",
        ylabel="gain over the noisy image, dB",
    )
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
