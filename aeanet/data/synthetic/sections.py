"""Flat specimens: polished sections of several phases, dead leaves. Height in px and relative yield, (H, W) float32."""

from __future__ import annotations

import math

import cv2
import numpy as np

from aeanet.data.synthetic.shapes import field

Specimen = tuple[np.ndarray, np.ndarray]


def cells(size: tuple[int, int], spacing: float, rng: np.random.Generator, wobble: float = 0.15) -> np.ndarray:
    """Voronoi cells of about `spacing` px with curved edges: labels from 0, (2 H, 2 W) int32, at half the pitch."""
    fine = (2 * size[0], 2 * size[1])
    seeds = np.full((fine[0] // 2, fine[1] // 2), 255, np.uint8)
    count = max(4, round(size[0] * size[1] / spacing**2))
    seeds[rng.integers(0, seeds.shape[0], count), rng.integers(0, seeds.shape[1], count)] = 0
    labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1] - 1
    column, row = np.meshgrid(np.arange(fine[1], dtype=np.float32) / 2, np.arange(fine[0], dtype=np.float32) / 2)
    for axis in (column, row):
        moved = field(size, spacing / 2, rng) * np.float32(wobble * spacing / 2)
        axis += cv2.resize(moved, fine[::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.remap(labels.astype(np.float32), column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT).astype(
        np.int32
    )


def halve(fine: np.ndarray) -> np.ndarray:
    """Mean over squares of 2 x 2 px, which makes edges smooth."""
    return cv2.resize(fine, (fine.shape[1] // 2, fine.shape[0] // 2), interpolation=cv2.INTER_AREA)


def polished(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """A polished section: grains of a few phases, with channelling contrast, inclusions, pores and scratches."""
    spacing = float(np.exp(rng.uniform(math.log(12), math.log(160)))) * scale
    labels = cells(size, spacing, rng, rng.uniform(0.05, 0.5))
    yields = rng.uniform(0.3, 1.5, rng.integers(1, 5))
    grain = yields[rng.integers(len(yields), size=labels.max() + 1)]
    grain = grain * (1 + rng.uniform(0, 0.15) * rng.standard_normal(len(grain)))
    material = halve(grain.astype(np.float32)[labels])
    relief = halve(rng.normal(0, rng.uniform(0, 1.2), len(grain)).astype(np.float32)[labels])
    if rng.uniform() < 0.6:  # a finer second phase inside grains
        fine = field(size, rng.uniform(3, 14), rng) + field(size, rng.uniform(20, 80), rng) - rng.uniform(0.6, 1.6)
        material += np.clip(fine * 4, 0, 1) * np.float32(rng.normal(0, 0.5))
    if rng.uniform() < 0.6:
        pores = field(size, rng.uniform(4, 20), rng) + field(size, 80, rng) - rng.uniform(1.8, 2.8)
        relief -= np.clip(pores * 3, 0, 1) * np.float32(rng.uniform(3, 15))
    relief += scratches(size, rng, int(rng.integers(0, 60)))
    return relief, np.maximum(material, 0.05)


def scratches(size: tuple[int, int], rng: np.random.Generator, count: int) -> np.ndarray:
    """Depth (<= 0) of straight thin scratches, px."""
    canvas = np.zeros(size, np.uint8)
    direction = rng.uniform(0, math.pi)
    for _ in range(count):
        angle = direction + rng.normal(0, 0.3)
        centre = rng.uniform(0, 1, 2) * size[::-1]
        half = rng.uniform(0.1, 1) * max(size) * np.array([math.cos(angle), math.sin(angle)])
        ends = [tuple(np.rint((centre + sign * half) * 16).astype(int).tolist()) for sign in (-1, 1)]
        cv2.line(canvas, ends[0], ends[1], int(rng.integers(30, 255)), 1, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) * np.float32(-1.2 / 255)


def dead_leaves(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """Shapes of all sizes covering one another: discs, ellipses and polygons, radii distributed like r^-3."""
    fine = (2 * size[0], 2 * size[1])
    least, largest = rng.uniform(2, 5), rng.uniform(60, 250) * scale
    count = int(rng.uniform(0.8, 2.0) * size[0] * size[1] / (2 * math.pi * least**2 * math.log(largest / least)))
    count = int(np.clip(count, 300, 12_000))
    radius = 1 / np.sqrt(1 / least**2 - rng.uniform(0, 1, count) * (1 / least**2 - 1 / largest**2))
    x, y = rng.uniform(0, fine[1], count), rng.uniform(0, fine[0], count)
    sides = rng.integers(3, 8, count)
    leaf = np.zeros(fine, np.float32)
    height = rng.uniform(0, 1, count)
    elongation, angle = np.exp(rng.normal(0, 0.4, count)), rng.uniform(0, math.pi, count)
    grey = rng.uniform(0.2, 1.5, count).astype(np.float32)
    round_ = rng.uniform(0, 1, count) < rng.uniform()
    for i in range(count):
        axes = 2 * radius[i] * elongation[i], 2 * radius[i] / elongation[i]
        corner = np.linspace(0, 2 * math.pi, 30) if round_[i] else np.sort(rng.uniform(0, 2 * math.pi, sides[i]))
        px, py = axes[0] * np.cos(corner), axes[1] * np.sin(corner)
        c, s = math.cos(angle[i]), math.sin(angle[i])
        points = np.rint(np.column_stack([x[i] + c * px - s * py, y[i] + s * px + c * py])).astype(np.int32)
        cv2.fillPoly(leaf, [points], i + 1)
    index = leaf.astype(np.int32)
    grey, height = np.append(np.float32(0.7), grey), np.append(0.0, height).astype(np.float32)
    relief = halve(height[index]) * np.float32(rng.uniform(0, 6))
    return relief, halve(grey[index])
