"""`python -m aea_kernels.verify`: every kernel against PyTorch in float64, on this machine.

Prints a table, and exits with 1 where a kernel is wrong, with 2 where none can run. On a machine
without a GPU the kernels run in Triton's interpreter if TRITON_INTERPRET=1 is set.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import torch

from .backends import selfcheck
from .backends.samples import samples
from .core.precision import multiplication

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PRECISIONS = ("highest", "high", "medium")
NOTHING_RAN = 2  # exit code


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m aea_kernels.verify", description=__doc__)
    parser.add_argument("--device", help="cuda, cuda:1 or cpu (default: cuda where there is one)")
    return parser.parse_args()


def main() -> int:
    # on a CPU only Triton's interpreter runs the kernels
    chosen = parsed().device
    device = torch.device(chosen or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        print("There is no GPU: set TRITON_INTERPRET=1 to run the kernels in Triton's interpreter.")
        return NOTHING_RAN

    # to name the versions needs the package triton, so it also tells whether that is there
    try:
        print(machine(device))
    except metadata.PackageNotFoundError as error:
        print(f"The package {error.name} is not installed, so there are no kernels to verify.")
        return NOTHING_RAN

    # kernels multiply float32 in several ways, the dtypes of 16 bits in one
    faults = 0
    for dtype in DTYPES:
        for precision in PRECISIONS if dtype == torch.float32 else ("highest",):
            with float32_precision(precision):
                for line, wrong in rows(dtype, device):
                    print(line)
                    faults += wrong
    print(f"{faults} faults" if faults else "All kernels agree with PyTorch.")
    return 1 if faults else 0


def machine(device: torch.device) -> str:
    """Versions, and the card where there is one."""
    if device.type == "cuda":
        return selfcheck.machine_key(device)
    triton = metadata.version("triton")
    return f"{platform.machine()}, torch {torch.__version__}, triton {triton}, interpreted"


def rows(dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, bool]]:
    """A line for each operator and kind, and whether its kernel is wrong."""
    mode = multiplication(dtype)
    name = str(dtype).removeprefix("torch.")
    for sample in samples(dtype, device):
        wrong = selfcheck.fault(sample, mode)
        width = "wide" if sample.wide else ""
        where = f"{sample.operator:<32}{sample.kind:<8}{width:<6}{name:<10}{mode:<8}"
        yield f"{where}{wrong or 'right'}", bool(wrong)


@contextmanager
def float32_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


if __name__ == "__main__":
    sys.exit(main())
