"""What a network is told of the noise of an image: measured once, so the same for every tile, flip,
process and precision.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aeanet.imaging.upsampling import middle
from aeanet.inference.tiling import Read
from aeanet.networks.base import Network
from aeanet.trust.noise import estimate_noise

_MIDDLE = 512  # LR px: the largest side of the part that is measured


def measured_noise(read: Read, shape: Sequence[int], magnification: float) -> Tensor:
    """The noise of an image that lies on the grid of the result, at the pixels of LR.

    Of a large image it is that of the middle.

    Args:
        read: gives any region of the image, in the units of the network.
        shape: (H, W) of the image.
        magnification: its pixels per LR pixel.

    Returns:
        The numbers of `Network.noise`, (1, 4) float32; NaN for an image of less than 24 LR px a
        side.
    """
    side = math.ceil(_MIDDLE * magnification)
    part, _ = middle(shape, shape, side)
    noise = estimate_noise(at_lr_pixels(read(*part), magnification))
    return torch.tensor([[noise.sd, noise.coarse, noise.along, noise.across]])


def at_lr_pixels(enlarged: NDArray, magnification: float) -> NDArray[np.float32]:
    """An enlarged image at the centres of the LR pixels, interpolated linearly between its own."""
    enlarged = np.ascontiguousarray(enlarged, np.float32)
    if magnification == 1:
        return enlarged
    height, width = (max(1, round(length / magnification)) for length in enlarged.shape)
    smaller = cv2.resize(enlarged, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(smaller, np.float32)


@contextmanager
def telling(model: Network, read: Read, shape: Sequence[int]) -> Iterator[None]:
    """Within it, a network that is told the noise knows that of this image."""
    if model.told_noise:
        model.noise = measured_noise(read, shape, model.magnification or 1.0)
    try:
        yield
    finally:
        model.noise = None
