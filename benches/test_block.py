"""The whole block from x, BN, ReLU6 and residual included: forward, forward and backward,
memory.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .cases import block_case, block_group
from .conftest import in_types
from .contenders import BLOCKS, EAGER, backend_of, make_block, runner
from .memory import measure, resident_peak
from .racing import Race, normal
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


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
@pytest.mark.parametrize(("shape", "dtype"), in_types(SHAPES))
def test_block(
    race: Race, request: Any, shape: tuple[int, ...], dtype: torch.dtype, backward: bool, name: str
) -> None:
    case = request.node.callspec.id.split("-")[0]
    group = block_group(case, dtype, backward)
    race.run(group, name, lambda: block_case(race.device, name, shape, dtype, backward))


@pytest.mark.on("cuda")
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
@pytest.mark.parametrize(("shape", "dtype"), in_types(SHAPES[:3]))
def test_captured(
    race: Race, request: Any, shape: tuple[int, ...], dtype: torch.dtype, backward: bool, name: str
) -> None:
    """As a CUDA graph: the time of the GPU alone."""
    case = request.node.callspec.id.split("-")[0]
    group = block_group(case, dtype, backward, captured=True)
    race.run(
        group, name, lambda: block_case(race.device, name, shape, dtype, backward), captured=True
    )


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
