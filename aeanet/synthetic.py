"""Simulated pairs of scanning electron micrographs: the data that ships with the package.

One specimen is built as a height map (`_scene`), turned into a secondary-electron yield (`_emission`), and then scanned
twice, independently, at two magnifications (`_acquire`): two spots, two noises, two drifts. Lengths are in HR pixels unless
said otherwise, so a larger image sees more of the specimen, not a larger specimen.

The yield follows the textbook picture (Reimer, Scanning Electron Microscopy, 1998, ch. 4 and 6): it grows like 1/cos of the
tilt, saturating at edges; electrons are lost in crevices; a side-mounted detector favours the slopes that face it; and
backscattered electrons release a diffuse second signal around the point of impact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

_MARGIN = 48  # HR px of specimen around the nominal LR field, for shift, scale error, drift and jitter
_STOCK = 192  # px: side of a stock shape
_EXTENT = 1.1  # a stock shape is drawn over [-1.1, 1.1] of its circumscribed radius
_BELOW = -9.0  # height of a stock shape where there is nothing
_KINDS = ("aggregate", "porous", "mixed")


@dataclass(frozen=True)
class SimulatedPair:
    """One specimen seen at two magnifications.

    lr, hr: (H, W) float32 in [0, 1], both of the same shape and quantised to 8 bits; `lr` has half the magnification and
    covers twice the field along each axis. matrix: 2x3, LR pixel (x, y) to HR pixel (x, y), pixel centres at integers:
    the affine map closest, in the least-squares sense over the common field, to the true one with its drifts.
    """

    name: str
    lr: np.ndarray
    hr: np.ndarray
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]


def simulate_pair(seed: int | np.random.SeedSequence, *, shape: tuple[int, int] = (944, 1280)) -> SimulatedPair:
    """One simulated pair, a function of `seed` and `shape` = (rows, columns) alone.

    The kind of specimen (an aggregate of particles, a porous body, or porous beads with particles on them) is drawn from
    the seed and is part of the name. Raises ValueError for a shape below 32 x 32.
    """
    if min(shape) < 32:
        raise ValueError(f"a simulated image needs at least 32 x 32 pixels, got {shape[0]} x {shape[1]}")
    rng = np.random.default_rng(seed)
    kind = _KINDS[rng.integers(len(_KINDS))]
    emission = _emission(_scene(kind, shape, rng), rng)
    to_scene_hr, to_scene_lr = _geometry(shape, rng)
    drift_hr, drift_lr = (_drift(shape[0], amplitude, rng) for amplitude in (0.25, 0.5))
    # Each scan has its own brightness and contrast setting; the operator aims at the same grey levels.
    grey = _grey_levels(emission, rng)
    hr = _acquire(grey, to_scene_hr, drift_hr, shape, rng, spot=0.75, noise=0.05, jitter=0.06)
    lr = _acquire(grey, to_scene_lr, drift_lr, shape, rng, spot=1.1, noise=rng.uniform(1.0, 1.35), jitter=0.15)
    matrix = _true_matrix(to_scene_lr, to_scene_hr, drift_lr, drift_hr, shape)
    rows = tuple((float(a), float(b), float(c)) for a, b, c in matrix)
    return SimulatedPair(f"{kind}-{_label(seed)}", lr, hr, (rows[0], rows[1]))


def simulate_pairs(count: int, *, seed: int = 0, shape: tuple[int, int] = (944, 1280)) -> list[SimulatedPair]:
    """`count` independent pairs; the i-th one is a function of (seed, i, shape), whatever `count` is."""
    return [simulate_pair(np.random.SeedSequence((seed, i)), shape=shape) for i in range(count)]


def _label(seed: int | np.random.SeedSequence) -> str:
    entropy = seed.entropy if isinstance(seed, np.random.SeedSequence) else seed
    return "-".join(map(str, entropy)) if isinstance(entropy, (list, tuple)) else str(entropy)


# ---------------------------------------------------------------------------------------------------------------- scene


def _field(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth Gaussian random field, mean 0 and variance about 1, with features of about `scale` px. (H, W) float32."""
    step = max(1.0, scale / 3)
    coarse = (math.ceil(shape[0] / step) + 8, math.ceil(shape[1] / step) + 8)
    noise = cv2.GaussianBlur(rng.standard_normal(coarse, np.float32), (0, 0), 1.5)
    noise *= 2 * math.sqrt(math.pi) * 1.5
    size = (round(coarse[1] * step), round(coarse[0] * step))
    large = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    top, left = round(4 * step), round(4 * step)
    return large[top : top + shape[0], left : left + shape[1]]


def _stock_grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-_EXTENT, _EXTENT, _STOCK, dtype=np.float32)
    return np.meshgrid(axis, axis)


def _cap(squared: np.ndarray) -> np.ndarray:
    """Height above the equator from a squared height; below it a short steep skirt, so that outlines interpolate well."""
    return np.where(squared > 0.0, np.sqrt(np.maximum(squared, 0.0)), 4.0 * squared).astype(np.float32)


def _polyhedron(rng: np.random.Generator) -> np.ndarray:
    """Upper surface of a random convex, round-edged, faceted body of circumscribed radius 1; (_STOCK, _STOCK)."""
    x, y = _stock_grid()
    axes = rng.uniform(0.7, 1.0, 3)
    height = _cap(1 - (x / axes[0]) ** 2 - (y / axes[1]) ** 2) * np.float32(axes[2])
    for _ in range(rng.integers(5, 22)):
        normal = rng.standard_normal(3)
        normal /= np.linalg.norm(normal)
        up = max(abs(normal[2]), 0.12)
        distance = rng.uniform(0.62, 0.9) * np.linalg.norm(normal * axes)
        np.minimum(height, ((distance - normal[0] * x - normal[1] * y) / up).astype(np.float32), out=height)
    return cv2.GaussianBlur(height, (0, 0), rng.uniform(1.0, 5.0))


def _tube(rng: np.random.Generator) -> np.ndarray:
    """Upper surface of a bent, round-ended ligament of half-length about 1; (_STOCK, _STOCK)."""
    x, y = _stock_grid()
    t = np.linspace(-1, 1, 48)
    bend, wiggle, phase = rng.normal(0, 0.35), rng.normal(0, 0.12), rng.uniform(0, 2 * math.pi)
    path_x, path_y = 0.75 * t, bend * (t**2 - 0.5) + wiggle * np.sin(4 * t + phase)
    width = rng.uniform(0.14, 0.26) * (1 + 0.2 * np.sin(5 * t + rng.uniform(0, 2 * math.pi)))
    rise = rng.normal(0, 0.3) * t
    height = np.full_like(x, _BELOW)
    for px, py, w, z in zip(path_x, path_y, width, rise, strict=True):
        squared = (w * w - (x - px) ** 2 - (y - py) ** 2) / np.float32(w)
        np.maximum(height, np.where(squared > -0.1 * w, _cap(squared) * math.sqrt(w) + z, _BELOW), out=height)
    return height.astype(np.float32)


def _deposit(
    surface: np.ndarray,
    stock: list[np.ndarray],
    where: np.ndarray,
    cover: float,
    radii: tuple[float, float, float, float],
    sink: float,
    rng: np.random.Generator,
) -> None:
    """Drops bodies onto `surface` (in place), largest first, each coming to rest on what lies below it.

    where: (H, W), bodies land where it is positive. cover: summed area of the bodies' circumscribed discs over the area of
    the field. radii: median, log-normal sigma, least, largest. sink: how deep a body sits, in radii. Touching surfaces are
    joined by a fillet (a polynomial smooth maximum), as by sintering.
    """
    median, sigma, least, largest = radii
    rows, columns = surface.shape
    mean_area = math.pi * median**2 * math.exp(2 * sigma**2)
    count = math.ceil(cover * rows * columns / mean_area)
    radius = np.sort(np.clip(median * np.exp(sigma * rng.standard_normal(count)), least, largest))[::-1]
    centre = rng.uniform(0, 1, (count, 2)) * (rows, columns)
    which, angle = rng.integers(len(stock), size=count), rng.uniform(0, 2 * math.pi, count)
    depth = rng.normal(sink, 0.25, count)
    for r, (cy, cx), shape_index, turn, sunk in zip(radius, centre, which, angle, depth, strict=True):
        row, column = int(cy), int(cx)
        if where[row, column] <= 0:
            continue
        reach = math.ceil(_EXTENT * r)
        top, bottom = max(row - reach, 0), min(row + reach + 1, rows)
        left, right = max(column - reach, 0), min(column + reach + 1, columns)
        scale, half = _STOCK / (2 * _EXTENT * r), (_STOCK - 1) / 2
        c, s = scale * math.cos(turn), scale * math.sin(turn)
        dx, dy = left - cx, top - cy
        to_stock = np.array([[c, s, half + c * dx + s * dy], [-s, c, half - s * dx + c * dy]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (right - left, bottom - top)
        body = cv2.warpAffine(stock[shape_index], to_stock, size, flags=flags, borderValue=_BELOW)
        body *= r
        body += surface[row, column] - sunk * r
        patch = surface[top:bottom, left:right]
        fillet = 0.12 * r
        joint = np.maximum(fillet - cv2.absdiff(patch, body), 0.0)
        np.maximum(patch, body, out=patch)
        patch += joint * joint / (4 * fillet)


def _network(shape: tuple[int, int], width: float, fill: float, rng: np.random.Generator) -> np.ndarray:
    """Round ligaments of a bicontinuous network seen from above: height above their axes, below -width in the gaps."""
    level = _field(shape, 2.5 * width, rng) + np.float32(fill)
    return np.where(level > 0, np.sqrt(np.maximum(level, 0)), 8 * level - 1).astype(np.float32) * np.float32(width)


def _scene(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Height map of the specimen, in HR px, over the LR field and a margin: (2 H + 2 margin, 2 W + 2 margin) float32."""
    size = (2 * shape[0] + 2 * _MARGIN, 2 * shape[1] + 2 * _MARGIN)
    bodies = [_polyhedron(rng) for _ in range(36)]
    cluster = _field(size, 350, rng)
    surface = 6 * _field(size, 120, rng) + 2 * _field(size, 25, rng)
    everywhere = np.ones_like(surface)
    if kind == "porous":
        tubes = [_tube(rng) for _ in range(24)]
        for below in (160, 80):
            np.maximum(surface, _network(size, rng.uniform(22, 34), 0.1, rng) - below + 160, out=surface)
        _deposit(surface, tubes, cluster + 0.9, 2.2, (85, 0.35, 30, 190), -0.1, rng)
        _deposit(surface, bodies, cluster - 0.6, 0.2, (28, 0.5, 8, 80), 0.2, rng)
    else:
        if kind == "mixed":
            _deposit(surface, bodies, everywhere, 1.6, (120, 0.2, 70, 190), 0.0, rng)
            holes = _field(size, 16, rng) + 0.6 * _field(size, 45, rng) - 1.5
            surface -= 30 * np.clip(holes * 3, 0, 1)
        _deposit(surface, bodies, cluster + 0.3, 1.3, (48, 0.5, 14, 140), 0.1, rng)
        _deposit(surface, bodies, cluster + 0.1, 0.5, (20, 0.5, 6, 70), 0.1, rng)
    for scale, amplitude in ((14, 0.5), (5, 0.16), (2, 0.04)):
        surface += amplitude * _field(size, scale, rng)
    return surface


# ------------------------------------------------------------------------------------------------------------- emission


def _wide_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, on a reduced grid where sigma allows it."""
    step = max(1, int(sigma / 4))
    if step == 1:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    size = (math.ceil(image.shape[1] / step), math.ceil(image.shape[0] / step))
    small = cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / step)
    return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _emission(surface: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Secondary electrons collected per unit of beam current from each point of a height map (H, W); flat ground gives 1."""
    smooth = cv2.GaussianBlur(surface, (0, 0), 0.6)
    slope_x, slope_y = (cv2.Scharr(smooth, cv2.CV_32F, dx, 1 - dx, scale=1 / 32) for dx in (1, 0))
    secant = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    collected = 1 + 0.9 * (1 - cv2.exp((1 - secant) / 1.2))
    detector = rng.uniform(0, 2 * math.pi)
    collected *= 1 - 0.14 * (math.cos(detector) * slope_x + math.sin(detector) * slope_y) / secant
    loss = np.zeros_like(surface)
    for sigma, weight, most in ((3, 0.35, 0.25), (14, 0.35, 0.4), (50, 0.4, 0.6)):
        loss += np.clip(weight / sigma * (_wide_blur(surface, sigma) - surface), -0.4 * most, most)
    collected *= cv2.exp(-loss)
    return 0.8 * collected + 0.2 * _wide_blur(collected, 9)


def _grey_levels(emission: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Detected signal above the black level, in grey levels of 255, for typical brightness and contrast settings."""
    sample = emission[::7, ::7]
    dark = float(np.quantile(sample, 0.002))
    return (emission - np.float32(dark)) * np.float32(rng.uniform(13, 18) / float(sample.std()))


# ---------------------------------------------------------------------------------------------------------- acquisition


def _geometry(shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Affine maps (2x3) of HR and of LR pixels to scene pixels: same centre but for a shift, scale errors and a shear."""
    centre = np.array([shape[1] - 0.5, shape[0] - 0.5]) + _MARGIN
    middle = np.array([shape[1] - 1, shape[0] - 1]) / 2
    scale = 2 * (1 + rng.uniform(-1, 1, 2) * (0.004, 0.01))
    linear_lr = np.array([[scale[0], rng.normal(0, 0.004)], [rng.normal(0, 0.0015), scale[1]]])
    shift = np.clip(rng.normal(0, 7, 2), -18, 18)
    to_scene_hr = np.column_stack([np.eye(2), centre - middle])
    to_scene_lr = np.column_stack([linear_lr, centre + shift - linear_lr @ middle])
    return to_scene_hr, to_scene_lr


def _drift(rows: int, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Slow drift of the stage during one scan: (rows, 2) displacements (x, y) in scene px, about `amplitude` in size."""
    time = np.linspace(0, 1, rows)[:, None]
    return amplitude * (
        rng.normal(0, 1, 2) * (time - 0.5) + rng.normal(0, 0.7, 2) * np.sin(2 * np.pi * (time + rng.uniform(0, 1, 2)))
    )


def _true_matrix(
    to_scene_lr: np.ndarray, to_scene_hr: np.ndarray, drift_lr: np.ndarray, drift_hr: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Least-squares affine (2x3) of the LR -> HR map, drifts included, over the common field."""
    grid = np.meshgrid(np.linspace(0, shape[1] - 1, 33), np.arange(shape[0]))
    points = np.column_stack([grid[0].ravel(), grid[1].ravel(), np.ones(grid[0].size)])
    scene = points @ to_scene_lr.T + drift_lr[points[:, 1].astype(int)]
    row = scene[:, 1] - to_scene_hr[1, 2]
    inside = (row >= 0) & (row <= shape[0] - 1)
    true = scene - to_scene_hr[:, 2] - np.column_stack([np.interp(row, np.arange(shape[0]), d) for d in drift_hr.T])
    return np.linalg.lstsq(points[inside], true[inside], rcond=None)[0].T


def _acquire(
    signal: np.ndarray,
    to_scene: np.ndarray,
    drift: np.ndarray,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    spot: float,
    noise: float,
    jitter: float,
) -> np.ndarray:
    """Scans `signal` (grey levels above black) and returns an 8-bit micrograph (H, W) as float32 in [0, 1].

    spot: standard deviation of the beam and its travel during a dwell, scene px. noise: grey levels of variance per grey
    level of signal (shot noise). jitter: standard deviation of a line's start, scene px.
    """
    column, row = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    offset = (drift + np.column_stack([rng.normal(0, jitter, shape[0]), np.zeros(shape[0])])).astype(np.float32)
    (a, b, x0), (c, d, y0) = to_scene.astype(np.float32)
    beam = cv2.GaussianBlur(signal, (0, 0), spot)
    x, y = a * column + b * row + x0 + offset[:, :1], c * column + d * row + y0 + offset[:, 1:]
    scanned = cv2.remap(beam, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    arrived = scanned + np.sqrt(np.maximum(noise * scanned, 0)) * rng.standard_normal(shape, np.float32)
    # The detector chain passes neighbouring pixels of a line into each other; lines are independent.
    band = np.array([[0.115, 0.77, 0.115]], np.float32)
    detected = cv2.filter2D(arrived, cv2.CV_32F, band, borderType=cv2.BORDER_REFLECT_101)
    black, gain = rng.normal(40, 2), rng.normal(1, 0.015)
    levels = np.clip(np.rint(black + gain * detected), 0, 255)
    return (levels / 255).astype(np.float32)
