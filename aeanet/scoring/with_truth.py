"""How good a result is by an image of the same field at a higher magnification."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aeanet.data.alignment import Image, blur, covered, warp
from aeanet.data.registration import register_pair
from aeanet.errors import UserError
from aeanet.imaging.arithmetic import straight_line
from aeanet.imaging.given import as_array
from aeanet.scoring.evaluation import Score, score_region

_COARSE = 6.0  # px of the truth


class TruthError(UserError):
    """Images that cannot be compared with the truth."""


def score_with_truth(image: NDArray, result: NDArray, truth: NDArray) -> Score:
    """PSNR and SSIM of a result, and of bicubic interpolation of its image, against the truth.

    The image is registered onto the truth (`data.registration`), which need not be aligned, and the
    result lies where its image lies. Where both have data they are compared, in the brightness and
    the contrast of the truth, to which a straight line brings each.

    Args:
        image: (H, W) in [0, 1], as recorded.
        result: the same field on the same or a finer grid.
        truth: (H, W) in [0, 1], the field or a part of it, at a higher magnification or with less
            noise.

    Returns:
        The score, as `evaluate` gives it for a region. Intensities are clipped to [0, 1].

    Raises:
        RegistrationError: the image cannot be registered onto the truth.
        TruthError: the result is no finite grey image, or hardly any of it lies on the truth.
    """
    result = np.ascontiguousarray(as_array(result, "result"), np.float32)
    if result.ndim != 2 or not np.isfinite(result).all():
        values = "" if np.isfinite(result).all() else ", with values that are not finite"
        raise TruthError(
            f"The result is no finite grey image (H, W): it has shape {result.shape}{values}."
        )
    pair = register_pair(image, truth)

    # Result px -> image px -> px of the truth. Both grids cover one field, edge to edge.
    rows, columns = (i / r for i, r in zip(np.shape(image), result.shape, strict=True))
    to_image = np.array([[columns, 0, (columns - 1) / 2], [0, rows, (rows - 1) / 2], [0, 0, 1]])
    matrix = np.array(pair.report.matrix) @ to_image
    mask = pair.mask & covered(result.shape, matrix, pair.hr.shape)
    if not mask.any():
        raise TruthError("No part of the result lies on the truth.")

    # The noise of an image would flatten the line, so it is fitted to what is coarser.
    coarse = blur(pair.hr, _COARSE)[mask]

    def in_its_contrast(values: Image) -> Image:
        gain, offset = straight_line(blur(values, _COARSE)[mask], coarse)
        if gain <= 0:
            raise TruthError("The result does not resemble the truth, or its contrast is inverted.")
        return np.clip(np.float32(gain) * values + np.float32(offset), 0, 1)

    # LR too is brought to the contrast of the truth, so that neither has an advantage by it
    lies = in_its_contrast(warp(result, matrix, pair.hr.shape))
    score = score_region("", replace(pair, lr=in_its_contrast(pair.lr), mask=mask), lies)
    if score is None:
        raise TruthError("The part of the result that lies on the truth is too small to score.")
    return score
