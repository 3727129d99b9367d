"""Prediction tile by tile the usual way, for the paper's Fig. 6: each tile alone, its margin thrown away."""

import numpy as np
from numpy.typing import NDArray

from aeanet.data.crops import split_3x4
from aeanet.inference.prediction import restore
from aeanet.networks.base import Network

MARGIN = 32  # px; the network's convolutions reach about 22
SIZES = (128, 256, 384, 512)


def stitch(model: Network, image: NDArray, tile: int, *, margin: int = MARGIN) -> NDArray[np.float32]:
    """Restore the test columns of an image (H, W) in tiles of `tile` x `tile` px that know nothing of each other.

    Tiles stand `tile - 2 * margin` px apart, those at the far edges moved inwards to be of full size, and each gives
    its inner part, at the image's edges also its margin. Tiles that give the test columns nothing are left out: what
    lies to the left of those columns may remain 0.
    """
    result = np.zeros(image.shape, np.float32)
    first_column = split_3x4(image.shape)[1][0][1].start
    rows, columns = (_places(length, tile, margin) for length in image.shape)
    for top, row in rows:
        for left, column in columns:
            if column.stop > first_column:
                restored = restore(model, image[top : top + tile, left : left + tile])
                result[row, column] = restored[
                    row.start - top : row.stop - top, column.start - left : column.stop - left
                ]
    return result


def _places(length: int, tile: int, margin: int) -> list[tuple[int, slice]]:
    """Along one axis: where each tile starts, and what part of the image it gives."""
    step = tile - 2 * margin
    starts = [0] if length <= tile else [*range(0, length - tile, step), length - tile]
    return [
        (start, slice(start + margin if start else 0, length if start + tile >= length else start + tile - margin))
        for start in starts
    ]
