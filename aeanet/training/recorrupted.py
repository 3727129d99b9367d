"""A single noisy image as pairs to learn from: with more noise, and with the same noise taken off
(`data.recorruption`).
"""

import math

import numpy as np
from numpy.typing import NDArray

from aeanet.data.frames import FrameError
from aeanet.data.frames.pairs import pair_of
from aeanet.data.recorruption import draw_noise, recorrupt
from aeanet.data.registration import RegisteredPair
from aeanet.imaging.exposure import Exposure
from aeanet.imaging.upsampling import middle
from aeanet.inference.prediction import super_resolve_enlarged
from aeanet.networks.base import Network
from aeanet.trust.noise import estimate_noise
from aeanet.trust.residual import residual, smoothness

_LARGEST = 1024  # px: side of the middle of an image, which is used


def pairs_of_image(
    name: str, image: NDArray, model: Network, copies: int, random: np.random.Generator
) -> list[RegisteredPair]:
    """Copies of a noisy image with more noise, each beside the image with that noise taken off.

    The noise that is drawn has the strength of the image's at each brightness, and its correlation
    along the lines and, if it is smooth, across them.

    Args:
        name: of the image.
        image: (H, W), in the range that it uses, as the network is shown it.
        model: a shipped one, which tells the brightness without noise.
        copies: how many pairs.
        random: draws the noise.

    Raises:
        FrameError: the noise of the image cannot be told.
    """
    # the middle of a large image has enough to measure and to learn from
    part, _ = middle(image.shape, image.shape, _LARGEST)
    image = np.asarray(image[part], np.float32)
    noise = estimate_noise(image)
    if not math.isfinite(noise.sd):
        raise FrameError("its noise cannot be told: it has fewer than 24 px a side.")

    # the noise depends on the brightness, which only an image without noise tells
    clean = super_resolve_enlarged(model, image, Exposure(), 1.0, "replace", flips=1)
    across = smoothness(noise, residual(image, clean, noise).across)
    sd = np.sqrt(noise.variance(clean)).astype(np.float32)

    # noise is drawn anew for each copy, so no two have the same errors
    pairs, everywhere = [], np.ones(image.shape, bool)
    for number in range(1, copies + 1):
        noisier, target = recorrupt(image, draw_noise(sd, noise.along, across, random))
        pairs.append(pair_of(f"{name}, copy {number}", noisier, target, everywhere))
    return pairs
