"""Time against the number of positions, of references and of images."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .conftest import Race, copies, normal
from .contenders import BLOCKS, make_block

thorough = pytest.mark.thorough
CHANNELS = 32
SIDES = [32, 64, 128, 256, 512, 1024, pytest.param(2048, marks=thorough), pytest.param(4096, marks=thorough)]


def compete(race: Race, group: str, name: str, batch: int, side: int, references: int = 64) -> None:
    if race.device.type == "cpu" and side > 2048:
        # a round of the slowest contender takes up to minutes there, and shows no more than its neighbours
        pytest.skip("minutes on a CPU")

    def prepare() -> tuple[Any, list[Any]]:
        module = BLOCKS[name](make_block(CHANNELS, references)).to(race.device)
        number = copies(4 * batch * CHANNELS * side * side)
        shape = (batch, CHANNELS, side, side)
        return torch.inference_mode()(module), [
            (normal(*shape, dtype=torch.float32, device=race.device, seed=i),) for i in range(number)
        ]

    race.run(group, name, prepare)


@pytest.mark.parametrize("name", ["aea", "plain eager", "torch.compile", "map (naive, NonLocal2d)", "copy"])
@pytest.mark.parametrize("side", SIDES)
def test_positions(race: Race, name: str, side: int) -> None:
    compete(race, f"scaling | {side} x {side}", name, 1, side)


@thorough
@pytest.mark.parametrize("name", ["aea", "plain eager"])
@pytest.mark.parametrize("references", [0, 16, 64, 256, 1024])
def test_references(race: Race, name: str, references: int) -> None:
    compete(race, f"references | {references}", name, 1, 256, references)


@thorough
@pytest.mark.parametrize("name", ["aea", "plain eager"])
@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16])
def test_batch(race: Race, name: str, batch: int) -> None:
    compete(race, f"batch | {batch}", name, batch, 64)
