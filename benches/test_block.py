"""The whole block from x, BN, ReLU6 and residual included: forward, forward and backward, memory."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
import torch

from .conftest import Race, check, copies, normal
from .contenders import BLOCKS, OTHER_FUNCTIONS, PlainBlock, make_block

thorough = pytest.mark.thorough
BOTTOM = (1, 128, 236, 320)
SHAPES = [
    pytest.param(BOTTOM, id="bottom"),
    pytest.param((8, 128, 64, 64), id="training", marks=thorough),
    *[pytest.param((1, width, 944, 1280), id=f"full grid, {width}", marks=thorough) for width in (32, 64, 128)],
]
DTYPES = [torch.float32, pytest.param(torch.bfloat16, marks=thorough)]


def runner(module: torch.nn.Module, backward: bool) -> Any:
    parameters = [p for p in module.parameters() if p.requires_grad]

    def forward(x: torch.Tensor, dy: torch.Tensor) -> Any:
        with torch.inference_mode():
            return module(x)

    def forward_backward(x: torch.Tensor, dy: torch.Tensor) -> Any:
        return torch.autograd.grad(module(x), [x, *parameters], dy, allow_unused=True)

    return forward_backward if backward else forward


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_block(race: Race, request: Any, shape: tuple[int, ...], dtype: torch.dtype, backward: bool, name: str) -> None:
    case = request.node.callspec.id.split("-")[0]
    if race.device.type == "cpu" and case.startswith("full") and (dtype, shape[1]) != (torch.float32, 64):
        # a round of the slowest contender takes up to minutes there, and shows no more than its neighbours
        pytest.skip("minutes on a CPU")

    def prepare() -> tuple[Any, list[Any]]:
        module = BLOCKS[name](make_block(shape[1])).to(race.device, dtype)
        if name not in OTHER_FUNCTIONS:
            small = normal(shape[0], shape[1], 12, 10, dtype=dtype, device=race.device)
            exact = PlainBlock(make_block(shape[1]).to(race.device, dtype)).double()
            with torch.no_grad():
                check(module(small), exact(small.double()))
        nbytes = torch.Size(shape).numel() * dtype.itemsize
        inputs = [
            normal(*shape, dtype=dtype, device=race.device, seed=i).requires_grad_(backward)
            for i in range(copies(nbytes))
        ]
        dy = normal(*shape, dtype=dtype, device=race.device, seed=99)
        return runner(module, backward), [(x, dy) for x in inputs]

    direction = "forward + backward" if backward else "forward"
    group = f"block | {case} | {str(dtype).removeprefix('torch.')} | {direction}"
    race.run(group, name, prepare)


@pytest.mark.parametrize("name", ["aea", "plain eager"])
def test_memory(race: Race, name: str) -> None:
    """Peak resident memory of forward and backward beyond input, output and their gradients, in its own process."""
    if race.device.type != "cpu":
        # only a CPU's memory needs a process of its own to be measured
        pytest.skip("the allocator's peak is in every group of the other tests")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        race.record("block | bottom | float32 | memory", name, bytes=pool.apply(peak_memory, (name,)))


def peak_memory(name: str) -> int:
    """Linux: the high-water mark of resident memory is set back, then read."""
    run = runner(BLOCKS[name](make_block(BOTTOM[1])), True)
    x, dy = (
        normal(*BOTTOM, dtype=torch.float32, device=torch.device("cpu"), seed=i).requires_grad_() for i in range(2)
    )
    run(x[..., :8, :8].detach().clone().requires_grad_(), dy[..., :8, :8].detach())  # libraries load, threads start
    with open("/proc/self/clear_refs", "w") as handle:
        handle.write("5")
    before = _status("VmRSS")
    gradients = run(x, dy.detach())
    return max(0, _status("VmHWM") - before - x.nbytes - gradients[0].nbytes)


def _status(field: str) -> int:
    with open("/proc/self/status") as handle:
        line = next(line for line in handle if line.startswith(field))
    return int(line.split()[1]) * 1024
