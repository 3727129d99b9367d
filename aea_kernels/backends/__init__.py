"""The backends: one file or folder each, never importing one another, and the choice between
them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import torch

from . import eager, selfcheck

BACKENDS = ("auto", "eager", "triton")
LEAST_ARCHITECTURE = 75
"""Triton builds kernels for no older card."""
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
    "auto", the default, is the kernels on NVIDIA's cards from sm_75 on, each once it agreed with
    eager there (`backends.selfcheck`), and eager elsewhere; `chosen_backend` says which, and why.

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


class Choice(NamedTuple):
    """Who computes, and why."""

    name: str
    """"eager" or "triton"."""
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def chosen_backend(device: torch.device | str) -> Choice:
    """Who computes for tensors on `device`, and why.

    With "auto" on a CUDA device the answer is that of the machine; a kernel that fails its own
    check there is replaced by eager when it is first used, with a warning.
    """
    if _chosen != "auto":
        return Choice(_chosen, "use_backend asks for it")
    if torch.device(device).type != "cuda":
        return Choice("eager", "the kernels are for CUDA devices")
    return _choice_on_cuda()


@cache
def _choice_on_cuda() -> Choice:
    if find_spec("triton") is None:
        return Choice("eager", "the package triton is not installed: pip install triton")
    if torch.version.hip is not None:
        return Choice("eager", "the kernels were not yet tried on AMD's cards")
    if not torch.cuda.is_available():
        return Choice("triton", "the kernels are for CUDA devices; there is none here to check")

    # one answer for all cards of the machine: that of the oldest
    capabilities = [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]
    oldest = min(10 * major + minor for major, minor in capabilities)
    if oldest < LEAST_ARCHITECTURE:
        least = f"sm_{LEAST_ARCHITECTURE}"
        return Choice("eager", f"a card here is sm_{oldest}, and the kernels need {least} or later")

    # launching anything at all is tried last: it calls a compiler
    problem = _launcher_problem()
    if problem:
        return Choice("eager", problem)
    return Choice("triton", f"sm_{oldest}, with Triton {metadata.version('triton')}")


def _launcher_problem() -> str:
    """Empty where Triton can build what launches kernels, else what is in the way."""
    # Triton raises errors of many kinds here: of its own import, of the compiler, of the driver
    try:
        from triton.runtime import driver

        _ = driver.active.utils
    except Exception as error:
        where = "Triton cannot launch kernels here, for which it needs a C compiler and Python.h"
        return f"{where}: {selfcheck.first_line(error)}"
    return ""


def _auto_on_cuda() -> str:
    return _choice_on_cuda().name


# as `torch.compiler.assume_constant_result` does, which would import its compiler: it cannot trace
# the question, whose answer is the same for the whole process
_auto_on_cuda._dynamo_marked_constant = True  # type: ignore[attr-defined]


def resolved(name: str, device: torch.device) -> str:
    """Who computes for tensors on `device` where `name` was asked for: "eager" or "triton"."""
    if name != "auto":
        return name
    return _auto_on_cuda() if device.type == "cuda" else "eager"


def run(operator: str, inputs: Sequence[Any], name: str) -> Any:
    """An operator of `core/ops.py` or `families/ops.py` by the backend `name`.

    Raises:
        RuntimeError: the backend was asked for, and cannot run there.
    """
    device = inputs[0].device
    if name == "auto" and resolved(name, device) == "triton":
        return selfcheck.call(operator, inputs)
    return getattr(primitives(name, device), operator)(*inputs)


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
