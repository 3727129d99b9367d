"""Simulated pairs of scanning electron micrographs, for the demonstration and for tests.

A specimen is a height map (`bodies`), from which the yield of secondary electrons follows
(`emission`). It is scanned twice at two magnifications (`_acquire`), with different spots, noises
and drifts. Lengths are in HR pixels unless said otherwise, so a larger image shows more of the
specimen, not a larger specimen.

`scan.Scan` cannot make these scans: it needs straight lines of pixels, and here the axes are
sheared against each other.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from aeanet.data.synthetic.acquisition import Acquisition
from aeanet.data.synthetic.bodies import bodies
from aeanet.data.synthetic.emission import emission

_MARGIN = 48  # HR px of specimen around the nominal LR field, for shift, scale error and drift
_KINDS = ("aggregate", "porous", "mixed")


@dataclass(frozen=True)
class SimulatedPair:
    """One specimen at two magnifications.

    Attributes:
        name: the kind of specimen and the seed.
        lr, hr: (H, W) float32 in [0, 1], quantised to 8 bits. `lr` has half the magnification, so
            it shows twice the field along each axis.
        matrix: 2x3, LR pixel (x, y) to HR pixel (x, y), pixel centres at integers: the
            least-squares fit, over the common field, to the true map with its drifts.
    """

    name: str
    lr: np.ndarray
    hr: np.ndarray
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]


def simulate_pair(seed: int, *, shape: tuple[int, int] = (944, 1280)) -> SimulatedPair:
    """One simulated pair, which depends on `seed` and `shape` = (rows, columns) alone.

    The specimen is an aggregate of particles, a porous body of ligaments, or porous beads with
    particles on them, depending on the seed.

    Raises:
        ValueError: the shape is below 32 x 32.
    """
    if min(shape) < 32:
        raise ValueError(
            f"a simulated image needs at least 32 x 32 pixels, got {shape[0]} x {shape[1]}"
        )

    # one specimen for both: as large as LR's field, which is twice HR's along each axis
    rng = np.random.default_rng(seed)
    kind = _KINDS[rng.integers(len(_KINDS))]
    size = (2 * shape[0] + 2 * _MARGIN, 2 * shape[1] + 2 * _MARGIN)
    surface, material = bodies(kind, size, rng)
    signal, black = _grey_levels(emission(surface, material, rng), rng)

    # where each scan has its pixels, and how it drifts, by itself
    to_scene_hr, to_scene_lr = _geometry(shape, rng)
    drift_hr, drift_lr = (_drift(shape[0], amplitude, rng) for amplitude in (0.2, 0.4))

    # As measured on real pairs, the high-magnification scan has about a tenth of the noise variance
    # of the low one.
    settings = Acquisition(magnification=1, spot=0.65, shot=0.1, jitter=0.08, band=0.30)
    hr = _acquire(signal, black, to_scene_hr, drift_hr, shape, settings, rng)
    shot = rng.uniform(0.95, 1.3)
    settings = Acquisition(magnification=2, spot=0.425, shot=shot, jitter=0.075, band=0.15)
    lr = _acquire(signal, black, to_scene_lr, drift_lr, shape, settings, rng)

    # the truth with which a registration is compared
    (a, b, x), (c, d, y) = _true_matrix(
        to_scene_lr, to_scene_hr, drift_lr, drift_hr, shape
    ).tolist()
    return SimulatedPair(f"{kind}-{seed}", lr, hr, ((a, b, x), (c, d, y)))


def _grey_levels(emission: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Brightness and contrast: the signal (H, W) in grey levels of 255 above black, and the black
    level.
    """
    sample = emission[::7, ::7]
    signal = np.maximum(emission - np.float32(np.quantile(sample, 0.001)), 0)
    signal *= np.float32(rng.uniform(14, 19.5) / float(sample.std()))
    return signal, max(rng.uniform(66, 80) - float(signal[::7, ::7].mean()), 0.0)


def _geometry(shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Affine maps (2x3) of HR and LR pixels to scene pixels: one centre, with a shift, scale errors
    and a shear.
    """
    centre = np.array([shape[1] - 0.5, shape[0] - 0.5]) + _MARGIN
    middle = np.array([shape[1] - 1, shape[0] - 1]) / 2
    scale = 2 * (1 + rng.uniform(-1, 1, 2) * (0.004, 0.01))
    linear_lr = np.array([[scale[0], rng.normal(0, 0.004)], [rng.normal(0, 0.0015), scale[1]]])
    shift = np.clip(rng.normal(0, 7, 2), -18, 18)
    to_scene_hr = np.column_stack([np.eye(2), centre - middle])
    to_scene_lr = np.column_stack([linear_lr, centre + shift - linear_lr @ middle])
    return to_scene_hr, to_scene_lr


def _drift(rows: int, amplitude: float, rng: np.random.Generator) -> np.ndarray:
    """Slow drift of the stage during one scan: (rows, 2) displacements (x, y), about `amplitude`
    scene px in size.
    """
    time = np.linspace(0, 1, rows)[:, None]
    return amplitude * (
        rng.normal(0, 1, 2) * (time - 0.5)
        + rng.normal(0, 0.7, 2) * np.sin(2 * np.pi * (time + rng.uniform(0, 1, 2)))
    )


def _true_matrix(
    to_scene_lr: np.ndarray,
    to_scene_hr: np.ndarray,
    drift_lr: np.ndarray,
    drift_hr: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """Least-squares affine (2x3) of the LR -> HR map, drifts included, over the common field."""
    grid = np.meshgrid(np.linspace(0, shape[1] - 1, 33), np.arange(shape[0]))
    points = np.column_stack([grid[0].ravel(), grid[1].ravel(), np.ones(grid[0].size)])
    scene = points @ to_scene_lr.T + drift_lr[points[:, 1].astype(int)]
    row = scene[:, 1] - to_scene_hr[1, 2]
    inside = (row >= 0) & (row <= shape[0] - 1)
    drift = np.column_stack([np.interp(row, np.arange(shape[0]), d) for d in drift_hr.T])
    true = scene - to_scene_hr[:, 2] - drift
    return np.linalg.lstsq(points[inside], true[inside], rcond=None)[0].T


def _acquire(
    signal: np.ndarray,
    black: float,
    to_scene: np.ndarray,
    drift: np.ndarray,
    shape: tuple[int, int],
    settings: Acquisition,
    rng: np.random.Generator,
) -> np.ndarray:
    """Scan `signal` (grey levels above `black`): an 8-bit micrograph (H, W) as float32 in [0, 1].

    Of the settings count spot, jitter, shot noise and band.
    """
    # The place of each pixel in the scene. Each line starts a little off.
    column, row = np.meshgrid(
        np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32)
    )
    (a, b, x0), (c, d, y0) = to_scene.astype(np.float32)
    jitter = rng.normal(0, settings.jitter * settings.magnification, (shape[0], 1))
    x = a * column + b * row + x0 + (drift[:, :1] + jitter).astype(np.float32)
    y = c * column + d * row + y0 + drift[:, 1:].astype(np.float32)
    beam = cv2.GaussianBlur(signal, (0, 0), settings.spot_axes()[0])
    scanned = np.maximum(cv2.remap(beam, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), 0)

    # White noise is drawn stronger by what the band of the detector takes of it.
    band = settings.band_kernel[None]
    variance = np.float32(settings.shot / float((band * band).sum())) * scanned
    noisy = scanned + np.sqrt(variance) * rng.standard_normal(shape, np.float32)
    detected = cv2.filter2D(noisy, cv2.CV_32F, band, borderType=cv2.BORDER_REFLECT_101)
    levels = np.rint(black + rng.normal(0, 0.5) + rng.normal(1, 0.012) * detected)
    return (np.clip(levels, 0, 255) / 255).astype(np.float32)
