"""Small registered pairs made without registration: for tests of what comes after it."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from aeanet.registration import RegisteredPair, RegistrationReport


def report(magnification: float = 2.0) -> RegistrationReport:
    return RegistrationReport(
        matches=50,
        inliers=40,
        magnification=magnification,
        residual=0.2,
        psnr_before=20.0,
        psnr_after=25.0,
        valid_fraction=1.0,
        matrix=((magnification, 0.0, 0.0), (0.0, magnification, 0.0)),
    )


def toy_pair(seed: int = 0, shape: tuple[int, int] = (48, 64), *, magnification: float = 2.0) -> RegisteredPair:
    """Smooth blobs as HR; as LR the same, blurred and with noise."""
    random = np.random.default_rng(seed)
    blobs = gaussian_filter(random.standard_normal(shape), 1.5)
    hr = np.clip(0.5 + 0.2 * blobs / blobs.std(), 0, 1)
    lr = np.clip(gaussian_filter(hr, 1) + 0.08 * random.standard_normal(shape), 0, 1)
    everywhere: NDArray[np.bool_] = np.ones(shape, dtype=bool)
    return RegisteredPair(
        f"toy-{seed}", lr.astype(np.float32), hr.astype(np.float32), everywhere, report(magnification)
    )
