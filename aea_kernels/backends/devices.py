"""GPUs that a call can be planned for, as their data sheets have them."""

from __future__ import annotations

from typing import NamedTuple


class Device(NamedTuple):
    """A GPU as its data sheet has it."""

    bandwidth: float
    """Bytes a second."""
    architecture: int
    multiprocessors: int


DEVICES = {
    "a10": Device(0.600e12, 86, 72),
    "a100": Device(1.555e12, 80, 108),
    "a100-80gb": Device(2.039e12, 80, 108),
    "b200": Device(8.0e12, 100, 148),
    "h100": Device(3.35e12, 90, 132),
    "h200": Device(4.8e12, 90, 132),
    "l4": Device(0.300e12, 89, 58),
    "l40s": Device(0.864e12, 89, 142),
    "rtx3090": Device(0.936e12, 86, 82),
    "rtx4090": Device(1.008e12, 89, 128),
}
"""By the names that `explain` takes; SXM versions where there are several."""
