"""Attention on given queries, keys and values: forward, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .cases import operator_case, operator_group
from .conftest import in_types
from .contenders import OPERATORS
from .racing import Race

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

    group = operator_group(case, dtype, backward)
    race.run(group, name, lambda: operator_case(race.device, name, shape, dtype, backward))
