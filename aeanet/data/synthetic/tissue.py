"""Sections of stained tissue: cells with membranes, a nucleus, mitochondria, endoplasmic reticulum,
vesicles, granules.

A stain of heavy metals is bright with backscattered electrons and dark in transmission or with
inverted contrast.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from aeanet.data.synthetic.shapes import Specimen, field
from aeanet.data.synthetic.tilings import cells, edge_distance


@dataclass(frozen=True)
class Outline:
    """The shape of an organelle, in px.

    Attributes:
        radius: its mean.
        inside: depth below the outline.
        u, v: places along and across its long axis.
    """

    radius: float
    inside: np.ndarray
    u: np.ndarray
    v: np.ndarray


Organelle = Callable[[np.ndarray, Outline, np.float32, np.random.Generator], None]


def tissue(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """Ultrastructure in a resin section: height (nearly flat) and stain, (H, W) float32."""
    # what lies everywhere: uneven stain, granules, membranes of the reticulum
    s = scale * rng.uniform(0.7, 1.6)
    membrane = np.float32(np.clip(1.3 * s, 0.8, 3.0))
    stain = 0.12 * field(size, 40 * s, rng) + 0.1 * field(size, 4 * max(s, 0.5), rng)
    stain += np.float32(0.35)
    _granules(stain, rng, s)
    _reticulum(stain, membrane, rng, s)

    # (number, radius at s = 1, how it is drawn): large ones first, so that small ones lie on them
    outline = edge_distance(cells(size, rng.uniform(150, 500) * s, rng, rng.uniform(0.3, 0.9)))
    area = size[0] * size[1]
    organelles = (
        (rng.poisson(2e-6 * area / s**2), 110, _nucleus),
        (rng.poisson(rng.uniform(0, 8e-5) * area / s**2), 26, _mitochondrion),
        (rng.poisson(rng.uniform(0, 9e-4) * area / s**2), 6.5, _vesicle),
    )
    for count, radius, draw in organelles:
        for _ in range(min(count, 900)):
            _place(stain, draw, radius * s * math.exp(rng.normal(0, 0.3)), membrane, rng)

    # Cells have membranes with a gap between them; a detector sees the stain bright or dark.
    gap = 2.2 * membrane * np.maximum(1 + field(size, 60 * s, rng), 0.3)
    stain += np.exp(-(((outline - gap) / membrane) ** 2)) * np.float32(0.8)
    stain = np.where(outline < gap - membrane, np.float32(0.15), stain)
    grey = np.clip(stain, 0, 2) if rng.uniform() < 0.5 else np.clip(1.3 - stain, 0, 2)
    return 0.15 * stain.astype(np.float32), (np.float32(0.2) + grey).astype(np.float32)


def _granules(stain: np.ndarray, rng: np.random.Generator, s: float) -> None:
    """Ribosomes: dots of about 3 px, in clusters."""
    dots = field(stain.shape, max(2.2 * s, 1.2), rng) + 0.8 * field(stain.shape, 60 * s, rng)
    dots = np.clip(2 * (dots - np.float32(rng.uniform(1.2, 2.5))), 0, 1)
    stain += dots * np.float32(rng.uniform(0.2, 0.6))


def _reticulum(stain: np.ndarray, membrane: np.float32, rng: np.random.Generator, s: float) -> None:
    """Parallel winding membranes, in some places: lines of equal height of a smooth field."""
    smooth = field(stain.shape, 90 * s, rng)
    rows, columns = np.gradient(smooth)
    slope = np.hypot(rows, columns).astype(np.float32) + np.float32(1e-4)
    density = np.float32(rng.uniform(2, 7))
    turns = smooth * density
    distance = np.abs(turns - np.rint(turns)) / (density * slope)
    where = field(stain.shape, 100 * s, rng)
    place = np.clip(3 * (where - np.float32(rng.uniform(-0.3, 1.2))), 0, 1)
    stain += place * np.exp(-((distance / membrane) ** 2)) * np.float32(rng.uniform(0.3, 0.8))


def _place(
    stain: np.ndarray,
    draw: Organelle,
    radius: float,
    membrane: np.float32,
    rng: np.random.Generator,
) -> None:
    """Draw an organelle of this radius (px) at a random place, in place."""
    # the window around it, which the image may cut; (y, x) from its centre, which lies between
    # pixels
    reach = math.ceil(1.7 * radius) + 4
    row, column = int(rng.integers(stain.shape[0])), int(rng.integers(stain.shape[1]))
    top, left = max(row - reach, 0), max(column - reach, 0)
    patch = stain[top : row + reach, left : column + reach]
    y, x = np.meshgrid(
        np.arange(patch.shape[0], dtype=np.float32) + np.float32(top - row + rng.uniform()),
        np.arange(patch.shape[1], dtype=np.float32) + np.float32(left - column + rng.uniform()),
        indexing="ij",
    )

    # An ellipse whose radius varies with the angle.
    turn, long = rng.uniform(0, math.pi), rng.uniform(1.0, 1.6)
    u = (math.cos(turn) * x + math.sin(turn) * y) / long
    v = (math.cos(turn) * y - math.sin(turn) * x) * long
    angle = cv2.phase(u, v)
    waves = sum(
        rng.normal(0, 0.09 / k) * np.cos(k * angle + rng.uniform(0, 2 * math.pi)) for k in (2, 3, 5)
    )
    inside = (np.float32(radius) * (1 + waves) - np.hypot(u, v)).astype(np.float32)
    draw(patch, Outline(radius, inside, u, v), membrane, rng)


def _membrane(inside: np.ndarray, depth: float, membrane: np.float32) -> np.ndarray:
    return np.exp(-(((inside - np.float32(depth)) / membrane) ** 2))


def _fill(patch: np.ndarray, inside: np.ndarray, value: np.ndarray | np.float32) -> None:
    """Set the inside of an organelle, with a smooth edge."""
    patch += np.clip(inside + np.float32(0.5), 0, 1) * (value - patch)


def _vesicle(
    patch: np.ndarray, shape: Outline, membrane: np.float32, rng: np.random.Generator
) -> None:
    dense = rng.uniform() < 0.25
    stain = rng.uniform(0.7, 1.1) if dense else rng.uniform(0.1, 0.3)
    _fill(patch, shape.inside, np.float32(stain))
    patch += _membrane(shape.inside, 0, membrane) * np.float32(0.7)


def _mitochondrion(
    patch: np.ndarray, shape: Outline, membrane: np.float32, rng: np.random.Generator
) -> None:
    """Two membranes, and cristae: folds of the inner one across the long axis."""
    matrix = np.float32(rng.uniform(0.35, 0.7)) + np.float32(0.05) * field(patch.shape, 2, rng)
    _fill(patch, shape.inside, matrix)
    pitch = 5.5 * float(membrane) * rng.uniform(0.7, 1.5)
    wave = np.sin(shape.v / np.float32(0.4 * shape.radius) + rng.uniform(0, 6))
    bent = shape.u + 0.15 * shape.radius * wave
    turns = bent / np.float32(pitch)
    lamella = np.exp(-(((turns - np.rint(turns)) * np.float32(pitch) / membrane) ** 2))
    broken = np.clip(2 + 3 * field(patch.shape, max(pitch, 4), rng), 0, 1)
    patch += lamella * broken * np.clip(shape.inside / (3 * membrane) - 1, 0, 1) * np.float32(0.5)
    for depth in (0.0, 3.0 * float(membrane)):
        patch += _membrane(shape.inside, depth, membrane) * np.float32(0.6)


def _nucleus(
    patch: np.ndarray, shape: Outline, membrane: np.float32, rng: np.random.Generator
) -> None:
    """An envelope of two membranes, and chromatin, denser in patches and along the envelope."""
    chromatin = field(patch.shape, shape.radius / 5, rng) + 0.4 * field(patch.shape, 5, rng)
    chromatin = np.clip(2 * chromatin, -1, 1) + _membrane(shape.inside, 8, np.float32(8))
    fine = 0.1 * field(patch.shape, 2.5, rng)
    _fill(patch, shape.inside, np.float32(0.45) + np.float32(0.2) * chromatin + fine)
    for depth in (0.0, 4.0 * float(membrane)):
        patch += _membrane(shape.inside, depth, membrane) * np.float32(0.6)
