"""The whole block from x, BN, ReLU6 and residual included: forward, forward and backward,
memory.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .conftest import Race, check, copies, in_types, normal
from .contenders import (
    BLOCKS,
    EAGER,
    OTHER_FUNCTIONS,
    PlainBlock,
    backend_of,
    make_block,
    runner,
)
from .memory import measure, resident_peak
from .watching import named, watched

thorough = pytest.mark.thorough
BOTTOM = (1, 128, 236, 320)
SHAPES = [
    # on a GPU it takes less time than the host needs to launch its kernels
    pytest.param((1, 128, 59, 80), id="small", marks=pytest.mark.on("cuda")),
    pytest.param(BOTTOM, id="bottom"),
    pytest.param((8, 128, 64, 64), id="training", marks=thorough),
    *[
        pytest.param((1, width, 944, 1280), id=f"full grid, {width}", marks=thorough)
        for width in (32, 64, 128)
    ],
]


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


@pytest.mark.on("cuda")
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
@pytest.mark.parametrize(("shape", "dtype"), in_types(SHAPES[:3]))
def test_captured(
    race: Race, request: Any, shape: tuple[int, ...], dtype: torch.dtype, backward: bool, name: str
) -> None:
    """As a CUDA graph: the time of the GPU alone."""
    case = request.node.callspec.id.split("-")[0]
    direction = "forward + backward" if backward else "forward"
    group = f"block | {case} | {str(dtype).removeprefix('torch.')} | CUDA graph | {direction}"
    race.run(group, name, lambda: prepared(race, name, shape, dtype, backward), captured=True)


@pytest.mark.on("cpu")  # on a GPU the peak of memory is in every group of the other cases
@pytest.mark.parametrize("name", [EAGER, "plain eager"])
def test_memory(race: Race, name: str) -> None:
    """Peak resident memory of forward and backward beyond input, output and their gradients."""
    nbytes, backend = measure(name, peak_of_training)
    race.record("block | bottom | float32 | memory", name, backend, bytes=nbytes)


def peak_of_training(name: str) -> tuple[int, str]:
    """Bytes, and who computed."""
    run = runner(BLOCKS[name](make_block(BOTTOM[1])), True)
    x, dy = (
        normal(*BOTTOM, dtype=torch.float32, device=torch.device("cpu"), seed=i).requires_grad_()
        for i in range(2)
    )
    with backend_of(name, x.device):
        with watched() as seen:  # libraries load, threads start
            run(x[..., :8, :8].detach().clone().requires_grad_(), dy[..., :8, :8].detach())
        peak, gradients = resident_peak(lambda: run(x, dy.detach()))
    return max(0, peak - x.nbytes - gradients[0].nbytes), named(seen)
