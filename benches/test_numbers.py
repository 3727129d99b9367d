"""Error against float64, by dtype and contender: root mean square, relative to that of the exact
result.
"""

from __future__ import annotations

import pytest
import torch

from .conftest import Race, normal
from .contenders import BLOCKS, PlainBlock, make_block


@pytest.mark.parametrize("name", ["aea", "plain eager", "torch.compile", "map (naive, NonLocal2d)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_error(race: Race, dtype: torch.dtype, name: str) -> None:
    module = BLOCKS[name](make_block(128)).to(race.device, dtype)
    exact = PlainBlock(make_block(128).to(race.device, dtype)).double()
    x = normal(1, 128, 48, 64, dtype=dtype, device=race.device)
    with torch.no_grad():
        y, truth = module(x).double() - x.double(), exact(x.double()) - x.double()
    error = float((y - truth).norm() / truth.norm())
    race.record(f"numbers | {str(dtype).removeprefix('torch.')}", name, error=error)
