"""Denoisers without training: (H, W) float32 and a strength in, (H, W) out. All but BM3D come with
the project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

Place = Literal["LR", "interpolated"]
PLACES: tuple[Place, Place] = ("LR", "interpolated")


@dataclass(frozen=True)
class Method:
    """A denoiser and the strengths that are tried.

    Attributes:
        title: as in the table.
        strengths: for each place where it may be applied: to LR before the interpolation, or to the
            interpolated image. A list from weak to strong in steps of about a fifth.
        costly: it takes about a minute an image, so whole images are restored with few strengths.
    """

    title: str
    run: Callable[[NDArray[np.float32], float], NDArray]
    strengths: dict[Place, tuple[float, ...]]
    costly: bool = False


def _gaussian(image: NDArray[np.float32], sigma: float) -> NDArray:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def _total_variation(image: NDArray[np.float32], weight: float) -> NDArray:
    return denoise_tv_chambolle(image, weight)


def _nonlocal_means(image: NDArray[np.float32], sigma: float) -> NDArray:
    return denoise_nl_means(image, 5, 8, 0.8 * sigma, fast_mode=True, sigma=sigma)


def _bm3d(image: NDArray[np.float32], sigma: float) -> NDArray:
    from bm3d import bm3d  # for non-commercial use only, so it is installed by those who ask for it

    return bm3d(image, sigma)


METHODS = {
    "gaussian": Method(
        "Gaussian",
        _gaussian,
        {"LR": (0.5, 0.6, 0.7, 0.85, 1.0), "interpolated": (0.8, 1.0, 1.2, 1.4, 1.7, 2.0)},
    ),
    "tv": Method(
        "total variation",
        _total_variation,
        {
            "LR": (0.02, 0.025, 0.03, 0.036, 0.043, 0.052),
            "interpolated": (0.021, 0.025, 0.03, 0.036, 0.043, 0.052, 0.062),
        },
    ),
    "nlm": Method(
        "non-local means",
        _nonlocal_means,
        {
            "LR": (0.012, 0.015, 0.018, 0.021, 0.025, 0.03),
            "interpolated": (0.021, 0.025, 0.03, 0.036, 0.043, 0.052),
        },
    ),
    "bm3d": Method(
        "BM3D",
        _bm3d,
        {
            "LR": (0.018, 0.022, 0.027, 0.033, 0.04),
            "interpolated": (0.045, 0.055, 0.066, 0.08, 0.096),
        },
        costly=True,
    ),
}
