"""Attention on given queries, keys and values: forward, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aea_kernels import reference

from .conftest import Race, check, copies, in_types, normal
from .contenders import OPERATORS, OTHER_FUNCTIONS

thorough = pytest.mark.thorough
FULL = 944 * 1280
SHAPES = [
    pytest.param((1, 2, 236 * 320, 64), id="bottom"),
    pytest.param((8, 2, 64 * 64, 64), id="training", marks=thorough),
    *[
        pytest.param((1, 1, FULL, width), id=f"full grid, {width}", marks=thorough)
        for width in (32, 64, 128)
    ],
]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
@pytest.mark.parametrize(("shape", "dtype"), in_types(SHAPES))
def test_operator(
    race: Race, request: Any, shape: tuple[int, ...], dtype: torch.dtype, backward: bool, name: str
) -> None:
    case = request.node.callspec.id.split("-")[0]

    def prepare() -> tuple[Any, list[Any]]:
        q = torch.empty(shape, dtype=dtype, device=race.device)
        function = OPERATORS[name](q)
        if name not in OTHER_FUNCTIONS:
            small = [
                normal(*shape[:2], 100, shape[3], dtype=dtype, device=race.device, seed=i)
                for i in range(3)
            ]
            check(function(*small), reference.linear_attention(*(t.double() for t in small)))

        # inputs to rotate over, so that none is in the cache
        sets = []
        for i in range(copies(3 * q.nbytes)):
            tensors = [
                normal(*shape, dtype=dtype, device=race.device, seed=3 * i + j) for j in range(3)
            ]
            sets.append([t.requires_grad_(backward) for t in tensors])
        if not backward:
            return function, sets
        dy = normal(*shape, dtype=dtype, device=race.device)
        return lambda *tensors: torch.autograd.grad(
            function(*tensors), tensors, dy, allow_unused=True
        ), sets

    direction = "forward + backward" if backward else "forward"
    group = f"operator | {case} | {str(dtype).removeprefix('torch.')} | {direction}"
    race.run(group, name, prepare)
