"""Exact tiles: a network with global attention runs tile by tile, with the result of the whole
image.

A tile with a halo as wide as the reach of the convolutions has all that these need. Attention
depends on the whole image through a sum over its positions, and sums add over tiles. Each
attention block therefore needs one more pass: the network runs over all tiles up to that block,
and the sums are added up. In the last pass the blocks attend to these sums. At the border of the
image a tile ends with the image, and the network's own padding applies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import count
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from aeanet.distributed import agreeing, gathered
from aeanet.errors import UserError
from aeanet.imaging.flips import Flip, Flips, Region, flips_of
from aeanet.inference.reach import Attention, Reach, TilingError, reach_of, round_up

Read = Callable[[slice, slice], NDArray]
"""Rows and columns of the image -> that region, (rows, columns), floating point."""
Write = Callable[[slice, slice, NDArray], None]
"""Rows, columns, and the result for that region."""
TileProgress = Callable[[int, int], None]
"""The number of tiles done and of all tiles, over all passes."""


Keys = Sequence[Sequence[Any]]
"""For each flip, the sum of each attention block that stands for all positions it attends to."""


class ResultError(UserError):
    """A result that is no image."""


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes:
        core: the rows and columns whose result the tile gives.
        field: the rows and columns that the network is given for it.
    """

    core: Region
    field: Region

    @classmethod
    def around(cls, core: Region, halo: int, stride: int, shape: Sequence[int]) -> "Tile":
        """The tile of a core in an image of `shape`. Its field begins and ends at multiples of
        `stride`, or where the image does.
        """
        field = []
        for part, length in zip(core, shape, strict=True):
            start = part.start // stride * stride - halo
            stop = round_up(part.stop, stride) + halo
            field.append(slice(max(start, 0), min(stop, length)))
        return cls(core, (field[0], field[1]))

    def core_of(self, stride: int) -> tuple[slice, slice]:
        """The rows and columns of the core in a map of the field, `stride` px per position."""
        rows, columns = (
            slice((core.start - field.start) // stride, (core.stop - field.start) // stride)
            for core, field in zip(self.core, self.field, strict=True)
        )
        return rows, columns


def tiles_of(shape: Sequence[int], side: int, halo: int) -> list[Tile]:
    """Tiles of `side` px, smaller at the far edges, that cover (H, W) row by row, each with its
    halo.
    """
    height, width = (
        [slice(start, min(start + side, length)) for start in range(0, length, side)]
        for length in shape
    )
    return [Tile.around((rows, columns), halo, 1, shape) for rows in height for columns in width]


def check_side(side: int, reach: Reach) -> int:
    """The side of a tile, rounded down to a multiple of the stride.

    Raises:
        TilingError: if it is no whole number, or less than the halo.
    """
    if not isinstance(side, Integral):  # NumPy's numbers too
        raise TilingError(f"the side of a tile is {side!r}, wanted a whole number of pixels.")
    least = max(reach.halo, reach.stride)
    if side < least:
        raise TilingError(
            f"a tile of {side} px is too small: each pixel of the result depends on {reach.halo} "
            f"px around it, so {least} px is the least."
        )
    return int(side - side % reach.stride)


def run_tiles(
    model: nn.Module,
    read: Read,
    write: Write,
    shape: Sequence[int],
    *,
    side: int | None = None,
    exact: bool = True,
    halo: int | None = None,
    flips: Flips = 1,
    keys: Keys | None = None,
    group: ProcessGroup | None = None,
    progress: TileProgress | None = None,
) -> None:
    """Run a network over an image tile by tile, in the memory of one tile.

    Args:
        model: a network (N, 1, H, W) -> (N, 1, H, W); it is left in evaluation mode.
        read: gives any region of the image.
        write: takes the result. The regions do not overlap and cover the image.
        shape: (H, W). If they are no multiples of the network's stride, the last row and column are
            repeated.
        side: of a tile, px. None, or a side of at least the image's, takes the image at once.
        exact: attend to the whole image. False is the usual way, in which each tile attends to
            itself.
        halo: px around a tile that the network is given in the last pass and whose result is
            dropped; by default as many as exactness needs.
        flips: the result is the mean of those for so many flips of the image (`flips.Flips`). It
            takes as many times the time, and the memory of one.
        keys: what the attention blocks attend to, such as the sums over all planes of a stack
            (`stack_keys.sum_over_images`); by default the sums over this image.
        group: the processes that share the tiles; each writes the results of its tiles.
        progress: called with (done, total) after every tile.

    Raises:
        TilingError: see `reach_of` and `check_side`; or the processes were not given the same
            tiles.
        ResultError: if the network makes values that are not finite.
    """
    # at once, and with its own sums, a network pads as it does by itself: no reach is needed
    images = flips_of(flips)
    height, width = shape
    whole = side is None or side >= max(shape)
    reach = Reach(0, 1, ()) if whole and keys is None else reach_of(model)

    # whole positions at the coarsest level, so that tiles and image share one grid
    padded = round_up(height, reach.stride), round_up(width, reach.stride)
    side = max(padded) if side is None or whole else check_side(side, reach)
    if len(set(gathered((side, height, width), group))) > 1:  # there would be gaps between tiles
        raise TilingError("the processes of this run were given different tiles or images.")

    # a pass for each block and flip, for the sums, and one for the result
    tiles = tiles_of(padded, side, 0)
    blocks = reach.blocks if keys is not None or (exact and len(tiles) > 1) else ()
    run = TiledRun(model, read, (height, width), padded, side, blocks, group)
    mine = run.share_of(tiles)
    passes = 1 if keys is not None else len(images) * len(blocks) + 1
    step = _counting(passes * len(mine), progress)
    sum_of_block = partial(run.sum_of_share, step=step)
    halo = reach.halo if halo is None else round_up(halo, reach.stride)

    # the flips of a tile follow each other, so that only their mean is held
    model.eval()
    try:
        with torch.inference_mode():
            if keys is None:
                keys = [run.sum_keys(flip, sum_of_block, group) for flip in images]
            with agreeing(group):
                for tile in mine:
                    core = _within(tile.core, shape)
                    mean: Any = 0
                    for flip, keys_of_flip in zip(images, keys, strict=True):
                        run.attend_to(keys_of_flip)
                        around = Tile.around(flip.place(core, shape), halo, reach.stride, padded)
                        mean = mean + run.restore_tile(around, flip) / len(images)
                    write(*core, mean)
                    step()
    finally:
        # also after an error each block is to attend to what it is given
        run.attend_to([None] * len(blocks))


def _counting(total: int, progress: TileProgress | None) -> Callable[[], None]:
    """A function to be called after each tile; it tells how many of `total` are done."""
    numbers = count(1)

    def step() -> None:
        if progress is not None:
            progress(next(numbers), total)

    return step


@dataclass(frozen=True)
class TiledRun:
    """A network and the image over which it runs tile by tile.

    Attributes:
        model: the network, in evaluation mode.
        read: gives any region of the image.
        shape: (H, W) of the image.
        padded: (H, W) with the repeated last row and column.
        side: of a tile, px.
        blocks: the attention blocks that attend to the whole image.
        group: the processes that share the tiles.
    """

    model: nn.Module
    read: Read
    shape: tuple[int, int]
    padded: tuple[int, int]
    side: int
    blocks: Sequence[Attention]
    group: ProcessGroup | None

    def share_of(self, tiles: list[Tile]) -> list[Tile]:
        """The tiles of this process."""
        return tiles if self.group is None else tiles[self.group.rank() :: self.group.size()]

    def attend_to(self, keys: Sequence[Any]) -> None:
        """Give each block the sum that stands for all positions of the image, or None, with which
        it attends to what it is given.
        """
        for attention, sums in zip(self.blocks, keys, strict=True):
            attention.block.keys = sums

    def sum_keys(
        self, flip: Flip, sum_of: Callable[[Attention, Flip], Any], group: ProcessGroup | None
    ) -> list[Any]:
        """The sums of all blocks over what the processes of a group have of them by `sum_of`.

        The pass for a block runs through the blocks before it, which attend to their sums.
        """
        self.attend_to([None] * len(self.blocks))
        for attention in self.blocks:
            with agreeing(group):
                keys = sum_of(attention, flip)
            attention.block.keys = keys if group is None else keys.all_reduce(group)
        return [attention.block.keys for attention in self.blocks]

    def sum_of_share(
        self, attention: Attention, flip: Flip, step: Callable[[], None] | None = None
    ) -> Any:
        """The sum of one block over the tiles of this process."""
        tiles = tiles_of(self.padded, self.side, attention.halo)
        keys = None
        for tile in self.share_of(tiles):
            summary = self._summary(attention, tile, flip, tile.core_of(attention.stride))
            keys = summary if keys is None else keys + summary
            if step is not None:
                step()
        # A process without tiles takes part in the exchange with a sum over no positions.
        return self.no_sum(attention, flip) if keys is None else keys

    def no_sum(self, attention: Attention, flip: Flip) -> Any:
        """The sum of a block over no positions."""
        tile = tiles_of(self.padded, self.side, attention.halo)[0]
        return self._summary(attention, tile, flip, (slice(0), slice(0)))

    def _summary(
        self, attention: Attention, tile: Tile, flip: Flip, positions: tuple[slice, slice]
    ) -> Any:
        """The sum of a block over some rows and columns of a tile, in float64, so that the sum
        over many tiles keeps its digits.
        """
        features = _features_at(self.model, attention.block, self._field(tile, flip))
        summary = attention.block.summarize(features, positions)
        tensors = {part.name: getattr(summary, part.name) for part in fields(summary)}
        return replace(summary, **{name: tensor.double() for name, tensor in tensors.items()})

    def restore_tile(self, tile: Tile, flip: Flip) -> NDArray:
        """The result for the core of a tile of the flipped image, flipped back.

        Raises:
            ResultError: if it is not finite.
        """
        result = self.model(self._field(tile, flip))[0, 0][tile.core_of(1)]
        if not torch.isfinite(result).all():
            raise ResultError(
                "the model makes NaN or infinite values of this image, so there is no result."
            )
        return flip.of(result.to(torch.promote_types(result.dtype, torch.float32)).cpu().numpy())

    def _field(self, tile: Tile, flip: Flip) -> Tensor:
        """The field of a tile of the flipped image, (1, 1, h, w)."""
        inside = _within(tile.field, self.shape)
        region = flip.of(self.read(*flip.place(inside, self.shape)))
        missing = [
            (0, part.stop - part.start - length)
            for part, length in zip(tile.field, region.shape, strict=True)
        ]
        if any(after for _, after in missing):
            region = np.pad(region, missing, mode="edge")
        parameter = next(self.model.parameters())
        # a copy: a flipped view has negative strides, even where it counts as contiguous
        return torch.from_numpy(region.copy())[None, None].to(parameter.device, parameter.dtype)


def _within(region: Region, shape: Sequence[int]) -> Region:
    """The part of a region that lies in an image of `shape`."""
    rows, columns = (
        slice(part.start, min(part.stop, length))
        for part, length in zip(region, shape, strict=True)
    )
    return rows, columns


class _ReachedError(Exception):
    """Ends a forward pass at the block whose input is wanted."""

    def __init__(self, features: Tensor) -> None:
        self.features = features


def _features_at(model: nn.Module, block: Any, image: Tensor) -> Tensor:
    """The input of `block` when the network runs on `image`."""

    def stop(_block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _ReachedError(inputs[0])

    hook = block.register_forward_pre_hook(stop)
    try:
        model(image)
    except _ReachedError as reached:
        return reached.features
    finally:
        hook.remove()
    raise TilingError(
        "an attention block ran once and then not again: this network has no fixed course."
    )
