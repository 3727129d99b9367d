"""What a network is shown of an image: the range that the image uses, without its outliers; and how
the result comes back into the image's own range.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BEYOND = 0.5  # of the range used: what a network is shown beyond it; no cubic overshoots so far

Outliers = Literal["keep", "replace"]
"""What becomes of outliers in a result."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """What a network is shown of an image (H, W).

    Attributes:
        low, high: the values that are 0 and 1 to the network, in the units of the image.
        used: the width of the range that the image uses, in its units, within `low` and `high`.
        rows, columns: where the outliers are, (N,) each.
        values: what they are, (N,).
        usual: the medians around them, (N,), which the network is shown.
    """

    low: float = 0.0
    high: float = 1.0
    used: float = 1.0
    rows: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    columns: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    values: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    usual: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def scale(self, values: NDArray) -> NDArray[np.float32]:
        """Values in the units of the image, in those of the network."""
        if (self.low, self.high) == (0, 1):
            return np.asarray(values, np.float32)
        return ((values.astype(np.float64) - self.low) / (self.high - self.low)).astype(np.float32)

    def unscale(self, result: NDArray) -> NDArray:
        """The inverse of `scale`."""
        if (self.low, self.high) == (0, 1):
            return result
        return self.low + (self.high - self.low) * result.astype(np.float64)

    def scaled_region(
        self, read: Callable[[slice, slice], NDArray], rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        """A region of the image in the units of the network, its outliers replaced."""
        values = np.array(read(rows, columns), np.float32)
        inside = self._inside(rows, columns)
        at = self.rows[inside] - rows.start, self.columns[inside] - columns.start
        values[at] = self.usual[inside]
        return self.scale(values)

    def put(
        self,
        values: NDArray,
        result: NDArray,
        region: tuple[slice, slice],
        magnification: float,
    ) -> NDArray:
        """A region of a result in the units of the image: what comes from outliers has `values`,
        (N,).
        """
        # a pixel of the result belongs to the pixel of the image in which its centre lies
        of_row, of_column = (
            np.floor((np.arange(part.start, part.stop) + 0.5) / magnification).astype(np.intp)
            for part in region
        )
        top, left = int(of_row[0]), int(of_column[0])
        bottom, right = int(of_row[-1]) + 1, int(of_column[-1]) + 1
        inside = self._inside(slice(top, bottom), slice(left, right))
        if not inside.any():
            return result

        # NaN stands for pixels that are no outliers.
        small = np.full((bottom - top, right - left), np.nan)
        small[self.rows[inside] - top, self.columns[inside] - left] = values[inside]
        large = small[np.ix_(of_row - top, of_column - left)]
        return np.where(np.isnan(large), result, large)

    def _inside(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """Which outliers lie in a region."""
        in_rows = (self.rows >= rows.start) & (self.rows < rows.stop)
        return in_rows & (self.columns >= columns.start) & (self.columns < columns.stop)


def whole(shape: Sequence[int]) -> tuple[slice, slice]:
    """All rows and columns."""
    return slice(0, shape[0]), slice(0, shape[1])


def within(scaled: NDArray) -> NDArray:
    """What a network is shown of values in its units; the rest is added to its result."""
    return scaled.clip(-BEYOND, 1 + BEYOND)
