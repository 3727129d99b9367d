"""Which network restores an image, and what it is told of the noise: decided once, so the same for
every tile, flip, process and precision.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aeanet.imaging.upsampling import middle
from aeanet.inference.tiling import Read
from aeanet.networks.base import Network
from aeanet.networks.registry import load_model
from aeanet.trust.noise import estimate_noise
from aeanet.trust.residual import SMOOTH, noise_is_smooth, of_neighbours

_MIDDLE = 512  # LR px: the largest side of the part that is measured
_TRIED = 256  # LR px: of the part that is restored to see what is taken away


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


def suited(model: Network, read: Read, shape: Sequence[int], magnification: float) -> Network:
    """The network for an image that lies on the grid of the result: that of `model.smooth_file` if
    the noise is smooth across lines, else the model itself.

    Smooth noise and fine structure are correlated alike, so the model first restores the middle of
    the image, at the pixels of LR: what it takes away is noise.
    """
    if model.smooth_file is None:
        return model
    part, _ = middle(shape, shape, math.ceil(_TRIED * magnification))
    image = at_lr_pixels(read(*part), magnification)
    noise = estimate_noise(image)
    if not noise.across > SMOOTH:  # also true of NaN
        return model

    parameter = next(model.parameters())
    before, model.magnification = model.magnification, 1.0
    try:
        with torch.inference_mode():
            restored = model.eval()(torch.from_numpy(image)[None, None].to(parameter))
    finally:
        model.magnification = before
    taken = image - restored[0, 0].float().cpu().numpy()
    across = of_neighbours((taken - taken.mean(1, keepdims=True)).T)
    if not noise_is_smooth(noise, taken, across):
        return model
    return _loaded(model.smooth_file).to(parameter.device)


@lru_cache(maxsize=1)
def _loaded(file: Path) -> Network:
    return load_model(file)


@contextmanager
def telling(model: Network, read: Read, shape: Sequence[int]) -> Iterator[None]:
    """Within it, a network that is told the noise knows that of this image."""
    if not model.told_noise:
        yield
        return
    model.noise = measured_noise(read, shape, model.magnification or 1.0)
    try:
        yield
    finally:
        model.noise = None
