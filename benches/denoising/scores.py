"""Scores of denoisers on registered pairs, kept in a record image by image, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.data.pairs import find_pairs
from aeanet.data.registration import RegisteredPair
from aeanet.io.images import read_image
from aeanet.io.text import write_json
from aeanet.scoring.evaluation import Score, score_region

from .methods import METHODS, PLACES, Method, Place

BORDER = 24  # HR px that do not count
WINDOW = (256, 320)  # HR px; on the middle of an image, where BM3D takes seconds
TUNED_ON = 4  # every fourth pair decides where a method is applied and with which strength


@dataclass
class Scores:
    """Gains over bicubic interpolation, (dB of PSNR, SSIM), and the file that keeps them.

    Attributes:
        path: JSON, written after every image.
        bicubic: pair name -> (PSNR, SSIM) of the whole image.
        windows: method -> place -> strength -> pair name -> gain on the middle of the image.
        whole: method -> place -> strength -> pair name -> gain on the whole image.
        models: a network's name -> pair name -> gain on the whole image.
        about: what else the record says.
    """

    path: Path
    bicubic: dict[str, list[float]] = field(default_factory=dict)
    windows: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = field(default_factory=dict)
    whole: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = field(default_factory=dict)
    models: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Scores:
        return cls(path, **json.loads(path.read_text())) if path.exists() else cls(path)

    def write(self) -> None:
        kept = {
            name: getattr(self, name) for name in ("about", "bicubic", "models", "windows", "whole")
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, kept, 1)

    def place_and_strength(self, method: str) -> tuple[Place, float]:
        """Where a method is applied and its fixed strength: the best mean PSNR gain on the windows
        it was tuned on.
        """
        gains = {
            (place, float(strength)): statistics.fmean(gain[0] for gain in by_pair.values())
            for place in PLACES
            for strength, by_pair in self.windows[method].get(place, {}).items()
            if len(by_pair) == max(len(other) for other in self.windows[method][place].values())
        }
        return max(gains, key=lambda key: gains[key])


def restored(
    pair: RegisteredPair, lr: NDArray[np.float32], method: Method, place: Place, strength: float
) -> NDArray:
    """The pair's LR image, denoised before or after the interpolation onto the grid of HR."""
    if place == "interpolated":
        return method.run(pair.lr, strength)
    clean = np.asarray(method.run(lr, strength), np.float32)
    matrix = np.asarray(pair.report.matrix)
    size = pair.hr.shape[::-1]
    return cv2.warpAffine(
        clean, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def middle(pair: RegisteredPair) -> tuple[slice, slice]:
    """The window of a pair on which strengths are compared."""
    rows, columns = (
        slice(max((length - side) // 2, 0), (length + side) // 2)
        for length, side in zip(pair.hr.shape, WINDOW, strict=True)
    )
    return rows, columns


def window_of(
    pair: RegisteredPair, lr: NDArray[np.float32]
) -> tuple[RegisteredPair, NDArray[np.float32]]:
    """The middle of a pair as a pair of its own, and the part of LR that shows it."""
    # the window's corners in LR, and some pixels around for the interpolation
    rows, columns = middle(pair)
    matrix = np.asarray(pair.report.matrix)
    back = cv2.invertAffineTransform(matrix)
    corners = np.array([[columns.start, rows.start, 1], [columns.stop, rows.stop, 1]]) @ back.T
    left, top = (max(int(v) - 4, 0) for v in corners[0])
    right, bottom = (int(v) + 5 for v in corners[1])

    # both grids begin elsewhere now, which only moves the transformation
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (left, top) - (columns.start, rows.start)
    report = type(pair.report)(
        **{**vars(pair.report), "matrix": tuple(map(tuple, shifted.tolist()))}
    )
    cut = (rows, columns)
    part = RegisteredPair(pair.name, pair.lr[cut], pair.hr[cut], pair.mask[cut], report)
    return part, lr[top:bottom, left:right]


def gain(pair: RegisteredPair, image: NDArray) -> tuple[Score, list[float]]:
    """The score of an image without its border, and its gain over bicubic interpolation."""
    inside = slice(BORDER, -BORDER)
    score = score_region(pair.name, pair, image.astype(np.float32).clip(0, 1), (inside, inside))
    if score is None:
        raise ValueError(f"{pair.name} has no pixel to score")
    return score, [score.delta_psnr, score.delta_ssim]


def raw_images(folder: Path, pairs: Sequence[RegisteredPair]) -> dict[str, NDArray[np.float32]]:
    """Pair name -> LR as the microscope wrote it."""
    files = {found.name: found.lr for found in find_pairs(folder)}
    return {pair.name: read_image(files[pair.name]).pixels for pair in pairs}


def score_method(
    scores: Scores, name: str, pairs: Sequence[RegisteredPair], raw: dict[str, NDArray[np.float32]]
) -> Iterator[str]:
    """Fill in what the record lacks of one method; yields a line after every image.

    First the windows of every fourth pair, with all strengths, in both places: they choose the
    place and the fixed strength. Then whole images: with all strengths of that place; a costly
    method only with the fixed strength and the one that is best on the image's own window.
    """
    method = METHODS[name]

    def fill(
        table: dict[str, Any], pair: RegisteredPair, place: Place, strength: float, window: bool
    ) -> str | None:
        found = table.setdefault(name, {}).setdefault(place, {}).setdefault(str(strength), {})
        if pair.name in found:
            return None
        shown, lr = window_of(pair, raw[pair.name]) if window else (pair, raw[pair.name])
        score, found[pair.name] = gain(shown, restored(shown, lr, method, place, strength))
        if not window:
            scores.bicubic[pair.name] = [score.psnr_bicubic, score.ssim_bicubic]
        scores.write()
        part = "window of " if window else ""
        return f"{name} {place} {strength:g} {part}{pair.name}: {found[pair.name][0]:+.2f} dB"

    # every fourth pair decides, by its middle: in both places, with all strengths
    for pair in pairs[::TUNED_ON]:
        for place in PLACES:
            for strength in method.strengths[place]:
                if line := fill(scores.windows, pair, place, strength, window=True):
                    yield line

    # whole images at that place, where a costly method has its fixed strength alone
    place, fixed = scores.place_and_strength(name)
    strengths = (fixed,) if method.costly else method.strengths[place]
    for pair in pairs:
        for strength in strengths:
            if line := fill(scores.whole, pair, place, strength, window=False):
                yield line
    if not method.costly:
        return

    # of the fixed strength and its neighbours, that which is best on the image's own middle
    at = method.strengths[place].index(fixed)
    near = method.strengths[place][max(at - 1, 0) : at + 2]
    for pair in pairs:
        for strength in near:
            if line := fill(scores.windows, pair, place, strength, window=True):
                yield line
        tried = scores.windows[name][place]
        best = max(
            method.strengths[place], key=lambda s: tried[str(s)].get(pair.name, [-np.inf])[0]
        )
        if line := fill(scores.whole, pair, place, best, window=False):
            yield line
