"""Gain against the strength of the noise, on simulated images at 1x, beside BM3D that is told the
noise: with noise as a scan has it, and with noise that is smooth both ways.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
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
SCANS: dict[str, dict[str, float]] = {
    "levels": {},
    "smooth levels": {"band": 0.0, "smoothing": 0.574, "across": 0.435},
}
"""Settings of the scans of each curve. Smooth noise is correlated by 0.4 along the lines and by 0.6
across them, as after a digital zoom or a filter.
"""
SMOOTH_LEVELS = (2, 4, 8, 16, 32)
STRENGTHS = (1.0, 1.4)
"""Sigma of BM3D over that of the noise; the noise is correlated, so more than 1 can be better. The
first tells it the noise as it is.
"""
SMOOTH_STRENGTHS = (*STRENGTHS, 2.0, 2.8)
"""The same for smooth noise."""
SHAPE = (128, 128)
SEED = 2_700_000_000


TITLES = {
    "levels": "noise of a scan, correlated along its lines",
    "smooth levels": "smooth noise, correlated by 0.4 along and 0.6 across the lines",
}
CONTENDERS = {
    "shipped": "the shipped model",
    "bm3d": "BM3D, told the noise, at its best strength",
}


def measure(model: str, path: Path) -> dict[str, Any]:
    """Curve -> level -> contender -> gain in dB over the noisy image, image by image.

    What the record has of BM3D is kept, unless it is of images of another simulator.
    """
    # gains on images of another simulator are not comparable, so they are dropped
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    simulator = FINGERPRINT[:12]
    if found.get("simulator") != simulator:
        found = {"simulator": simulator}

    # BM3D takes most of the time and does not change with the model: only the model runs anew
    network = to_device(load_model(model))
    for curve, scan in SCANS.items():
        entries = found.setdefault(curve, {})
        for level in LEVELS if curve == "levels" else SMOOTH_LEVELS:
            known = entries.setdefault(str(level), {"bm3d": [], "bm3d at the noise": []})
            gains = known | {"shipped": []}
            entries[str(level)] = gains
            for index, kind in enumerate(KINDS):
                image = simulate_image(SEED + index, SHAPE, kind=kind, acquisition=_at(level, scan))
                if index >= len(gains["bm3d"]):
                    by_strength = [_gain(image, result) for result in _by_bm3d(image)]
                    gains["bm3d"].append(max(by_strength))
                    gains["bm3d at the noise"].append(by_strength[0])
                restored = super_resolve(network, image.lr, magnification=1.0)
                gains["shipped"].append(_gain(image, restored))

            # after each level, for a run that is stopped
            write_json(path, found, 1)
            means = {name: round(statistics.fmean(values), 2) for name, values in gains.items()}
            print(curve, level, means, flush=True)
    return found


def _at(level: float, scan: dict[str, float]) -> Acquisition:
    """A scan whose noise has that level after its filters."""
    settings = Acquisition(magnification=1.0, spot=0.6, **scan)
    kept = settings.noise_kept
    return replace(settings, shot=level**2 / 88 / kept, read=0.3 * level / math.sqrt(kept))


def _by_bm3d(image: WholeImage) -> Iterator[NDArray]:
    """The results with each strength, for an image whose noise is known."""
    run = METHODS["bm3d"].run
    for strength in SMOOTH_STRENGTHS if image.acquisition.smoothing else STRENGTHS:
        yield run(image.lr, max(strength * image.noise, 1e-3))


def _gain(image: WholeImage, result: NDArray) -> float:
    """Of a result over the noisy image, dB."""
    before = float(np.mean((np.clip(image.lr, 0, 1) - image.hr) ** 2))
    after = float(np.mean((np.clip(result, 0, 1) - image.hr) ** 2))
    return round(10 * float(np.log10(before / after)), 3)


def draw(found: dict[str, Any], path: Path) -> Path:
    """The mean of each contender, a point for each image; a panel for each curve."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(SCANS), figsize=(11, 4), sharey=True, layout="constrained")
    for (curve, title), axes in zip(TITLES.items(), panels, strict=True):
        _draw_curve(axes, found[curve])
        axes.set_title(title, fontsize=10)
    panels[0].set_ylabel("gain over the noisy image, dB")
    panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _draw_curve(axes: Any, entries: dict[str, dict[str, list[float]]]) -> None:
    # the means as a line, and each image as a faint point of its colour
    levels = [float(level) for level in entries]
    for contender, title in CONTENDERS.items():
        values = [entry[contender] for entry in entries.values()]
        means = [statistics.fmean(each) for each in values]
        (line,) = axes.plot(levels, means, marker="o", markersize=4, label=title)
        for level, each in zip(levels, values, strict=True):
            at, color = [level] * len(each), line.get_color()
            axes.plot(at, each, ".", color=color, alpha=0.35, markersize=4)

    # noise grows by factors of about two, so the axis is logarithmic, with a mark for each level
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    axes.set_xlabel("noise, grey levels of 8 bits (simulated, 1x)")
