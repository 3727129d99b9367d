"""Which backend of this library computes, seen from its primitives and not from what was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest

from aea_kernels.backends import eager, selfcheck
from aea_kernels.core import known_calls


@contextmanager
def watched() -> Iterator[set[str]]:
    """Within it, the names of the backends whose primitives return a result are collected.

    What a kernel's self-check computes does not count. Outside of it nothing is slower.
    """
    seen: set[str] = set()
    backends = {"eager": eager}
    if find_spec("triton") is not None:
        backends["triton"] = import_module("aea_kernels.backends.triton")

    def noting(name: str, primitive: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            result = primitive(*arguments)
            seen.add(name)
            return result

        return run

    def check(use: selfcheck.Use) -> str:
        before = set(seen)
        found = verdict(use)
        seen.intersection_update(before)
        return found

    verdict = selfcheck.verdict
    known_calls.forget()  # those of before would be made again without primitives
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selfcheck, "verdict", check)
        for name, module in backends.items():
            for primitive in _own_primitives(module):
                patch.setattr(module, primitive, noting(name, getattr(module, primitive)))
        yield seen


def _own_primitives(module: ModuleType) -> list[str]:
    """Not those that all backends share."""

    def own(name: str) -> bool:
        return bool(getattr(module, name).__module__.startswith(module.__name__))

    return [name for name in module.__all__ if own(name)]


def named(seen: set[str]) -> str:
    """Of several backends, all: empty where none of this library computed."""
    return " and ".join(sorted(seen))
