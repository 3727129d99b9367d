"""The paper's 3x4 split of an image into training columns and test subimages; random crops for
training.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from aeanet.data.registration import RegisteredPair

from aeanet.errors import PairError

Region = tuple[slice, slice]


def split_3x4(shape: tuple[int, ...]) -> tuple[Region, list[Region]]:
    """The paper's split of an (H, W) image: the left three quarters for training, the rest in three
    for tests.

    For 944 x 1280: columns 0 to 959; and of columns 960 to 1279 the rows 0 to 313, 314 to 627 and
    628 to 941.

    Raises:
        PairError: the image is too small.
    """
    height, width = shape
    column, row = 3 * width // 4, height // 3
    if column == 0 or row == 0:
        raise PairError(f"An image of {height} x {width} pixels is too small for the 3x4 split.")
    tests = [(slice(i * row, (i + 1) * row), slice(column, width)) for i in range(3)]
    return (slice(0, height), slice(0, column)), tests


class RandomCrops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """`length` square crops of the training regions, each of a random pair and from a random place
    with LR data.

    Item i is (lr, hr), float32 (1, size, size) each, and depends on `seed` and i alone. Pairs
    without room for a crop are left out.

    Raises:
        PairError: no pair has room for a crop, or `size` or `length` is below 1.
    """

    def __init__(
        self, pairs: "Sequence[RegisteredPair]", size: int, length: int, *, seed: int = 0
    ) -> None:
        if size < 1 or length < 1:
            raise PairError(
                f"Crops need a size and a number of at least 1, got size {size} and number "
                f"{length}."
            )

        # the training columns only: the rest of each image is for the tests
        self.size, self.length, self.seed = size, length, seed
        sources = [
            (pair, _Places(pair.mask[split_3x4(pair.mask.shape)[0]], size)) for pair in pairs
        ]

        # decided here once, so that each item draws from pairs that can give it
        self._sources = [(pair, places) for pair, places in sources if places.count]
        if not self._sources:
            raise PairError(
                f"No pair has room for a crop of {size} x {size} valid pixels in its training "
                "region; use smaller crops or larger images."
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"crop {index} of {self.length}")
        random = np.random.default_rng((self.seed, index))
        pair, places = self._source(random)
        row, column = places[int(random.integers(places.count))]
        crop = (slice(row, row + self.size), slice(column, column + self.size))
        lr, hr = (
            torch.from_numpy(np.array(image[crop], dtype=np.float32))[None]
            for image in (pair.lr, pair.hr)
        )
        return lr, hr

    def pair_of(self, index: int) -> "RegisteredPair":
        """The pair from which a crop is cut."""
        return self._source(np.random.default_rng((self.seed, index)))[0]

    def _source(self, random: np.random.Generator) -> "tuple[RegisteredPair, _Places]":
        return self._sources[random.integers(len(self._sources))]


class _Places:
    """The upper left corners of all size x size crops that are valid throughout, row by row.

    Args:
        valid: (H, W), of the region that crops are taken from.
        size: side of the crops.

    Attributes:
        count: number of corners.
    """

    def __init__(self, valid: NDArray[np.bool_], size: int) -> None:
        self.count = 0
        if min(valid.shape) < size:
            return

        # Invalid pixels above and to the left of each corner of a pixel, and so within each crop.
        until = np.pad(~valid, ((1, 0), (1, 0))).cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
        across = until[:, size:] - until[:, :-size]
        self._free = across[size:] == across[:-size]
        self._until_row = np.cumsum(np.count_nonzero(self._free, axis=1))
        self.count = int(self._until_row[-1])

    def __getitem__(self, index: int) -> tuple[int, int]:
        row = int(np.searchsorted(self._until_row, index, side="right"))
        before = int(self._until_row[row - 1]) if row else 0
        return row, int(np.flatnonzero(self._free[row])[index - before])
