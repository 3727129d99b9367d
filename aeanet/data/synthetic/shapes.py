"""Building blocks of specimens as height maps: random fields, stock bodies, and how bodies are put
on a surface.
"""

import math

import cv2
import numpy as np

_STOCK = 192  # px: side of a stock shape
_EXTENT = 1.1  # a stock shape is drawn over [-1.1, 1.1] of its circumscribed radius
BELOW = -9.0  # height of a stock shape where there is nothing

Specimen = tuple[np.ndarray, np.ndarray]
"""Height in px and relative yield of the material, (H, W) float32 each."""


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform between those of `low` and `high`."""
    return float(low * (high / low) ** rng.uniform())


def halve(fine: np.ndarray) -> np.ndarray:
    """Mean over squares of 2 x 2 px, which makes edges smooth; (2 H, 2 W) to (H, W)."""
    size = (fine.shape[1] // 2, fine.shape[0] // 2)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA))


def field(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth Gaussian random field (H, W) float32, mean 0, variance about 1, features of about
    `scale` px.
    """
    step = max(1.0, scale / 3)
    coarse = (math.ceil(shape[0] / step) + 8, math.ceil(shape[1] / step) + 8)
    noise = cv2.GaussianBlur(rng.standard_normal(coarse, np.float32), (0, 0), 1.5)
    noise = noise * np.float32(2 * math.sqrt(math.pi) * 1.5)  # the blur left 1 / (4 pi 1.5^2)
    size = (round(coarse[1] * step), round(coarse[0] * step))
    large = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    first = round(4 * step)
    return large[first : first + shape[0], first : first + shape[1]]


def _stock_grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-_EXTENT, _EXTENT, _STOCK, dtype=np.float32)
    return np.meshgrid(axis, axis)


def cap(squared: np.ndarray) -> np.ndarray:
    """Height above the equator from its square; below the equator a steep slope, so that outlines
    interpolate well.
    """
    height = np.where(squared > 0.0, np.sqrt(np.maximum(squared, 0.0)), 4.0 * squared)
    return height.astype(np.float32)


def polyhedron(rng: np.random.Generator) -> np.ndarray:
    """Upper surface of a random convex, round-edged, partly faceted body of radius at most 1;
    (_STOCK, _STOCK).
    """
    x, y = _stock_grid()
    axes = rng.uniform(0.72, 1.0, 3)
    height = cap(1 - (x / axes[0]) ** 2 - (y / axes[1]) ** 2) * np.float32(axes[2])
    for _ in range(rng.integers(4, 26)):
        normal = rng.standard_normal(3)
        normal /= np.linalg.norm(normal)
        distance = rng.uniform(0.68, 0.95) * np.linalg.norm(normal * axes)
        plane = (distance - normal[0] * x - normal[1] * y) / max(abs(normal[2]), 0.12)
        np.minimum(height, plane.astype(np.float32), out=height)
    return cv2.GaussianBlur(height, (0, 0), rng.uniform(0.8, 3.5))


def tube(rng: np.random.Generator) -> np.ndarray:
    """Upper surface of a bent, round-ended ligament of half-length about 1; (_STOCK, _STOCK)."""
    # the axis, a curve with bends, along which the thickness and the height change
    x, y = _stock_grid()
    t = np.linspace(-1, 1, 64)  # along the axis
    path_x, bend = 0.75 * t, rng.normal(0, 0.35)
    path_y = bend * (t**2 - 0.5) + rng.normal(0, 0.12) * np.sin(4 * t + rng.uniform(0, 2 * math.pi))
    thickness = rng.uniform(0.16, 0.28)
    width = thickness * (1 + 0.2 * np.sin(rng.uniform(3, 7) * t + rng.uniform(0, 2 * math.pi)))
    rise = rng.normal(0, 0.35) * t

    # The union of spheres along it, and a steep slope outside.
    height, outline = np.full_like(x, BELOW), np.full_like(x, BELOW)
    for px, py, w, z in zip(path_x, path_y, width, rise, strict=True):
        squared = ((w * w - (x - px) ** 2 - (y - py) ** 2) / w).astype(np.float32)
        np.maximum(outline, squared, out=outline)
        np.maximum(height, cap(squared) * np.float32(math.sqrt(w)) + np.float32(z), out=height)
    smooth = cv2.GaussianBlur(height, (0, 0), 2.0)  # without ribs from the number of spheres
    return np.maximum(smooth + 25 * np.minimum(outline, 0), np.float32(BELOW))


def sphere(rng: np.random.Generator) -> np.ndarray:
    """Upper half of a sphere of radius 0.95; (_STOCK, _STOCK)."""
    x, y = _stock_grid()
    return cap(np.float32(0.9) - x * x - y * y)


def crystal(rng: np.random.Generator) -> np.ndarray:
    """Upper surface of a box or a platelet in a random position, with slightly worn edges; (_STOCK,
    _STOCK).
    """
    # half the edges of the box, whose corners have a distance of 0.95 from its centre
    x, y = _stock_grid()
    half = rng.uniform(0.85, 1, 3)  # of the edges
    half *= (1, rng.uniform(0.6, 1), rng.choice([0.15, rng.uniform(0.3, 1)]))
    half *= 0.95 / np.linalg.norm(half)

    # each pair of faces bounds it, from above and from below
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    height, floor = np.full_like(x, 1.0), np.full_like(x, -1.0)
    for normal, distance in zip(axes, half, strict=True):
        upward = normal if normal[2] > 0 else -normal
        steep = max(upward[2], 0.05)
        top = (distance - upward[0] * x - upward[1] * y) / steep
        np.minimum(height, top.astype(np.float32), out=height)
        np.maximum(floor, (-distance - upward[0] * x - upward[1] * y) / steep, out=floor)

    # Where the lower faces lie above the upper ones, the line of sight misses the body.
    outside = np.maximum(floor - height, 0)
    height = np.maximum(height - 4 * outside, np.float32(BELOW))
    return cv2.GaussianBlur(height, (0, 0), rng.uniform(0.6, 2.5))


def rod(rng: np.random.Generator) -> np.ndarray:
    """Upper surface of a straight, round-ended rod of half-length 1; (_STOCK, _STOCK)."""
    x, y = _stock_grid()
    width = np.float32(rng.uniform(0.08, 0.3))
    beyond = np.maximum(np.abs(x) - (np.float32(1) - width), 0)
    squared = (width * width - y * y - beyond * beyond) / width
    return cap(squared) * np.sqrt(width)


def deposit(
    surface: np.ndarray,
    stock: list[np.ndarray],
    where: np.ndarray,
    cover: float,
    radii: tuple[float, float, float, float],
    sink: float,
    rng: np.random.Generator,
    fillet: float = 0.12,
) -> None:
    """Put bodies on `surface` (in place), the largest first, each on top of what lies below it.

    Args:
        surface: (H, W), height in px.
        stock: upper surfaces of the bodies, drawn from evenly.
        where: (H, W), positive where bodies are put.
        cover: area of the circumscribed discs of all bodies over the area of the field.
        radii: median, log-normal sigma, least, largest.
        sink: depth of a body in the surface, in radii.
        rng: for all that is random.
        fillet: radius, in radii of the body, of the joint between touching surfaces (a polynomial
            smooth maximum), as in sintering.
    """
    # as many as give the cover by their mean area, that of log-normal radii
    median, sigma, least, largest = radii
    rows, columns = surface.shape
    mean_area = math.pi * median**2 * math.exp(2 * sigma**2)
    count = math.ceil(cover * rows * columns / mean_area)

    # the largest first: small ones come to lie on large ones
    radius = np.clip(median * np.exp(sigma * rng.standard_normal(count)), least, largest)
    radius = np.sort(radius)[::-1]
    centre = rng.uniform(0, 1, (count, 2)) * (rows, columns)
    which, angle = rng.integers(len(stock), size=count), rng.uniform(0, 2 * math.pi, count)
    depth = rng.normal(sink, 0.25, count)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    for r, (cy, cx), shape, turn, sunk in zip(radius, centre, which, angle, depth, strict=True):
        row, column = int(cy), int(cx)
        if where[row, column] <= 0:
            continue

        # The body in its window of the surface, turned and scaled.
        reach = math.ceil(_EXTENT * r)
        top, bottom = max(row - reach, 0), min(row + reach + 1, rows)
        left, right = max(column - reach, 0), min(column + reach + 1, columns)
        scale, half = _STOCK / (2 * _EXTENT * r), (_STOCK - 1) / 2
        c, s = scale * math.cos(turn), scale * math.sin(turn)
        dx, dy = left - cx, top - cy
        to_stock = np.array([[c, s, half + c * dx + s * dy], [-s, c, half - s * dx + c * dy]])
        size = (right - left, bottom - top)
        body = cv2.warpAffine(stock[shape], to_stock, size, flags=flags, borderValue=BELOW)
        body *= r
        body += surface[row, column] - sunk * r

        # smooth maximum: where the two differ by less than `reach`, the joint fills the corner
        patch = surface[top:bottom, left:right]
        reach = fillet * r
        joint = np.maximum(reach - cv2.absdiff(patch, body), 0.0)
        np.maximum(patch, body, out=patch)
        patch += joint * joint / (4 * reach)


def network(shape: tuple[int, int], spacing: float, rng: np.random.Generator) -> np.ndarray:
    """A web of round ligaments seen from above: height above their axes, in px, far below 0 in the
    gaps.
    """
    web = np.full(shape, BELOW, np.float32)
    for _ in range(2):  # the zero lines of one field never cross, those of two do
        np.maximum(web, 1 - (field(shape, spacing, rng) / np.float32(0.4)) ** 2, out=web)
    return cap(np.maximum(web, BELOW)) * np.float32(0.25 * spacing)
