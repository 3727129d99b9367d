"""PSNR and SSIM over the pixels of a mask.

SciPy and scikit-image are imported where they are needed: registration needs the PSNR alone.
"""

import math

import numpy as np
from numpy.typing import NDArray

SSIM_WINDOW = 7


def psnr(image: NDArray, truth: NDArray, mask: NDArray) -> float:
    """Peak signal-to-noise ratio in dB, peak 1, over the pixels in `mask` ((H, W) each); infinite
    for equal images.
    """
    error = np.mean(np.square(image[mask].astype(np.float64) - truth[mask]))
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: NDArray, truth: NDArray, mask: NDArray) -> float:
    """Structural similarity (7 x 7 uniform window, data range 1), mean over the windows that lie
    wholly in `mask`.

    If every pixel is in the mask, this is the default of scikit-image.
    """
    return float(ssim_map(image, truth)[whole_windows(mask)].mean())


def ssim_map(image: NDArray, truth: NDArray) -> NDArray[np.float64]:
    """The SSIM of the window around each pixel, (H, W)."""
    from skimage.metrics import structural_similarity

    images = image.astype(np.float64), truth.astype(np.float64)
    return structural_similarity(*images, win_size=SSIM_WINDOW, data_range=1, full=True)[1]


def whole_windows(mask: NDArray) -> NDArray:
    """True at the centre of each SSIM window that lies wholly in the image and in the mask."""
    from scipy.ndimage import binary_erosion

    return binary_erosion(mask, np.ones((SSIM_WINDOW, SSIM_WINDOW), bool), border_value=0)
