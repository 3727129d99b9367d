"""Whole networks and single blocks before and after `aea_kernels.convert`: time, memory, and the
largest image in a given memory.

Both run in turn, so whatever else the machine does meets both. On a CPU each whole network has a
process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import aea_kernels as aea

from .contenders import BEFORE, OURS, Unavailable, fits_in_memory
from .known_networks import CASES, Case, build
from .known_networks.blocks import BLOCKS, Block
from .memory import measure, resident_peak, side_within
from .racing import Race, Wrong, check, normal
from .watching import named, watched

thorough = pytest.mark.thorough
NAMES = (BEFORE, OURS)
QUICK = (128, 128)
"""Size of the image with --quick."""
BUDGET = 8e9
"""Bytes for the largest image."""
SIDES = (64, 128, 256)
"""Of the maps that single blocks are given, positions."""

names = pytest.mark.parametrize("name", NAMES)
directions = pytest.mark.parametrize(
    "backward", [False, True], ids=["forward", "forward + backward"]
)


def runner(network: nn.Module, backward: bool) -> Callable[[torch.Tensor], Any]:
    def forward(x: torch.Tensor) -> Any:
        with torch.inference_mode():
            return network(x)

    def forward_backward(x: torch.Tensor) -> None:
        network.zero_grad()
        network(x.detach().requires_grad_()).square().mean().backward()

    return forward_backward if backward else forward


@cache
def compare(case: Case) -> None:
    """Raises Wrong where an exact conversion has not the result of the original in float64."""
    if not case.retrain:
        x = normal(1, 1, 64, 96, dtype=torch.float32, device=torch.device("cpu"))
        with torch.no_grad():
            check(build(case, converted=True)(x), build(case, converted=False).double()(x.double()))


def report(race: Race, group: str, name: str, find: Callable[[], dict[str, Any]]) -> None:
    """Record what `find` measures, or why it cannot."""
    try:
        race.record(group, name, **find())
    except (Unavailable, Wrong) as reason:
        race.give_up(group, name, str(reason))


# ---- whole networks ------------------------------------------------------------------------------

GROUPS = [
    *((case, case.size, False) for case in CASES),
    *((case, case.step, True) for case in CASES),
    # also where a denoising-diffusion U-Net is most often used
    *((case, (512, 512), False) for case in CASES if "denoising" in case.name),
]


@pytest.mark.parametrize(
    ("case", "size", "backward"),
    [
        pytest.param(*group, marks=thorough if group[2] or group[1] == (512, 512) else ())
        for group in GROUPS
    ],
)
@names
def test_network(
    race: Race,
    case: Case,
    size: tuple[int, int],
    backward: bool,
    name: str,
    pytestconfig: pytest.Config,
) -> None:
    """Time, and memory beyond the network and the image."""
    size = min(size, QUICK) if pytestconfig.getoption("--quick") else size
    height, width = size
    direction = "forward + backward" if backward else "forward"
    group = f"network | {case.name} | {height}x{width} | {direction}"
    if race.device.type == "cpu":
        report(race, group, name, lambda: in_turn(CASES.index(case), size, backward)[name])
        return

    def prepare() -> tuple[Any, list[Any]]:
        compare(case)
        network = build(case, converted=name == OURS).to(race.device)
        return runner(network, backward), [
            (normal(1, 1, *size, dtype=torch.float32, device=race.device),)
        ]

    race.run(group, name, prepare)


@cache
def in_turn(case: int, size: tuple[int, int], backward: bool) -> dict[str, dict[str, Any]]:
    """Bytes, seconds and backend of both, each in its process; short calls are repeated."""
    # two rounds at least, more while the calls are short; of memory the greatest peak counts
    compare(CASES[case])
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    peak, backend = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, "")
    while min(map(len, seconds.values())) < 2 or (
        len(seconds[OURS]) < 9 and sum(seconds[BEFORE]) < 3
    ):
        for name in NAMES:
            nbytes, elapsed, backend[name] = measure(name, cost_of, case, size, backward)
            peak[name] = max(peak[name], nbytes)
            seconds[name].append(elapsed)
    return {
        name: {"bytes": peak[name], "seconds": seconds[name], "backend": backend[name]}
        for name in NAMES
    }


@cache
def network_of(case: int, converted: bool) -> tuple[nn.Module, str]:
    """The network, warmed up: libraries load, threads start. And who computes it."""
    network = build(CASES[case], converted=converted)
    with watched() as seen:
        runner(network, backward=True)(torch.zeros(1, 1, 64, 64))
    return network, named(seen)


def cost_of(name: str, case: int, size: tuple[int, int], backward: bool) -> tuple[int, float, str]:
    """Peak of resident memory in bytes, seconds, and the backend that computed."""
    network, backend = network_of(case, name == OURS)
    network.zero_grad()
    x = normal(1, 1, *size, dtype=torch.float32, device=torch.device("cpu"))
    begun = time.perf_counter()
    peak, _ = resident_peak(lambda: runner(network, backward)(x))
    return peak, time.perf_counter() - begun, backend


@thorough
@pytest.mark.on("cpu")  # on a GPU the peak of memory is in every group of the other cases
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@names
def test_largest_image(race: Race, case: Case, name: str) -> None:
    """Side of the square image whose forward pass takes the budget."""
    group = f"network | {case.name} | largest side within {BUDGET / 1e9:.0f} GB"
    report(race, group, name, lambda: largest_side(name, CASES.index(case)))


def largest_side(name: str, case: int) -> dict[str, Any]:
    """The side, extrapolated: the peak is a constant, a term for each position, and with a map one
    for each pair of them. And who computed.
    """
    terms = 3 if CASES[case].has_map and name == BEFORE else 2
    sides = CASES[case].sides[:terms]
    costs = [measure(name, cost_of, case, (side, side), False) for side in sides]
    side = side_within(BUDGET, sides, [peak for peak, _, _ in costs])
    return {"side": side, "backend": costs[0][-1]}


# ---- single blocks -------------------------------------------------------------------------------


@pytest.mark.on("cpu")  # what GPUs gain is measured on whole networks
@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
@pytest.mark.parametrize(
    "side", [pytest.param(side, marks=thorough if side > 64 else ()) for side in SIDES]
)
@directions
@names
def test_block(race: Race, block: Block, side: int, backward: bool, name: str) -> None:
    direction = "forward + backward" if backward else "forward"
    group = f"conversion | {block.name} | {side}x{side} | {direction}"

    def find() -> dict[str, Any]:
        names = NAMES
        if block.has_map:
            try:
                fits_in_memory(4 * side**4 * (4 if backward else 2), torch.device("cpu"))
            except Unavailable:
                if name == BEFORE:
                    raise
                names = (OURS,)
        return blocks_in_turn(block, side, backward, race.seconds, names)[name]

    report(race, group, name, find)


@cache
def blocks_in_turn(
    block: Block, side: int, backward: bool, least_seconds: float, names: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Seconds and backend of each of `names`, in turn in one process."""
    # the same weights in both, and a first call that warms up and tells who computes
    runs, backend = {}, {}
    x = normal(*block.shape(side), dtype=torch.float32, device=torch.device("cpu"))
    for name in names:
        torch.manual_seed(0)
        module = block.build().train(backward)
        if name == OURS:
            aea.convert(module)
        runs[name] = runner(module, backward)
        with watched() as seen:
            runs[name](x)
        backend[name] = named(seen)

    # in turn, so that whatever else the machine does meets both
    seconds: dict[str, list[float]] = {name: [] for name in names}
    while len(seconds[OURS]) < 3 or (
        len(seconds[OURS]) < 49 and sum(seconds[names[0]]) < least_seconds
    ):
        for name in names:
            begun = time.perf_counter()
            runs[name](x)
            seconds[name].append(time.perf_counter() - begun)
    return {name: {"seconds": seconds[name], "backend": backend[name]} for name in names}
