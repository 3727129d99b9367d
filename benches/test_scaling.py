"""Time and memory against the number of positions, of references and of images."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from .contenders import BLOCKS, COPY, EAGER, TRITON, Unavailable, backend_of, make_block
from .memory import measure, resident_peak
from .racing import Race, copies, normal

thorough = pytest.mark.thorough
CHANNELS = 32
SIDES = [
    32,
    64,
    128,
    256,
    512,
    1024,
    pytest.param(2048, marks=thorough),
    pytest.param(4096, marks=thorough),
]


def compete(race: Race, group: str, name: str, batch: int, side: int, references: int = 64) -> None:
    def prepare() -> tuple[Any, list[Any]]:
        module = BLOCKS[name](make_block(CHANNELS, references)).to(race.device)
        number = copies(4 * batch * CHANNELS * side * side)
        shape = (batch, CHANNELS, side, side)
        return torch.inference_mode()(module), [
            (normal(*shape, dtype=torch.float32, device=race.device, seed=i),)
            for i in range(number)
        ]

    race.run(group, name, prepare)


@pytest.mark.parametrize(
    "name", [TRITON, EAGER, "plain eager", "torch.compile", "map (naive, NonLocal2d)", COPY]
)
@pytest.mark.parametrize("side", SIDES)
def test_positions(race: Race, name: str, side: int) -> None:
    if race.device.type == "cpu":
        with contextlib.suppress(Unavailable):  # then the race says why
            race.benchmark.extra_info["bytes"] = measure(name, peak_of_inference, side)
    compete(race, f"scaling | {side} x {side}", name, 1, side)


def peak_of_inference(name: str, side: int) -> int:
    """Resident memory beyond input and output, bytes."""
    module = torch.inference_mode()(BLOCKS[name](make_block(CHANNELS)))
    x = normal(1, CHANNELS, side, side, dtype=torch.float32, device=torch.device("cpu"))
    with backend_of(name, x.device):
        module(torch.zeros(1, CHANNELS, 8, 8))  # libraries load, threads start
        peak, y = resident_peak(lambda: module(x))
    return max(0, peak - y.nbytes)


@thorough
@pytest.mark.parametrize("name", [TRITON, EAGER, "plain eager"])
@pytest.mark.parametrize("references", [0, 16, 64, 256, 1024])
def test_references(race: Race, name: str, references: int) -> None:
    compete(race, f"references | {references}", name, 1, 256, references)


@thorough
@pytest.mark.parametrize("name", [TRITON, EAGER, "plain eager"])
@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16])
def test_batch(race: Race, name: str, batch: int) -> None:
    compete(race, f"batch | {batch}", name, batch, 64)
