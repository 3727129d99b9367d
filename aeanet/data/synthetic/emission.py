"""The signal that a detector collects per unit of beam current, from the height and the material of
a specimen.

The yield of secondary electrons follows Reimer, Scanning Electron Microscopy, 2nd ed., 1998. It
grows like 1 / cos of the tilt, up to a limit at edges. Electrons are lost in crevices. A detector
at the side collects more from slopes that face it. Backscattered electrons release a diffuse second
signal around the point of impact.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from aeanet.data.synthetic.shapes import log_uniform


@dataclass(frozen=True)
class Contrast:
    """What a detector is sensitive to.

    Attributes:
        edge: gain at the steepest slopes, relative to flat ground, 0 to 3.
        limit: how fast that gain is reached, in units of 1 / cos of the tilt.
        facing: share by which slopes that face the detector are brighter, 0 to 1.
        losses: (sigma in px, weight, largest gain, largest loss) of the crevices and summits of
            each size.
        smooth: sigma in px of the smallest relief that is seen.
        diffuse: share of the signal that comes from around the point of impact, 0 to 1.
        reach: its sigma in px.
    """

    edge: float = 1.4
    limit: float = 1.5
    facing: float = 0.1
    losses: tuple[tuple[float, float, float, float], ...] = (
        (2.5, 0.5, 0.35, 0.3),
        (14, 0.5, 0.1, 0.6),
        (60, 0.6, 0.1, 1.0),
    )
    smooth: float = 0.6
    diffuse: float = 0.15
    reach: float = 8.0


SECONDARY = Contrast()


def draw_contrast(rng: np.random.Generator) -> Contrast:
    """A detector: of secondary electrons, at the side (half of the draws) or in the lens, or of
    backscattered ones.
    """
    mode, smooth = rng.choice(3, p=(0.5, 0.3, 0.2)), rng.uniform(0.25, 0.6)

    # one factor widens the crevices of all sizes, another one darkens them
    if mode == 0:  # at the side
        crevice, diffuse = rng.uniform(0.5, 2.0), rng.uniform(0, 0.3)
        width = log_uniform(rng, 1, 3)
        return Contrast(
            edge=log_uniform(rng, 0.3, 2.2),
            limit=rng.uniform(0.7, 2),
            facing=rng.uniform(0.05, 0.35),
            losses=tuple((s * width, w * crevice, g, m) for s, w, g, m in SECONDARY.losses),
            smooth=smooth,
            diffuse=diffuse,
        )

    if mode == 1:  # in the lens
        fine = (rng.uniform(1.2, 2.5), rng.uniform(0.3, 0.8), 0.5, 0.4)
        return Contrast(
            edge=rng.uniform(1, 3),
            limit=rng.uniform(0.5, 1.5),
            facing=0.02,
            losses=(fine, (10, 0.3, 0.1, 0.4)),
            smooth=smooth,
            diffuse=0.05,
        )

    # Backscattered electrons.
    wide = (rng.uniform(15, 60), 0.2, 0.1, 0.5)
    diffuse, reach = rng.uniform(0.1, 0.5), rng.uniform(1, 3)
    return Contrast(
        edge=rng.uniform(0, 0.3),
        limit=2.0,
        facing=rng.uniform(0.2, 0.8),
        losses=(wide,),
        smooth=smooth,
        diffuse=diffuse,
        reach=reach,
    )


def wide_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, on a reduced grid where sigma allows it."""
    step = max(1, int(sigma / 4))
    if step == 1:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    size = (math.ceil(image.shape[1] / step), math.ceil(image.shape[0] / step))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)


def emission(
    surface: np.ndarray,
    material: np.ndarray,
    rng: np.random.Generator,
    contrast: Contrast = SECONDARY,
) -> np.ndarray:
    """Electrons collected per unit of beam current, for a detector that looks from a random side.

    Args:
        surface: height in px, (H, W) float32.
        material: yield of flat ground, relative to others, (H, W) float32.
        rng: for the side.
        contrast: of the detector.

    Returns:
        (H, W) float32.
    """
    # the tilt: 1 / cos of it is the secant, and the gain tends to 1 + `edge`
    smooth = cv2.GaussianBlur(surface, (0, 0), contrast.smooth)
    slope_x, slope_y = (cv2.Scharr(smooth, cv2.CV_32F, dx, 1 - dx, scale=1 / 32) for dx in (1, 0))
    secant = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    collected = material * (1 + contrast.edge * (1 - cv2.exp((1 - secant) / contrast.limit)))

    # a slope that falls towards the detector faces it, and is brighter
    angle = rng.uniform(0, 2 * math.pi)
    toward = math.cos(angle) * slope_x + math.sin(angle) * slope_y
    collected *= 1 - contrast.facing * toward / secant

    # A point below its surroundings loses electrons; a point above them, above all at an edge,
    # emits more.
    loss = np.zeros_like(surface)
    for sigma, weight, gain, most in contrast.losses:
        loss += np.clip(weight / sigma * (wide_blur(surface, sigma) - surface), -gain, most)
    collected *= cv2.exp(-loss)

    # the diffuse second signal comes from around the point of impact
    around = wide_blur(collected, contrast.reach)
    return (1 - contrast.diffuse) * collected + contrast.diffuse * around
