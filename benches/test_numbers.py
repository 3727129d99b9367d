"""Error against float64, by dtype and contender: root mean square, relative to that of the exact
result.
"""

from __future__ import annotations

import pytest
import torch

from .contenders import BLOCKS, EAGER, TRITON, PlainBlock, Unavailable, backend_of, make_block
from .racing import Race, normal
from .watching import named, watched


@pytest.mark.parametrize(
    "name", [TRITON, EAGER, "plain eager", "torch.compile", "map (naive, NonLocal2d)"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_error(race: Race, dtype: torch.dtype, name: str) -> None:
    # the oracle has the same rounded weights and input, so only the arithmetic differs
    group = f"numbers | {str(dtype).removeprefix('torch.')}"
    module = BLOCKS[name](make_block(128)).to(race.device, dtype)
    exact = PlainBlock(make_block(128).to(race.device, dtype)).double()
    x = normal(1, 128, 48, 64, dtype=dtype, device=race.device)
    try:
        with torch.no_grad(), backend_of(name, race.device), watched() as seen:
            y = module(x).double() - x.double()
    except Unavailable as reason:
        race.give_up(group, name, str(reason))
        return

    # of what the block adds to x: x itself would hide an error
    with torch.no_grad():
        truth = exact(x.double()) - x.double()
    error = float((y - truth).norm() / truth.norm())
    race.record(group, name, named(seen), error=error)
