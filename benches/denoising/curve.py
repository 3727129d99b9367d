"""Gain against the strength of the noise, on simulated images at 1x, beside BM3D that is told the
noise.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.data.synthetic import FINGERPRINT, Acquisition, WholeImage, simulate_image
from aeanet.inference.prediction import super_resolve
from aeanet.io.text import write_json
from aeanet.networks.registry import load_model, to_device

from .methods import METHODS

LEVELS = (0.5, 1, 2, 4, 8, 16, 32, 48)
"""Standard deviation of the noise at a mean grey level, in grey levels of 255."""
KINDS = ("particles", "porous", "fibres", "grains")
STRENGTHS = (1.0, 1.4)
"""Sigma of BM3D over that of the noise; the noise is correlated, so more than 1 can be better."""
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
        for index, kind in enumerate(KINDS):
            scan = Acquisition(magnification=1.0, shot=level**2 / 88, read=0.3 * level, spot=0.6)
            image = simulate_image(SEED + index, SHAPE, kind=kind, acquisition=scan)
            if index >= len(gains["bm3d"]):
                gains["bm3d"].append(max(_gain(image, result) for result in _by_bm3d(image)))
            restored = super_resolve(network, image.lr, magnification=1.0)
            gains["shipped"].append(_gain(image, restored))

        write_json(path, found, 1)
        means = {name: round(statistics.fmean(values), 2) for name, values in gains.items()}
        print(level, means, flush=True)
    return found


def _by_bm3d(image: WholeImage) -> list[NDArray]:
    """The results with each strength, for an image whose noise is known."""
    run = METHODS["bm3d"].run
    return [run(image.lr, max(strength * image.noise, 1e-3)) for strength in STRENGTHS]


def _gain(image: WholeImage, result: NDArray) -> float:
    """Of a result over the noisy image, dB."""
    before = float(np.mean((np.clip(image.lr, 0, 1) - image.hr) ** 2))
    after = float(np.mean((np.clip(result, 0, 1) - image.hr) ** 2))
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
            at, color = [level] * len(each), line.get_color()
            axes.plot(at, each, ".", color=color, alpha=0.35, markersize=4)

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
