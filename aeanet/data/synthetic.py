"""Simulated pairs of scanning electron micrographs, for the demonstration and for tests.

A specimen is a height map (`_scene`), from which the yield of secondary electrons follows (`_emission`). It is scanned
twice at two magnifications (`_acquire`), with different spots, noises and drifts. Lengths are in HR pixels unless said
otherwise, so a larger image shows more of the specimen, not a larger specimen.

The yield follows Reimer, Scanning Electron Microscopy, 2nd ed., 1998. It grows like 1 / cos of the tilt, up to a limit
at edges. Electrons are lost in crevices. A detector at the side collects more from slopes that face it. Backscattered
electrons release a diffuse second signal around the point of impact.
"""

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
    """One specimen at two magnifications.

    Attributes:
        name: the kind of specimen and the seed.
        lr, hr: (H, W) float32 in [0, 1], quantised to 8 bits. `lr` has half the magnification, so it shows twice the
            field along each axis.
        matrix: 2x3, LR pixel (x, y) to HR pixel (x, y), pixel centres at integers: the least-squares fit, over the
            common field, to the true map with its drifts.
    """

    name: str
    lr: np.ndarray
    hr: np.ndarray
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]


def simulate_pair(seed: int, *, shape: tuple[int, int] = (944, 1280)) -> SimulatedPair:
    """One simulated pair, which depends on `seed` and `shape` = (rows, columns) alone.

    The specimen is an aggregate of particles, a porous body of ligaments, or porous beads with particles on them,
    depending on the seed. Raises ValueError for a shape below 32 x 32.
    """
    if min(shape) < 32:
        raise ValueError(f"a simulated image needs at least 32 x 32 pixels, got {shape[0]} x {shape[1]}")
    rng = np.random.default_rng(seed)
    kind = _KINDS[rng.integers(len(_KINDS))]
    surface, material = _scene(kind, shape, rng)
    signal, black = _grey_levels(_emission(surface, material, rng), rng)
    to_scene_hr, to_scene_lr = _geometry(shape, rng)
    drift_hr, drift_lr = (_drift(shape[0], amplitude, rng) for amplitude in (0.2, 0.4))
    # As measured on real pairs, the high-magnification scan has about a tenth of the noise variance of the low one.
    hr = _acquire(signal, black, to_scene_hr, drift_hr, shape, rng, spot=0.65, noise=0.1, jitter=0.08, leak=0.30)
    noise = rng.uniform(0.95, 1.3)
    lr = _acquire(signal, black, to_scene_lr, drift_lr, shape, rng, spot=0.85, noise=noise, jitter=0.15, leak=0.15)
    (a, b, x), (c, d, y) = _true_matrix(to_scene_lr, to_scene_hr, drift_lr, drift_hr, shape).tolist()
    return SimulatedPair(f"{kind}-{seed}", lr, hr, ((a, b, x), (c, d, y)))


def _field(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth Gaussian random field (H, W) float32, mean 0, variance about 1, features of about `scale` px."""
    step = max(1.0, scale / 3)
    coarse = (math.ceil(shape[0] / step) + 8, math.ceil(shape[1] / step) + 8)
    noise = cv2.GaussianBlur(rng.standard_normal(coarse, np.float32), (0, 0), 1.5)
    noise = noise * np.float32(2 * math.sqrt(math.pi) * 1.5)  # the blur left a variance of 1 / (4 pi 1.5^2)
    size = (round(coarse[1] * step), round(coarse[0] * step))
    large = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    top, left = round(4 * step), round(4 * step)
    return large[top : top + shape[0], left : left + shape[1]]


def _stock_grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-_EXTENT, _EXTENT, _STOCK, dtype=np.float32)
    return np.meshgrid(axis, axis)


def _cap(squared: np.ndarray) -> np.ndarray:
    """Height above the equator from its square; below the equator a steep slope, so that outlines interpolate well."""
    return np.where(squared > 0.0, np.sqrt(np.maximum(squared, 0.0)), 4.0 * squared).astype(np.float32)


def _polyhedron(rng: np.random.Generator) -> np.ndarray:
    """Upper surface of a random convex, round-edged, partly faceted body of radius at most 1; (_STOCK, _STOCK)."""
    x, y = _stock_grid()
    axes = rng.uniform(0.72, 1.0, 3)
    height = _cap(1 - (x / axes[0]) ** 2 - (y / axes[1]) ** 2) * np.float32(axes[2])
    for _ in range(rng.integers(4, 26)):
        normal = rng.standard_normal(3)
        normal /= np.linalg.norm(normal)
        distance = rng.uniform(0.68, 0.95) * np.linalg.norm(normal * axes)
        plane = (distance - normal[0] * x - normal[1] * y) / max(abs(normal[2]), 0.12)
        np.minimum(height, plane.astype(np.float32), out=height)
    return cv2.GaussianBlur(height, (0, 0), rng.uniform(0.8, 3.5))


def _tube(rng: np.random.Generator) -> np.ndarray:
    """Upper surface of a bent, round-ended ligament of half-length about 1; (_STOCK, _STOCK)."""
    x, y = _stock_grid()
    t = np.linspace(-1, 1, 64)
    path_x, bend = 0.75 * t, rng.normal(0, 0.35)
    path_y = bend * (t**2 - 0.5) + rng.normal(0, 0.12) * np.sin(4 * t + rng.uniform(0, 2 * math.pi))
    width = rng.uniform(0.16, 0.28) * (1 + 0.2 * np.sin(rng.uniform(3, 7) * t + rng.uniform(0, 2 * math.pi)))
    rise = rng.normal(0, 0.35) * t
    height, outline = np.full_like(x, _BELOW), np.full_like(x, _BELOW)
    for px, py, w, z in zip(path_x, path_y, width, rise, strict=True):
        squared = ((w * w - (x - px) ** 2 - (y - py) ** 2) / w).astype(np.float32)
        np.maximum(outline, squared, out=outline)
        np.maximum(height, _cap(squared) * np.float32(math.sqrt(w)) + np.float32(z), out=height)
    smooth = cv2.GaussianBlur(height, (0, 0), 2.0)  # no ribs from the finite number of points along the path
    return np.maximum(smooth + 25 * np.minimum(outline, 0), np.float32(_BELOW))


def _deposit(
    surface: np.ndarray,
    stock: list[np.ndarray],
    where: np.ndarray,
    cover: float,
    radii: tuple[float, float, float, float],
    sink: float,
    rng: np.random.Generator,
) -> None:
    """Put bodies on `surface` (in place), the largest first, each on top of what lies below it.

    where: (H, W), positive where bodies are put. cover: area of the circumscribed discs of all bodies over the area of
    the field. radii: median, log-normal sigma, least, largest. sink: depth of a body in the surface, in radii. Touching
    surfaces are joined by a fillet (a polynomial smooth maximum), as in sintering.
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


def _network(shape: tuple[int, int], spacing: float, rng: np.random.Generator) -> np.ndarray:
    """A web of round ligaments seen from above: height above their axes, in px, far below 0 in the gaps."""
    web = np.full(shape, _BELOW, np.float32)
    for _ in range(2):  # the zero lines of one field never cross, those of two do
        np.maximum(web, 1 - (_field(shape, spacing, rng) / np.float32(0.4)) ** 2, out=web)
    return _cap(np.maximum(web, _BELOW)) * np.float32(0.25 * spacing)


def _scene(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The specimen over the LR field and a margin: height (px) and relative yield of its material.

    Both (2 H + 2 margin, 2 W + 2 margin) float32.
    """
    size = (2 * shape[0] + 2 * _MARGIN, 2 * shape[1] + 2 * _MARGIN)
    bodies = [_polyhedron(rng) for _ in range(36)]
    cluster = _field(size, 350, rng)
    substrate = 8 * _field(size, 120, rng) + 2 * _field(size, 25, rng)
    surface = substrate.copy()
    if kind == "porous":
        tubes = [_tube(rng) for _ in range(30)]
        for height in (40, 100):
            np.maximum(surface, _network(size, rng.uniform(70, 110), rng) + height, out=surface)
        _deposit(surface, tubes, cluster + 0.9, 5.0, (80, 0.35, 30, 170), 0.1, rng)
        _deposit(surface, bodies, cluster - 0.4, 0.4, (26, 0.5, 8, 80), 0.3, rng)
    else:
        if kind == "mixed":
            _deposit(surface, bodies, cluster + 1.4, 4.0, (105, 0.2, 60, 170), 0.2, rng)
            pores = _field(size, 15, rng) + 0.7 * _field(size, 45, rng) - 1.3
            surface -= 60 * np.clip(3 * pores, 0, 1) * np.clip((surface - substrate) / 40 - 1, 0, 1)
        cover = 4.5 if kind == "aggregate" else 0.25
        _deposit(surface, bodies, cluster + 0.9, cover, (44, 0.5, 14, 130), 0.3, rng)
        _deposit(surface, bodies, cluster + 0.5, 0.15 * cover, (17, 0.5, 6, 60), 0.2, rng)
    material = 1 - 0.2 * (surface < substrate + 1).astype(np.float32)
    for scale, amplitude in ((25, 1.5), (12, 0.9), (5, 0.35), (2, 0.08)):
        surface += np.float32(amplitude) * _field(size, scale, rng)
    return surface, material


def _wide_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, on a reduced grid where sigma allows it."""
    step = max(1, int(sigma / 4))
    if step == 1:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    size = (math.ceil(image.shape[1] / step), math.ceil(image.shape[0] / step))
    small = cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), sigma / step)
    return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _emission(surface: np.ndarray, material: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Secondary electrons collected per unit of beam current; surface, material and result (H, W) float32."""
    smooth = cv2.GaussianBlur(surface, (0, 0), 0.6)
    slope_x, slope_y = (cv2.Scharr(smooth, cv2.CV_32F, dx, 1 - dx, scale=1 / 32) for dx in (1, 0))
    secant = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    collected = material * (1 + 1.4 * (1 - cv2.exp((1 - secant) / 1.5)))
    detector = rng.uniform(0, 2 * math.pi)
    collected *= 1 - 0.1 * (math.cos(detector) * slope_x + math.sin(detector) * slope_y) / secant
    # A point below its surroundings loses electrons; a point above them, above all at an edge, emits more.
    loss = np.zeros_like(surface)
    for sigma, weight, gain, most in ((2.5, 0.5, 0.35, 0.3), (14, 0.5, 0.1, 0.6), (60, 0.6, 0.1, 1.0)):
        loss += np.clip(weight / sigma * (_wide_blur(surface, sigma) - surface), -gain, most)
    collected *= cv2.exp(-loss)
    return 0.85 * collected + 0.15 * _wide_blur(collected, 8)


def _grey_levels(emission: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Brightness and contrast: the signal (H, W) in grey levels of 255 above black, and the black level."""
    sample = emission[::7, ::7]
    signal = np.maximum(emission - np.float32(np.quantile(sample, 0.001)), 0)
    signal *= np.float32(rng.uniform(14, 19.5) / float(sample.std()))
    return signal, max(rng.uniform(66, 80) - float(signal[::7, ::7].mean()), 0.0)


def _geometry(shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Affine maps (2x3) of HR and LR pixels to scene pixels: one centre, with a shift, scale errors and a shear."""
    centre = np.array([shape[1] - 0.5, shape[0] - 0.5]) + _MARGIN
    middle = np.array([shape[1] - 1, shape[0] - 1]) / 2
    scale = 2 * (1 + rng.uniform(-1, 1, 2) * (0.004, 0.01))
    linear_lr = np.array([[scale[0], rng.normal(0, 0.004)], [rng.normal(0, 0.0015), scale[1]]])
    shift = np.clip(rng.normal(0, 7, 2), -18, 18)
    to_scene_hr = np.column_stack([np.eye(2), centre - middle])
    to_scene_lr = np.column_stack([linear_lr, centre + shift - linear_lr @ middle])
    return to_scene_hr, to_scene_lr


def _drift(rows: int, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Slow drift of the stage during one scan: (rows, 2) displacements (x, y), about `amplitude` scene px in size."""
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
    black: float,
    to_scene: np.ndarray,
    drift: np.ndarray,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    spot: float,
    noise: float,
    jitter: float,
    leak: float,
) -> np.ndarray:
    """Scan `signal` (grey levels above `black`): an 8-bit micrograph (H, W) as float32 in [0, 1].

    spot: standard deviation of the beam, scene px. noise: variance per unit of signal, both in grey levels (shot
    noise). jitter: standard deviation of a line's start, scene px. leak: the share of a pixel's signal that each of its
    neighbours on the line gets by the limited bandwidth of the detector, relative to what the pixel keeps.
    """
    column, row = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    (a, b, x0), (c, d, y0) = to_scene.astype(np.float32)
    start = (drift[:, :1] + rng.normal(0, jitter, (shape[0], 1))).astype(np.float32)
    x, y = a * column + b * row + x0 + start, c * column + d * row + y0 + drift[:, 1:].astype(np.float32)
    beam = cv2.GaussianBlur(signal, (0, 0), spot)
    scanned = np.maximum(cv2.remap(beam, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), 0)
    band = np.array([[leak, 1, leak]], np.float32) / np.float32(1 + 2 * leak)
    shot = np.sqrt(np.float32(noise / float((band * band).sum())) * scanned) * rng.standard_normal(shape, np.float32)
    detected = cv2.filter2D(scanned + shot, cv2.CV_32F, band, borderType=cv2.BORDER_REFLECT_101)
    levels = np.rint(black + rng.normal(0, 0.5) + rng.normal(1, 0.012) * detected)
    return (np.clip(levels, 0, 255) / 255).astype(np.float32)
