"""Attention over several images of one size: the sums over all their positions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.distributed import ProcessGroup

from aeanet.imaging.flips import Flip, Flips, flips_of
from aeanet.inference.reach import Attention, reach_of, round_up
from aeanet.inference.tiling import Keys, Read, TiledRun, check_side


def sum_over_images(
    model: nn.Module,
    images: Sequence[Callable[[], Read]],
    shape: Sequence[int],
    *,
    side: int | None = None,
    flips: Flips = 1,
    group: ProcessGroup | None = None,
) -> Keys:
    """The sums over all positions of several images, for the `keys` of `run_tiles`.

    Sums add over images as they add over tiles, so with them each image attends to all of them,
    exactly.

    Args:
        model: as in `run_tiles`.
        images: each opens an image, of which it gives any region. They are opened one by one.
        shape: (H, W) of each image.
        side: of the tiles, as in `run_tiles`.
        flips: as in `run_tiles`.
        group: the processes that share the images; each gets the sums over all of them.

    Raises:
        TilingError: see `reach_of` and `check_side`.
    """
    height, width = shape
    reach = reach_of(model)
    padded = round_up(height, reach.stride), round_up(width, reach.stride)
    side = max(padded) if side is None or side >= max(shape) else check_side(side, reach)
    mine = images if group is None else images[group.rank() :: group.size()]

    run = TiledRun(model, images[0](), (height, width), padded, side, reach.blocks, None)

    def sum_of_block(attention: Attention, flip: Flip) -> Any:
        keys = run.no_sum(attention, flip)
        for image in mine:
            keys = keys + replace(run, read=image()).sum_of_share(attention, flip)
        return keys

    model.eval()
    try:
        with torch.inference_mode():
            return [run.sum_keys(flip, sum_of_block, group) for flip in flips_of(flips)]
    finally:
        run.attend_to([None] * len(reach.blocks))
