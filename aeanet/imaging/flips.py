"""Flips of an image: the mean of the results for an image and its flips has smaller errors than one
result.

This is "enhanced prediction" of Timofte, Rothe & Van Gool, "Seven ways to improve example-based
single image super resolution" (CVPR 2016), also called self-ensemble. Images are not turned by 90
degrees: noise is correlated along the lines of the scan.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from numpy.typing import NDArray

Flips = Literal[1, 2, 4]
"""How many: the image alone; also upside down; also left to right and both."""

Region = tuple[slice, slice]
"""Rows and columns, with start and stop."""


class Flip(NamedTuple):
    """An image as it is, upside down, left to right, or both. A flip undoes itself."""

    rows: bool
    columns: bool

    def of(self, image: NDArray) -> NDArray:
        """(H, W) -> a flipped view of it."""
        return image[:: -1 if self.rows else 1, :: -1 if self.columns else 1]

    def place(self, region: Region, shape: Sequence[int]) -> Region:
        """Where a region of an image of `shape` lies in the flipped image."""
        rows, columns = (
            slice(length - part.stop, length - part.start) if flipped else part
            for flipped, part, length in zip(self, region, shape, strict=True)
        )
        return rows, columns


def flips_of(number: int) -> list[Flip]:
    """The flips of which there are `number`.

    Raises:
        ValueError: unless it is 1, 2 or 4.
    """
    if number not in get_args(Flips) or isinstance(number, bool):
        raise ValueError(f"flips is {number!r}, wanted 1, 2 or 4.")
    return [Flip(rows, columns) for columns in (False, True) for rows in (False, True)][:number]
