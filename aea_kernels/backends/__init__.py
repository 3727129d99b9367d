"""The backends: one file or folder each, never importing one another, and the choice between
them.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType, TracebackType

import torch

from . import eager

BACKENDS = ("auto", "eager", "triton")
AUTO_ON_CUDA = "eager"
"""Whom "auto" asks for tensors on a CUDA device: "triton" once all tests of the kernels have passed
on one.
"""
kernels_run_on_cpu = False
"""Whether something stands in for a GPU, so that compiled kernels run on CPU tensors: set by tests.
Triton's interpreter does not need it.
"""
_chosen = "auto"
"""A plain global, for the whole process: torch.compile guards on it, which it cannot on a context
variable.
"""


class use_backend:
    """Choose who computes, in the whole process: ``"auto"``, ``"eager"`` or ``"triton"``.

    "eager" is PyTorch's operations, on any device. "triton" is the Triton kernels, on CUDA devices.
    "auto", the default, is eager, on CUDA devices too: the kernels agree with it in Triton's
    interpreter, but not yet in all tests on a device.

    As a function, ``use_backend("eager")``, it holds from then on; as a context manager, ``with
    use_backend("eager"):``, until the end of the block. A backward pass runs on the backend of its
    forward pass. There is no silent fallback: where "triton" cannot run, the first call raises
    RuntimeError.

    Raises:
        ValueError: the name is not one of these.
    """

    def __init__(self, name: str) -> None:
        global _chosen
        if name not in BACKENDS:
            expected = ", ".join(map(repr, BACKENDS))
            raise ValueError(f"backend is {name!r}, expected one of {expected}")
        self._before = _chosen
        _chosen = name

    def __enter__(self) -> use_backend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _chosen
        _chosen = self._before


def backend_name() -> str:
    """What was asked for: one of `BACKENDS`."""
    return _chosen


def resolved(name: str, device: torch.device) -> str:
    """Who computes for tensors on `device` where `name` was asked for: "eager" or "triton"."""
    if name != "auto":
        return name
    return AUTO_ON_CUDA if device.type == "cuda" else "eager"


def primitives(name: str, device: torch.device) -> ModuleType:
    """The module of the primitives of `core/ops.py` and `families/ops.py`, for tensors on `device`.

    Raises:
        RuntimeError: the backend cannot run there.
    """
    if resolved(name, device) == "eager":
        return eager
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not (interpreted or kernels_run_on_cpu):
        raise RuntimeError(
            f"backend 'triton' cannot run on {device}: it needs a CUDA device, "
            "or TRITON_INTERPRET=1 in the environment before the first import of triton"
        )
    try:
        return sys.modules.get(f"{__name__}.triton") or import_module(".triton", __name__)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"backend 'triton' cannot run: {error}") from error
