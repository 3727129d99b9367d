"""The number format in which a network computes, for training and for prediction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
"""auto: bfloat16 where the machine multiplies it natively and the network loses next to nothing."""

# Names of `torch.cpu.get_capabilities`: instructions of Intel and AMD, and of Arm.
_NATIVE = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
_LEAST_GPU = (8, 0)  # compute capability


@contextmanager
def computing_in(precision: Precision, device: "torch.device") -> Iterator[None]:
    """Within it, convolutions run in that precision; weights and statistics stay as they are."""
    import torch

    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


def multiplies_bfloat16(device: "torch.device") -> bool:
    """Whether a processor or GPU has instructions for products of bfloat16. Others compute them by
    way of float32, which is slower than float32 alone.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _LEAST_GPU
    has = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(has.get(name, False) for name in _NATIVE)
