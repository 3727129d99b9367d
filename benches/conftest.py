"""Which cases of the suites run, and how much time each has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from .racing import Race


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="the cases that matter most, few rounds")
    parser.addoption("--device", default="cpu")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "thorough: left out by --quick, which is to end in two minutes"
    )
    config.addinivalue_line("markers", "on(device): measured there alone, cpu or cuda")
    # float32 in convolutions too: every contender computes with the digits that it is checked for
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture
def race(benchmark: Any, request: pytest.FixtureRequest) -> Race:
    quick = request.config.getoption("--quick")
    return Race(benchmark, request.config.getoption("--device"), 0.6 if quick else 1.5)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only the cases of this device, and of --quick, are in the run."""
    device, quick = torch.device(config.getoption("--device")).type, config.getoption("--quick")

    def belongs(item: pytest.Item) -> bool:
        elsewhere = any(marker.args != (device,) for marker in item.iter_markers("on"))
        return not elsewhere and not (quick and item.get_closest_marker("thorough"))

    config.hook.pytest_deselected(items=[item for item in items if not belongs(item)])
    items[:] = [item for item in items if belongs(item)]


def in_types(sizes: Sequence[Any]) -> list[Any]:
    """Sizes, of `pytest.param`, each in float32 and in bfloat16: (size, dtype).

    At the full size bfloat16 is for GPUs: a round of the slowest contender takes minutes on a CPU.
    """
    cases = []
    for size in sizes:
        slow = [pytest.mark.on("cuda")] if size.id.startswith("full") else []
        for dtype, marks in ((torch.float32, []), (torch.bfloat16, [pytest.mark.thorough, *slow])):
            name = f"{size.id}-{str(dtype).removeprefix('torch.')}"
            cases.append(pytest.param(*size.values, dtype, id=name, marks=[*size.marks, *marks]))
    return cases
