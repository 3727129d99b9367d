"""Whole networks before and after `aea_kernels.convert`: time, memory, and the largest image in a given memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from .conftest import Race, check, copies, normal
from .contenders import OURS, Unavailable
from .known_networks import CASES, Case, build
from .memory import measure, resident_peak

thorough = pytest.mark.thorough
BEFORE = "before"
NAMES = (OURS, BEFORE)
STEP = (512, 512)
"""Size of the image of a forward and backward pass, where the case has none smaller."""
BUDGET = 8e9
"""Bytes for the largest image."""

cases = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
names = pytest.mark.parametrize("name", NAMES)


def runner(network: torch.nn.Module, backward: bool) -> Callable[[torch.Tensor], Any]:
    def forward(x: torch.Tensor) -> Any:
        with torch.inference_mode():
            return network(x)

    def forward_backward(x: torch.Tensor) -> None:
        network.zero_grad()
        network(x).square().mean().backward()

    return forward_backward if backward else forward


def size_of(case: Case, backward: bool) -> tuple[int, int]:
    return min(case.size, STEP) if backward else case.size


def compare(case: Case, network: torch.nn.Module, device: torch.device) -> None:
    """Raises Wrong where an exact conversion has not the result of the original in float64."""
    if case.retrain:
        return
    x = normal(1, 1, 64, 96, dtype=torch.float32, device=device)
    with torch.no_grad():
        exact = build(case, converted=False).to(device).double()(x.double())
        check(network(x), exact)


@cases
@pytest.mark.parametrize("backward", [False, pytest.param(True, marks=thorough)], ids=["forward", "forward + backward"])
@names
def test_network(race: Race, case: Case, backward: bool, name: str) -> None:
    height, width = size_of(case, backward)
    direction = "forward + backward" if backward else "forward"

    def prepare() -> tuple[Any, list[Any]]:
        network = build(case, converted=name == OURS).to(race.device)
        if name == OURS:
            compare(case, network, race.device)
        inputs = [
            (normal(1, 1, height, width, dtype=torch.float32, device=race.device, seed=i),)
            for i in range(min(4, copies(4 * height * width)))
        ]
        return runner(network, backward), inputs

    race.run(f"network | {case.name} | {height}x{width} | {direction}", name, prepare)


@thorough
@cases
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
@names
def test_memory(race: Race, case: Case, backward: bool, name: str) -> None:
    """Peak resident memory beyond the network and the image."""
    if race.device.type != "cpu":
        # only a CPU's memory needs a process of its own to be measured
        pytest.skip("the allocator's peak is in every group of the other tests")
    height, width = size_of(case, backward)
    direction = "forward + backward" if backward else "forward"
    group = f"network | {case.name} | {height}x{width} | {direction} | memory"
    record(race, group, name, "bytes", lambda: measure(name, peak_of, CASES.index(case), (height, width), backward))


@thorough
@cases
@names
def test_largest_image(race: Race, case: Case, name: str) -> None:
    """Pixels of the largest square image whose forward pass stays within the budget."""
    if race.device.type != "cpu":
        # only a CPU's memory needs a process of its own to be measured
        pytest.skip("the allocator's peak is in every group of the other tests")
    group = f"network | {case.name} | largest side within {BUDGET / 1e9:.0f} GB"
    record(race, group, name, "side", lambda: measure(name, largest_side, CASES.index(case)))


def record(race: Race, group: str, name: str, what: str, find: Callable[[], int]) -> None:
    try:
        race.record(group, name, **{what: find()})
    except Unavailable as reason:
        race.benchmark.group = group
        race.benchmark.extra_info.update(name=name, status=str(reason))
        race.benchmark.pedantic(lambda: None, rounds=1)


def peak_of(name: str, case: int, size: tuple[int, int], backward: bool) -> int:
    network = build(CASES[case], converted=name == OURS)
    run = runner(network, backward)
    run(torch.zeros(1, 1, 64, 64))  # libraries load, threads start
    network.zero_grad()
    x = normal(1, 1, *size, dtype=torch.float32, device=torch.device("cpu"))
    return resident_peak(lambda: run(x))[0]


def largest_side(name: str, case: int) -> int:
    """The side grows by a quarter until the peak is beyond the budget; then the last two are interpolated in area."""
    side, peak = 0, 0
    following = 256
    while True:
        larger = peak_of(name, case, (following, following), backward=False)
        if larger >= BUDGET:
            share = (BUDGET - peak) / (larger - peak)
            return int((side**2 + share * (following**2 - side**2)) ** 0.5)
        side, peak = following, larger
        following = -(-side * 5 // 4 // 32) * 32
