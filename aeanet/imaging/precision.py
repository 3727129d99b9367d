"""The number format in which a network computes, for training and for prediction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
"""auto: bfloat16 where the machine multiplies it natively and the network loses next to nothing."""


@contextmanager
def computing_in(precision: Precision, device: "torch.device") -> Iterator[None]:
    """Within it, convolutions run in that precision; weights and statistics stay as they are."""
    import torch

    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield
