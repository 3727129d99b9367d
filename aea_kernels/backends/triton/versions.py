"""Versions of the compilers that are known to make wrong code, and what is done about each.

Triton turns a kernel into PTX, and ptxas, a tool of CUDA that Triton brings, turns PTX into machine
code. On Hopper (sm_90) both have had faults with products of matrices on tensor cores:

- ptxas before 13.3 may overwrite registers that an asynchronous product still reads
  (triton-lang/triton pull request 11781), and 12.8 made wrong code of two kernels of
  flash-linear-attention (its pull request 1262). Kernels here have such products. Triton 3.6 and
  3.7 bring 12.8.93 for Hopper and Triton 3.8 brings 12.9.86, so refusing them would refuse
  everyone: the first kernel on a Hopper warns.
- Triton 3.4 to 3.7.0 computes the product of a transposed product wrongly
  (flash-linear-attention issue 640). No kernel here transposes a product, and
  tests/kernels/test_compiled.py looks for it in all of them, so nothing is said.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from subprocess import SubprocessError
from typing import NamedTuple


class Fault(NamedTuple):
    """A fault of ptxas for some architectures."""

    architectures: tuple[int, ...]
    """90 for sm_90, and so on."""
    fixed: tuple[int, ...]
    """The first version without it."""
    refused: bool
    """Kernels are not run; otherwise a warning is given."""
    what: str


FAULTS = (
    Fault(
        architectures=(90,),
        fixed=(13, 3),
        refused=False,
        what="may overwrite registers that a product of matrices still reads, and so give wrong "
        "numbers (github.com/triton-lang/triton/pull/11781, "
        "github.com/fla-org/flash-linear-attention/pull/1262)",
    ),
)


class RefusedError(RuntimeError):
    """Kernels are not run with the versions at hand."""


def check(architecture: int) -> None:
    """Warn of known faults of the ptxas that builds kernels for an architecture, 90 for sm_90.

    Raises:
        RefusedError: its version is refused.
    """
    for fault in FAULTS:
        # passed over: other architectures, a ptxas that cannot be told, and one without the fault
        version = assembler(architecture) if architecture in fault.architectures else None
        if version is None or version >= fault.fixed:
            continue

        # a warning where to refuse the version would refuse everyone
        wanted = ".".join(map(str, fault.fixed))
        message = (
            f"ptxas {'.'.join(map(str, version))}, which builds kernels for sm_{architecture}, "
            f"{fault.what}: set TRITON_PTXAS_PATH to a ptxas of CUDA {wanted} or later; Triton 3.8 "
            "brings one, triton/backends/nvidia/bin/ptxas-blackwell"
        )
        if fault.refused:
            raise RefusedError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


@lru_cache
def assembler(architecture: int) -> tuple[int, ...] | None:
    """The version of the ptxas that Triton uses for an architecture; None where it cannot be told,
    as for AMD's cards.
    """
    try:
        from triton.backends.nvidia.compiler import get_ptxas_version

        text = get_ptxas_version(architecture)
    except (ImportError, OSError, RuntimeError, SubprocessError):
        return None
    found = re.search(r"V(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(number) for number in found.groups()) if found else None
