"""Specimens divided into cells: foams, fractured and etched grains with cracks, polished sections
of several phases.

Each function returns height in px and relative yield, (H, W) float32 both. `scale` multiplies the
usual lengths.
"""

import math

import cv2
import numpy as np

from aeanet.data.synthetic.shapes import Specimen, field, halve, log_uniform


def cells(
    size: tuple[int, int], spacing: float, rng: np.random.Generator, wobble: float = 0.15
) -> np.ndarray:
    """Voronoi cells of about `spacing` px with curved edges: labels from 0, (2 H, 2 W) int32, at
    half the pitch.
    """
    # each pixel has the label of the nearest seed
    fine = (2 * size[0], 2 * size[1])
    seeds = np.full(size, 255, np.uint8)
    count = max(4, round(size[0] * size[1] / spacing**2))
    seeds[rng.integers(0, size[0], count), rng.integers(0, size[1], count)] = 0
    by_seed = cv2.DIST_LABEL_PIXEL
    labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=by_seed)[1] - 1

    # Edges become curves: each place has the label of one near it.
    column, row = _half_pixels(size)
    for axis in (column, row):
        moved = field(size, spacing / 2, rng) * np.float32(wobble * spacing / 2)
        axis += cv2.resize(moved, fine[::-1], interpolation=cv2.INTER_LINEAR)
    found = cv2.remap(
        labels.astype(np.float32), column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
    )
    return found.astype(np.int32)


def _half_pixels(size: tuple[int, int]) -> list[np.ndarray]:
    """Column and row, in px, of each point at half the pitch, (2 H, 2 W) float32 each."""
    rows, columns = (np.arange(2 * length, dtype=np.float32) / 2 for length in size)
    return list(np.meshgrid(columns, rows))


def edge_distance(labels: np.ndarray) -> np.ndarray:
    """Distance to the nearest edge of a cell, px; labels (2 H, 2 W), result (H, W) float32."""
    inner = np.full(labels.shape, 255, np.uint8)
    inner[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    inner[1:][labels[1:] != labels[:-1]] = 0
    distance = halve(cv2.distanceTransform(inner, cv2.DIST_L2, 5)) / 2
    return cv2.GaussianBlur(distance, (0, 0), 0.7)  # without the steps of the pixels of the edge


def foam(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """A foam: struts along the edges of cells, with open windows, through which deeper cells show,
    or closed films.
    """
    # two or three layers, one above the other; the ground lies far below
    spacing = max(log_uniform(rng, 40, 160) * scale, 28)
    strut = spacing * rng.uniform(0.05, 0.12)
    surface = np.full(size, -1.5 * spacing, np.float32)
    for layer in range(int(rng.integers(2, 4)), 0, -1):
        # struts: half a circle across the edges of the cells
        labels = cells(size, spacing * rng.uniform(0.8, 1.2), rng, rng.uniform(0.1, 0.5))
        distance = edge_distance(labels)
        width = strut * np.maximum(1 + 0.25 * field(size, spacing / 2, rng), 0.3)
        across = np.clip(distance / width, 0, 1.5)
        rim = np.sqrt(np.maximum(1 - across**2, 0)) * width

        # Within a cell: a film that sags, or a window.
        films = rng.uniform(0, 1, labels.max() + 1) < rng.choice([0.0, 0.3, 0.9])
        closed = halve(films[labels].astype(np.float32)) > 0.5
        sag = -0.25 * np.minimum(distance, spacing / 3) + 1.5 * field(size, spacing / 5, rng)
        cell = np.where(closed, np.minimum(sag, 0) - 0.2 * strut, -3 * spacing)
        height = np.where(across < 1, rim, cell)
        np.maximum(surface, height - np.float32((layer - 1) * spacing * 0.4), out=surface)
    return surface.astype(np.float32), np.ones(size, np.float32)


def grains(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """Grains of a fracture surface, tilted facets with steps, or etched grains with grooves; with
    cracks or without.
    """
    # nearly flat as in etched grains, or steep as in broken ones
    spacing = log_uniform(rng, 14, 170) * scale
    labels = cells(size, spacing, rng, rng.uniform(0.0, 0.4))
    count = int(labels.max()) + 1
    tilt = rng.normal(0, rng.choice([0.03, 0.25, 0.6]), (2, count)).astype(np.float32)

    # A tilted plane on each grain, about its middle.
    x, y = _half_pixels(size)
    total = np.bincount(labels.ravel(), minlength=count).clip(1)
    middle = [
        np.bincount(labels.ravel(), weights=axis.ravel(), minlength=count) / total
        for axis in (x, y)
    ]
    level = rng.normal(0, rng.uniform(0, 0.25) * spacing, count)
    level -= tilt[0] * middle[0] + tilt[1] * middle[1]
    fine = level.astype(np.float32)[labels] + tilt[0][labels] * x + tilt[1][labels] * y

    if rng.uniform() < 0.4:
        # Steps of cleavage or striations of fatigue, in another direction on each grain.
        turn, pitch = rng.uniform(0, 2 * math.pi, count), log_uniform(rng, 5, 25)
        wave = (np.cos(turn) / pitch).astype(np.float32)[labels] * x
        wave += (np.sin(turn) / pitch).astype(np.float32)[labels] * y
        bent = cv2.resize(field(size, 40, rng), x.shape[::-1], interpolation=cv2.INTER_LINEAR)
        wave += bent * np.float32(0.5)
        height = np.float32(pitch * rng.uniform(0.05, 0.35))
        fine += np.abs(wave - np.floor(wave) - np.float32(0.5)) * height
    surface = halve(fine)

    # grooves between the grains, and a slightly different yield of each
    width = rng.uniform(0.5, 3)
    depth = np.float32(width * rng.uniform(0, 2))
    surface -= depth * np.exp(-edge_distance(labels) / np.float32(width))
    material = halve((1 + rng.normal(0, rng.uniform(0, 0.15), count)).astype(np.float32)[labels])
    if rng.uniform() < 0.5:
        surface -= cracks(size, rng)
    return surface, material


def cracks(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Depth of winding cracks of changing width, px, (H, W) float32."""
    # A crack is where a field is 0: its distance is about the field over its slope.
    path = field(size, log_uniform(rng, 80, 400), rng)
    path = path + 0.15 * field(size, 25, rng) + 0.05 * field(size, 6, rng)
    slope = np.hypot(*np.gradient(cv2.GaussianBlur(path, (0, 0), 3))).astype(np.float32)
    slope += np.float32(1e-4)
    widest = np.float32(log_uniform(rng, 0.8, 8))
    width = widest * np.clip(field(size, 150, rng) + np.float32(0.6), 0, 2)
    return np.clip(width - np.abs(path) / slope, 0, 4) * np.float32(rng.uniform(2, 12))


def polished(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """A polished section: grains of a few phases, with channelling contrast, inclusions, pores and
    scratches.
    """
    # one yield for a phase; orientations (channelling) vary it from grain to grain
    spacing = log_uniform(rng, 12, 160) * scale
    labels = cells(size, spacing, rng, rng.uniform(0.05, 0.5))
    yields = rng.uniform(0.3, 1.5, rng.integers(1, 5))
    grain = yields[rng.integers(len(yields), size=labels.max() + 1)]
    grain = grain * (1 + rng.uniform(0, 0.15) * rng.standard_normal(len(grain)))

    # from values of grains to images; each grain is worn to another height
    material = halve(grain.astype(np.float32)[labels])
    relief = halve(rng.normal(0, rng.uniform(0, 1.2), len(grain)).astype(np.float32)[labels])

    if rng.uniform() < 0.5:  # lamellae of two phases inside some grains
        chosen = halve((rng.uniform(0, 1, len(grain)) < 0.4).astype(np.float32)[labels])
        phase = field(size, 50, rng) * 4 + np.arange(size[1]) * rng.uniform(0.2, 1.0)
        wave = np.clip(2 * np.sin(phase + field(size, 8, rng)), -1, 1).astype(np.float32)
        material += chosen * wave * np.float32(rng.normal(0, 0.25))

    if rng.uniform() < 0.5:  # a finer second phase inside grains
        fine = field(size, rng.uniform(3, 14), rng) + field(size, rng.uniform(20, 80), rng)
        fine = fine - rng.uniform(0.6, 1.6)
        material += np.clip(fine * 4, 0, 1) * np.float32(rng.normal(0, 0.5))

    # deep pores, and scratches over all of it
    if rng.uniform() < 0.6:
        pores = field(size, rng.uniform(4, 20), rng) + field(size, 80, rng) - rng.uniform(1.8, 2.8)
        relief -= np.clip(pores * rng.uniform(3, 10), 0, 1) * np.float32(rng.uniform(5, 40))
    relief += scratches(size, rng, int(rng.integers(0, 60)))
    return relief, np.maximum(material, 0.05).astype(np.float32)


def scratches(size: tuple[int, int], rng: np.random.Generator, count: int) -> np.ndarray:
    """Depth (<= 0) of straight thin scratches, px."""
    canvas = np.zeros(size, np.uint8)
    direction = rng.uniform(0, math.pi)
    for _ in range(count):
        angle = direction + rng.normal(0, 0.3)
        centre = rng.uniform(0, 1, 2) * size[::-1]
        half = rng.uniform(0.1, 1) * max(size) * np.array([math.cos(angle), math.sin(angle)])
        first, last = (np.rint((centre + sign * half) * 16).astype(int) for sign in (-1, 1))
        depth = int(rng.integers(30, 255))
        cv2.line(canvas, first.tolist(), last.tolist(), depth, 1, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) * np.float32(-1.2 / 255)
