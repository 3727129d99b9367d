"""Specimens made of bodies: particles, porous bodies, both, fibres. Height in px and relative
yield, (H, W) float32.
"""

import math

import cv2
import numpy as np

from aeanet.data.synthetic.shapes import (
    Specimen,
    crystal,
    deposit,
    field,
    log_uniform,
    network,
    polyhedron,
    rod,
    sphere,
    tube,
)

STOCK = 16  # different bodies in a scene: few, for they take most of the time
_STOCKS = (sphere, crystal, rod)


def bodies(
    kind: str,
    size: tuple[int, int],
    rng: np.random.Generator,
    scale: float = 1.0,
    *,
    stock: int = 36,
    crisp: float = 1.0,
    ground: float = 0.8,
) -> Specimen:
    """An "aggregate" of particles, a "porous" body of ligaments, or "mixed": porous beads with
    particles on them.

    Args:
        kind: one of the three.
        size: rows and columns.
        rng: for all that is random.
        scale: by which all lengths but those of the finest roughness are multiplied.
        stock: number of different particles; there are five sixths as many different ligaments.
        crisp: sharpness of joints and pores, 1 or more.
        ground: yield of the ground between the bodies, relative to theirs.
    """
    # an undulating ground, and where on it the bodies gather
    s, fillet = scale, 0.12 / crisp
    shapes = [polyhedron(rng) for _ in range(stock)]
    cluster = field(size, 350 * s, rng)
    substrate = (8 * field(size, 120 * s, rng) + 2 * field(size, 25 * s, rng)) * np.float32(s)
    surface = substrate.copy()

    # layers of bodies: (stock, where, cover, radii, sink) of `deposit`
    if kind == "porous":
        tubes = [tube(rng) for _ in range(stock * 5 // 6)]
        # two webs, one above the other; the tubes lie on them
        for height in (40, 100):
            web = network(size, rng.uniform(70, 110) * s, rng)
            np.maximum(surface, web + height * s, out=surface)
        layers = [
            (tubes, cluster + 0.9, 5.0, (80 * s, 0.35, 30 * s, 170 * s), 0.1),
            (shapes, cluster - 0.4, 0.4, (26 * s, 0.5, 8 * s, 80 * s), 0.3),
        ]
    else:
        if kind == "mixed":
            # Large beads with pores. These are cut only well above the ground, which stays whole.
            beads = (105 * s, 0.2, 60 * s, 170 * s)
            deposit(surface, shapes, cluster + 1.4, 4.0, beads, 0.2, rng, fillet)
            pores = field(size, 15 * s, rng) + 0.7 * field(size, 45 * s, rng) - 1.3
            depth = 60 * s * np.clip(3 * crisp * pores, 0, 1)
            surface -= depth * np.clip((surface - substrate) / (40 * s) - 1, 0, 1)
        cover = 4.5 if kind == "aggregate" else 0.25
        layers = [
            (shapes, cluster + 0.9, cover, (44 * s, 0.5, 14 * s, 130 * s), 0.3),
            (shapes, cluster + 0.5, 0.15 * cover, (17 * s, 0.5, 6 * s, 60 * s), 0.2),
        ]

    # the larger first, so that the smaller lie on them
    for layer in layers:
        deposit(surface, *layer, rng, fillet)

    # where no body lies the ground is seen, with a yield of its own
    material = 1 - np.float32(1 - ground) * (surface < substrate + 1).astype(np.float32)
    # roughness in px, whatever the scale: in all images it is as fine
    for grain, amplitude in ((25, 1.5), (12, 0.9), (5, 0.35), (2, 0.08)):
        surface += np.float32(amplitude) * field(size, grain, rng)
    return surface, material


def particles(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """Particles of one habit, of nearly one size or of many: spheres, crystals, rods, or irregular
    aggregates.
    """
    habit = rng.integers(4)
    if habit == 0:
        return bodies("aggregate", size, rng, scale, stock=STOCK, crisp=log_uniform(rng, 1, 5))

    # a few bodies of one habit: turned and scaled they look like many
    s = scale
    stock = [_STOCKS[habit - 1](rng) for _ in range(12)]
    radius, spread = log_uniform(rng, 12, 70) * s, float(rng.choice([0.03, 0.12, 0.45]))
    limits = (radius, spread, 0.3 * radius, 3 * radius)

    # the particles lie in patches of an undulating ground, which is seen between them
    surface = (6 * field(size, 120 * s, rng) + 2 * field(size, 25 * s, rng)) * np.float32(s)
    substrate = surface.copy()
    where = field(size, 200 * s, rng) + rng.uniform(-0.5, 2)
    deposit(surface, stock, where, rng.uniform(0.5, 4), limits, 0.2, rng)
    material = 1 - np.float32(rng.uniform(0, 0.5)) * (surface < substrate + 1).astype(np.float32)
    return surface, material


def fibres(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """A mat of round fibres, one layer above the other; each is a smooth curve of constant
    width.
    """
    # the directions scatter by `order` about a common one; the ground lies deep between the fibres
    radius, spread = log_uniform(rng, 2.5, 22) * scale, rng.uniform(0.0, 0.6)
    direction, order = rng.uniform(0, math.pi), rng.uniform(0.2, 1.6)
    surface = (field(size, 60, rng) - 3 * radius).astype(np.float32)

    # each is longer than the field; together they have 0.8 to 3 times its area, within limits
    length = 1.5 * math.hypot(*size)
    count = int(np.clip(rng.uniform(0.8, 3) * size[0] * size[1] / (2 * radius * length), 12, 220))
    points, middle = 40, 20  # of the curve of a fibre
    for layer in range(count):
        r = radius * math.exp(spread * rng.standard_normal())
        angle = direction + order * rng.standard_normal()

        # Its direction changes in small random steps; its middle lies anywhere.
        bend = np.cumsum(rng.normal(0, 0.05, points))
        turned = angle + bend - bend[middle]
        x = rng.uniform(0, size[1]) + np.cumsum(np.cos(turned)) * length / points
        y = rng.uniform(0, size[0]) + np.cumsum(np.sin(turned)) * length / points
        x = x - x[middle] + rng.uniform(0, size[1])
        y = y - y[middle] + rng.uniform(0, size[0])
        level = 2.5 * radius * layer / count
        _lay_fibre(surface, np.column_stack([x, y]), max(r, 1.5), level)
    return surface, np.ones(size, np.float32)


def _lay_fibre(surface: np.ndarray, path: np.ndarray, radius: float, level: float) -> None:
    """Put a fibre of this radius (px) along `path` (points, 2) with its axis at `level`, in
    place.
    """
    # the window that the fibre reaches, if any of it lies in the image
    reach = radius + 3
    left, top = np.maximum(np.floor(path.min(0) - reach).astype(int), 0)
    last = np.ceil(path.max(0) + reach).astype(int) + 1
    right, bottom = np.minimum(last, surface.shape[::-1])
    if left >= right or top >= bottom:
        return

    # Distance from the axis, without the steps of its pixels.
    canvas = np.full((bottom - top, right - left), 255, np.uint8)
    points = np.rint((path - (left, top)) * 16).astype(np.int32)
    cv2.polylines(canvas, [points], False, 0, 1, cv2.LINE_AA, 4)
    thin = cv2.distanceTransform((canvas > 127).astype(np.uint8), cv2.DIST_L2, 5)
    thin = cv2.GaussianBlur(thin, (0, 0), 1.0)

    # half a circle across the axis, and a steep slope outside, which makes a smooth outline
    near = thin < reach
    round_ = np.sqrt(np.maximum(radius**2 - thin**2, 0)) - 3 * np.maximum(thin - radius, 0)
    patch = surface[top:bottom, left:right]
    patch[near] = np.maximum(patch, round_ + np.float32(level))[near]
