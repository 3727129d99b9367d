"""`python -m benches.frames`: what several scans of one field bring, on simulated frames.

The truth is known, so the error of the alignment is too. `results/frames.json` is the record, from
which the READMEs take their numbers.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.data.frames import AlignedFrames, FusedFrames, align_frames, fuse_aligned
from aeanet.data.synthetic import FINGERPRINT, Acquisition, SimulatedFrames, simulate_frames
from aeanet.imaging.metrics import psnr
from aeanet.imaging.upsampling import upsample
from aeanet.inference.frames import restore_frames, restore_fused
from aeanet.inference.prediction import super_resolve
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import SHIPPED_FOLDER, load_model

from .record import RESULTS, commit

RECORD = RESULTS / "frames.json"
NUMBERS = (2, 4, 8)
SHOWN = NUMBERS[-1]  # frames of which everything else is measured
KINDS = ("porous", "particles", "fibres")
SHAPE = (256, 320)
ALIGNED_KINDS = (*KINDS, "grains", "polished", "tissue", "lithography", "foams", "leaves")
ALIGNED_KINDS += ("layers", "mixed")
ALIGNED_SHAPE = (384, 640)  # of real LR images
SEED = 2_800_000_000
BORDER = 24  # px of a frame


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.frames", description=__doc__)
    parser.add_argument("--record", type=Path, default=RECORD)
    chosen = parser.parse_args(arguments)
    measure(chosen.record)


def measure(path: Path) -> dict[str, Any]:
    """All scenes at both magnifications; the record is written after each."""
    # what the numbers are of: another model or another simulator makes others
    model = load_model("sem")
    weights = (SHIPPED_FOLDER / "sem.safetensors").read_bytes()
    record: dict[str, Any] = {
        "commit": commit(),
        "model": hashlib.sha256(weights).hexdigest()[:12],
        "simulator": FINGERPRINT[:12],
        "shape": list(SHAPE),
        "shown": SHOWN,
        "alignment": {"shape": list(ALIGNED_SHAPE), "scenes": []},
        "scenes": [],
    }

    # the alignment needs no network, so it is measured on more kinds and larger frames
    for index, kind in enumerate(ALIGNED_KINDS):
        series = simulate_frames(SEED + 100 + index, SHOWN, ALIGNED_SHAPE, kind=kind)
        error = alignment_error(series, align_frames(list(series.frames)))
        record["alignment"]["scenes"].append({"kind": kind} | error)
        print(kind, error, flush=True)

    # written after each scene, since restoring all of them takes long
    for magnification in (1.0, 2.0):
        for index, kind in enumerate(KINDS):
            scene = measure_scene(model, kind, SEED + index, magnification)
            record["scenes"].append(scene)
            write_json(path, record, 1)
            print(kind, magnification, scene["psnr"], flush=True)
    return record


def measure_scene(model: Network, kind: str, seed: int, magnification: float) -> dict[str, Any]:
    """PSNR in dB of each way to use the frames, and the noise that eight of them leave."""
    # the first frames of one series: more frames are these and others
    settings = Acquisition(magnification=magnification)
    series = simulate_frames(seed, max(NUMBERS), SHAPE, kind=kind, acquisition=settings)
    scores: dict[str, dict[str, float]] = {}
    scene: dict[str, Any] = {"kind": kind, "magnification": magnification, "psnr": scores}
    options: Any = {"magnification": magnification, "flips": 1, "precision": "float32"}
    for number in NUMBERS:
        first = replace(series, frames=series.frames[:number], drift=series.drift[:number])

        # the truth lies where the reference does; the plain mean may take the best frame
        restored = restore_frames(model, list(first.frames), **options)
        aligned = restored.fused.aligned
        reference = aligned.reference
        truth = first.truth(reference)
        one = super_resolve(model, first.frames[reference], **options)
        found = scores[str(number)] = {
            "one": _psnr(one, truth, magnification),
            "plain": _plain(first, magnification),
            "aligned": _psnr(restored.fused.pixels, truth, magnification),
            "restored": _psnr(restored.result, truth, magnification),
        }
        if number != SHOWN:
            continue

        # What the errors of the alignment cost, and what drift costs beside.
        right = replace(aligned, displacement=first.displacement(reference))
        result = _restored(model, fuse_aligned(first.frames, right, magnification))
        found["true drift"] = _psnr(result, truth, magnification)
        still = simulate_frames(seed, SHOWN, SHAPE, kind=kind, acquisition=settings, drift=0)
        right = replace(aligned, displacement=np.zeros_like(aligned.displacement))
        result = _restored(model, fuse_aligned(still.frames, right, magnification))
        found["no drift"] = _psnr(result, still.truth(0), magnification)
        names = ("sd", "along", "across")
        left = dict(zip(names, restored.fused.noise(), strict=True))
        error = restored.fused.pixels - truth
        scene["noise"] = {"frame": first.noise, "error": float(error.std()), **left}
    return scene


def _restored(model: Network, fused: FusedFrames) -> NDArray[np.float32]:
    return restore_fused(model, fused, flips=1, precision="float32").result


def _plain(series: SimulatedFrames, magnification: float) -> float:
    """The mean without alignment, against the frame whose place it has best."""
    mean = upsample(series.frames.mean(0), magnification)
    frames = range(len(series.frames))
    return max(_psnr(mean, series.truth(n), magnification) for n in frames)


def alignment_error(series: SimulatedFrames, aligned: AlignedFrames) -> dict[str, float]:
    """Root mean square of the error of an alignment in px, over lines, frames and both axes; that
    of the worst frame; and the share of the lines that err by at most 0.1 px.
    """
    others = [n for n in aligned.used if n != aligned.reference]
    error = (aligned.displacement - series.displacement(aligned.reference))[others]
    return {
        "frames": len(aligned.used),
        "rms": float(np.sqrt((error**2).mean())),
        "worst frame": float(np.sqrt((error**2).mean((1, 2)).max())),
        "lines within 0.1": float((np.abs(error) <= 0.1).mean()),
    }


def _psnr(image: NDArray, truth: NDArray, magnification: float) -> float:
    border = round(BORDER * magnification)
    inner = np.zeros(truth.shape, bool)
    inner[border:-border, border:-border] = True
    return round(psnr(image, truth, inner), 3)


if __name__ == "__main__":
    main()
