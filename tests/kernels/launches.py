"""Something else in place of launching a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aea_kernels.backends.triton import algebra, launching, primitives, products

launch = launching.launch
MODULES = (algebra, launching, primitives, products)
"""All that hold it by name."""


@contextmanager
def instead_of_launch(function: Callable[..., Any]) -> Iterator[None]:
    """`function` takes the arguments of `launching.launch`."""
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "launch", function)
        yield
