"""How good a result is where nobody knows the truth: the noise left, what was taken away, and the
resolution by two scans.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.arithmetic import correlation, straight_line
from aeanet.imaging.given import as_array
from aeanet.scoring.ring_correlation import correlate_lines, correlate_rings
from aeanet.trust.noise import block_means, estimate_noise
from aeanet.trust.residual import LEAST_NOISE, residual
from aeanet.trust.statistics import SMALLEST


@dataclass(frozen=True)
class NoReferenceScore:
    """What an image and its result say by themselves.

    Attributes:
        noise: standard deviation of the noise of the image, in the units of its intensities.
        noise_left: that of the result, on the grid of the image.
        taken: standard deviation of what was taken away, over that of the noise: about 1 where it
            was the noise, above 1 where it was more.
        structure: correlation, over blocks, of the variance of what was taken away with the
            structure of the result: about 0 where it was noise alone.
        resolution: period in px of the image at which two scans, or the even and the odd lines of
            one, no longer show the same (`ring_correlation`); NaN where they never do.
        resolution_left: that of two results; None where there is one only.
        likeness: correlation of the means of image and result over blocks of 8 x 8 px: near 1
            unless the result is of another field or inverted, or the image has next to no
            structure.
    """

    noise: float
    noise_left: float
    taken: float
    structure: float
    resolution: float
    resolution_left: float | None
    likeness: float


def score_without_reference(
    image: NDArray,
    result: NDArray,
    *,
    second: NDArray | None = None,
    second_result: NDArray | None = None,
) -> NoReferenceScore:
    """Score a result by what can be measured without the truth.

    The lines of one result do not have independent noise, since each of its pixels was made from
    many of the image. So its resolution is measured where a second scan of the field was restored
    by itself.

    Args:
        image: (H, W) in [0, 1], as recorded.
        result: the same field on the same or a finer grid. Another brightness and contrast is
            brought to that of the image by a straight line.
        second: another scan of the field, (H, W); drift between the two does not count.
        second_result: its result, of the shape of `result`.

    Returns:
        The score.

    Raises:
        ValueError: an image is no grey image, has pixels that are not finite, or is smaller than
            128 px a side; the shapes do not fit; only one of `second` and `second_result` is given;
            `second` is the image itself.
    """
    # two scans need two results; on a coarser grid than the image's nothing can be told
    if (second is None) != (second_result is None):
        raise ValueError("second and second_result belong together: one of them is missing.")
    image = _checked("image", image)
    result = _checked("result", result)
    if any(fine < coarse for fine, coarse in zip(result.shape, image.shape, strict=True)):
        raise ValueError(
            f"the result is {result.shape}, smaller than the image, which is {image.shape}."
        )

    # brightness and contrast of the result do not count: a straight line undoes their change
    same = cv2.resize(result, image.shape[::-1], interpolation=cv2.INTER_AREA)
    likeness = correlation(block_means(image), block_means(same))
    gain, offset = straight_line(same.ravel(), image.ravel())
    same, fine = (np.float32(offset) + np.float32(gain) * values for values in (same, result))
    noise = estimate_noise(image)
    taken = residual(image, fine, noise)

    # One scan is measured by its own lines, two by each other; all periods are in px of the image.
    if second is None or second_result is None:
        before, after = correlate_lines(image).resolution, None
    else:
        second, second_result = _checked("second", second), _checked("second_result", second_result)
        if np.array_equal(second, image):
            raise ValueError("the second scan is the image itself; it must have noise of its own.")
        before = correlate_rings(image, second).resolution
        px = image.shape[0] / result.shape[0]
        after = px * correlate_rings(result, second_result).resolution
    return NoReferenceScore(
        noise.sd,
        estimate_noise(same).sd,
        float(taken.image.std()) / max(noise.sd, LEAST_NOISE),
        taken.numbers["structure"],
        before,
        after,
        likeness,
    )


def _checked(name: str, given: NDArray) -> NDArray[np.float32]:
    values = np.asarray(as_array(given, name), np.float32)
    if values.ndim != 2 or min(values.shape) < 2 * SMALLEST:
        raise ValueError(
            f"{name} is of shape {values.shape}, wanted (H, W) of at least {2 * SMALLEST} px a "
            "side."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has pixels that are not finite numbers.")
    return np.ascontiguousarray(values)
