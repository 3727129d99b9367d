"""The whole block from x, BN, ReLU6 and residual included: forward, forward and backward,
memory.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .conftest import Race, check, copies, in_types, normal
from .contenders import BLOCKS, OTHER_FUNCTIONS, PlainBlock, make_block
from .memory import measure, resident_peak

thorough = pytest.mark.thorough
BOTTOM = (1, 128, 236, 320)
SHAPES = [
    pytest.param(BOTTOM, id="bottom"),
    pytest.param((8, 128, 64, 64), id="training", marks=thorough),
    *[
        pytest.param((1, width, 944, 1280), id=f"full grid, {width}", marks=thorough)
        for width in (32, 64, 128)
    ],
]


def runner(module: torch.nn.Module, backward: bool) -> Any:
    parameters = [p for p in module.parameters() if p.requires_grad]

    def forward(x: torch.Tensor, dy: torch.Tensor) -> Any:
        with torch.inference_mode():
            return module(x)

    def forward_backward(x: torch.Tensor, dy: torch.Tensor) -> Any:
        return torch.autograd.grad(module(x), [x, *parameters], dy, allow_unused=True)

    return forward_backward if backward else forward


def prepared(
    race: Race, name: str, shape: tuple[int, ...], dtype: torch.dtype, backward: bool
) -> tuple[Any, list[Any]]:
    """The contender, checked against float64, and the inputs it rotates over."""
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


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
@pytest.mark.parametrize(("shape", "dtype"), in_types(SHAPES))
def test_block(
    race: Race, request: Any, shape: tuple[int, ...], dtype: torch.dtype, backward: bool, name: str
) -> None:
    case = request.node.callspec.id.split("-")[0]
    direction = "forward + backward" if backward else "forward"
    group = f"block | {case} | {str(dtype).removeprefix('torch.')} | {direction}"
    race.run(group, name, lambda: prepared(race, name, shape, dtype, backward))


@thorough
@pytest.mark.on("cuda")
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_captured(
    race: Race, request: Any, shape: tuple[int, ...], backward: bool, name: str
) -> None:
    case = request.node.callspec.id.split("-")[0]
    direction = "forward + backward" if backward else "forward"
    group = f"block | {case} | bfloat16 | CUDA graph | {direction}"
    race.run(
        group, name, lambda: prepared(race, name, shape, torch.bfloat16, backward), captured=True
    )


@pytest.mark.on("cpu")  # on a GPU the peak of memory is in every group of the other cases
@pytest.mark.parametrize("name", ["aea", "plain eager"])
def test_memory(race: Race, name: str) -> None:
    """Peak resident memory of forward and backward beyond input, output and their gradients."""
    race.record("block | bottom | float32 | memory", name, bytes=measure(name, peak_of_training))


def peak_of_training(name: str) -> int:
    run = runner(BLOCKS[name](make_block(BOTTOM[1])), True)
    x, dy = (
        normal(*BOTTOM, dtype=torch.float32, device=torch.device("cpu"), seed=i).requires_grad_()
        for i in range(2)
    )
    # libraries load, threads start
    run(x[..., :8, :8].detach().clone().requires_grad_(), dy[..., :8, :8].detach())
    peak, gradients = resident_peak(lambda: run(x, dy.detach()))
    return max(0, peak - x.nbytes - gradients[0].nbytes)
