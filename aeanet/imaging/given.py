"""Images that a caller gives, in whatever form."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_array(image: Any, name: str = "image") -> NDArray:
    """An image as an array: it may be one, a tensor on any device, or a list of rows.

    Args:
        image: of any type and shape.
        name: of the argument, for errors.

    Raises:
        ValueError: its values cannot be read, or some of its pixels are masked.
    """
    # NumPy would take what lies below a mask for pixels
    if np.ma.is_masked(image):
        masked = np.ma.count_masked(image)
        raise ValueError(
            f"{name} has {masked:,} masked pixels: give them values first, such as by "
            f"{name}.filled(0.5)."
        )

    # each library converts what it knows; of its error the reason is told, not the advice
    try:
        if hasattr(image, "detach"):  # a tensor; PyTorch need not be imported to know it
            narrow = image.is_floating_point() and image.itemsize < 4  # NumPy has no bfloat16
            image = (image.float() if narrow else image).detach().cpu().numpy()
        return np.asarray(image)
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".!")
        raise ValueError(f"{name} cannot be made an array (H, W): {reason}.") from error


def as_image(image: Any) -> NDArray:
    """`as_array`, (H, W) of floating point.

    Raises:
        ValueError: as `as_array`, or it has another type or shape.
    """
    array = as_array(image)
    if array.ndim != 2 or 0 in array.shape or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"image is {array.dtype} of shape {array.shape}, wanted floating point of shape (H, W)."
        )
    return array


def check_range(image: NDArray) -> None:
    """Raise ValueError unless the values are those of an image: finite, from 0 to 1."""
    low, high = float(image.min()), float(image.max())
    if math.isnan(low):
        raise ValueError("the image holds NaN; all pixels must be finite.")
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also true of NaN
        raise ValueError(
            f"intensities run from {low:g} to {high:g}, wanted 0 to 1, the full range of the "
            "detector."
        )
