"""Sections and surfaces made in layers: cross-sections, lithography, and dead leaves for all that
has no name.

Each function returns height in px and relative yield, (H, W) float32 both. `scale` multiplies the
usual lengths.
"""

import math

import cv2
import numpy as np

from aeanet.data.synthetic.shapes import Specimen, field, halve, log_uniform


def layers(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """A cross-section through a stack of layers: rough interfaces; dense, columnar, granular and
    porous layers.
    """
    # all interfaces are bent alike (`shared`); each is rough by itself
    edges = np.sort(rng.uniform(0, size[0], int(rng.integers(2, 12))))
    position = np.arange(size[0], dtype=np.float32)[:, None]
    shared = _line(size[1], 150 * scale, rng) * np.float32(rng.uniform(0, 12) * scale)
    surface, material = np.zeros(size, np.float32), np.full(size, rng.uniform(0.2, 1.4), np.float32)
    gap = np.zeros(size, np.float32)

    for edge in edges:
        # Each layer covers what lies below its interface.
        rough = _line(size[1], log_uniform(rng, 3, 60), rng)
        rough = rough * np.float32(log_uniform(rng, 0.2, 8))
        depth = position - np.float32(edge) - shared - rough
        inside = np.clip(depth + np.float32(0.5), 0, 1)
        layer, relief = _filling(size, rng, scale)
        material += inside * (layer - material)
        surface += inside * (relief + np.float32(rng.normal(0, 1.5)) - surface)
        if rng.uniform() < 0.25:  # an interface that has opened, or a thin film in it
            thin = np.exp(-((depth / np.float32(log_uniform(rng, 1, 5))) ** 2))
            present = np.clip(_line(size[1], 100, rng) + 1, 0, 1)
            gap += thin * present * np.float32(rng.normal(0, 0.6))

    # below 0 the interface is open, above 0 there is a film with more yield
    surface += np.minimum(gap, 0) * 8
    material = np.maximum(material + np.maximum(gap, 0), 0.05)
    return surface.astype(np.float32), material.astype(np.float32)


def _line(length: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random function of the column, (1, length), as `field`."""
    return field((4, length), scale, rng)[:1]


def _filling(size: tuple[int, int], rng: np.random.Generator, scale: float) -> Specimen:
    """Yield and height of the inside of a layer."""
    # plain, columnar, granular or porous
    grey, contrast = np.float32(rng.uniform(0.2, 1.4)), np.float32(rng.uniform(0.05, 0.4))
    kind = rng.integers(4)
    if kind == 0:
        return np.full(size, grey, np.float32), np.zeros(size, np.float32)
    if kind == 1:  # columns across the layer
        slant, width = int(rng.integers(4, 16)), rng.uniform(3, 12)
        narrow = field((size[0] // slant + 2, size[1]), width, rng)
        columns = cv2.resize(narrow, size[::-1], interpolation=cv2.INTER_CUBIC)
        return grey * (1 + contrast * np.tanh(2 * columns)), columns * np.float32(rng.uniform(0, 1))

    # grains and pores: a texture without a direction; pores are where it is high
    texture = field(size, log_uniform(rng, 3, 40) * max(scale, 0.4), rng)
    if kind == 2:  # granular
        grains = np.maximum(grey * (1 + contrast * np.tanh(3 * texture)), 0.05)
        return grains, texture * np.float32(0.5)
    pores = np.clip(2 * (texture - np.float32(rng.uniform(0.5, 1.5))), 0, 1)
    return np.full(size, grey, np.float32), -pores * np.float32(rng.uniform(2, 10))


def lithography(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """Lines and spaces, contact holes, or wires of a circuit: rough edges, side walls, residues."""
    # the pattern is a distance from its outline; noise on the distance makes a rough edge
    kind = rng.choice(3, p=(0.25, 0.5, 0.25))
    roughness = field(size, log_uniform(rng, 4, 40), rng) * np.float32(rng.uniform(0.1, 1.5))
    if kind == 1 and rng.uniform() < 0.5:
        # Dense whatever the scale: a network most easily takes dense arrays of holes for noise.
        pitch = log_uniform(rng, 3.5, 14)
    else:
        pitch = log_uniform(rng, 6 if kind == 1 else 14, 120) * max(scale, 0.6)
    distance = (_lines, _holes, _wires)[kind](size, pitch, rng) + roughness

    # side walls: the height rises to its full value over `wall` px
    wall, height = rng.uniform(0.8, 5), rng.uniform(0.1, 0.8) * pitch
    inside = np.clip(distance / np.float32(wall) + np.float32(0.5), 0, 1)
    surface = inside * np.float32(height)
    material = np.float32(rng.uniform(0.3, 1.3)) + inside * np.float32(rng.normal(0, 0.3))

    # residues: islands where a texture is highest
    if rng.uniform() < 0.3:
        texture = field(size, rng.uniform(3, 10), rng)
        residue = np.clip(4 * (texture - np.float32(rng.uniform(2.2, 3))), 0, 1)
        surface = np.maximum(surface, residue * np.float32(height * rng.uniform(0.3, 1.2)))
    return surface.astype(np.float32), np.maximum(material, 0.05).astype(np.float32)


def _lines(size: tuple[int, int], pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Distance inside (> 0) of lines, px. Their edges are rough independently of one another."""
    width, count = rng.uniform(0.3, 0.7) * pitch, math.ceil(size[1] / pitch) + 2
    x = np.arange(size[1], dtype=np.float32)[None]
    index = np.clip(((x + rng.uniform(0, pitch)) / pitch).astype(int), 0, count - 1)
    offset = np.float32((index[0, 0] + 0.5) * pitch) - x[0, 0]
    rough = []
    for _edge in ("left", "right"):
        along = field((size[0], 4 * count), log_uniform(rng, 5, 50), rng)[:, ::4]
        rough.append((along * np.float32(rng.uniform(0, 1.5)))[:, index[0]])
    from_axis = x + offset - ((index + 0.5) * pitch).astype(np.float32)
    left, right = from_axis + width / 2 + rough[0], width / 2 - from_axis + rough[1]
    return np.minimum(left, right).astype(np.float32)


def _holes(size: tuple[int, int], pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Distance outside of holes (< 0 in them), or inside of pillars, on a square or staggered grid,
    px.
    """
    y, x = np.meshgrid(*(np.arange(length, dtype=np.float32) for length in size), indexing="ij")
    row = np.floor(y / np.float32(pitch))
    x = x + (row % 2) * np.float32(pitch / 2 * rng.integers(2))
    column = np.floor(x / np.float32(pitch))

    # The sizes and shifts of the holes repeat after so many that nobody sees it.
    size_table = rng.normal(rng.uniform(0.22, 0.42) * pitch, 0.02 * pitch, 997).astype(np.float32)
    shift_table = rng.normal(0, 0.015 * pitch, (2, 997)).astype(np.float32)
    which = (row * 131 + column * 17).astype(int) % 997
    dx = x - (column + np.float32(0.5)) * np.float32(pitch) + shift_table[0][which]
    dy = y - (row + np.float32(0.5)) * np.float32(pitch) + shift_table[1][which]
    dy = dy * np.float32(rng.uniform(0.8, 1.2))
    distance = np.hypot(dx, dy) - size_table[which]
    return distance if rng.uniform() < 0.7 else -distance


def _wires(size: tuple[int, int], pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Distance inside (> 0) of wires and pads on a grid of this pitch, with rounded corners, px."""
    canvas = np.zeros((2 * size[0], 2 * size[1]), np.uint8)
    half = max(2, round(pitch * rng.uniform(0.25, 0.45)))
    for _ in range(int(1.2 * size[0] * size[1] / pitch**2 / 3) + 6):
        row, column = (
            int(int(rng.integers(0, int(2 * side / pitch) + 1)) * pitch) for side in size
        )
        length, tall = int(rng.geometric(0.3) * 2 * pitch), rng.uniform() < 0.5
        end = (column, row + length) if tall else (column + length, row)
        cv2.rectangle(canvas, (column - half, row - half), (end[0] + half, end[1] + half), 255, -1)
    inside, outside = (cv2.distanceTransform(c, cv2.DIST_L2, 5) for c in (canvas, 255 - canvas))
    return cv2.GaussianBlur(halve(inside - outside) / 2, (0, 0), rng.uniform(0.8, 2.5))


def dead_leaves(size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Specimen:
    """Shapes of all sizes covering one another: discs, ellipses and polygons, radii distributed
    like r^-3.
    """
    # so many leaves, within limits, that their areas add up to 0.8 to 2.0 times that of the field
    fine = (2 * size[0], 2 * size[1])
    least, largest = log_uniform(rng, 2, 12), log_uniform(rng, 60, 250) * scale
    area = 2 * math.pi * least**2 * math.log(largest / least)  # of a leaf, in the mean
    count = int(np.clip(int(rng.uniform(0.8, 2.0) * size[0] * size[1] / area), 300, 12_000))

    # 1 / r^2 is evenly distributed where the density of r is r^-3
    radius = 1 / np.sqrt(1 / least**2 - rng.uniform(0, 1, count) * (1 / least**2 - 1 / largest**2))
    x, y = rng.uniform(0, fine[1], count), rng.uniform(0, fine[0], count)
    sides = rng.integers(3, 8, count)
    leaf = np.zeros(fine, np.float32)
    height = rng.uniform(0, 1, count)
    elongation, angle = np.exp(rng.normal(0, 0.4, count)), rng.uniform(0, math.pi, count)
    grey = rng.uniform(0.2, 1.5, count).astype(np.float32)
    round_ = rng.uniform(0, 1, count) < rng.uniform()

    # a later leaf covers the earlier ones; lengths are doubled, as the pitch is half a px
    for i in range(count):
        if round_[i]:
            corner = np.linspace(0, 2 * math.pi, 30)
        else:
            corner = np.sort(rng.uniform(0, 2 * math.pi, sides[i]))
        px = 2 * radius[i] * elongation[i] * np.cos(corner)
        py = 2 * radius[i] / elongation[i] * np.sin(corner)
        c, s = math.cos(angle[i]), math.sin(angle[i])
        points = np.column_stack([x[i] + c * px - s * py, y[i] + s * px + c * py])
        cv2.fillPoly(leaf, [np.rint(points).astype(np.int32)], i + 1)

    # Leaf 0 is the ground.
    index = leaf.astype(np.int32)
    grey, height = np.append(np.float32(0.7), grey), np.append(0.0, height).astype(np.float32)
    relief = halve(height[index]) * np.float32(rng.uniform(0, 6))
    return relief, halve(grey[index])
