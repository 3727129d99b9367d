"""GPUs that a call can be planned for, as their data sheets have them."""

from __future__ import annotations

from typing import NamedTuple

from ..core.precision import PRODUCTS_OF_16_BITS
from .recording import Launch

FP32_LANES = {80: 64}
"""Units for float32 of a multiprocessor, by architecture; others have 128."""

FP64_SHARE = {80: 2, 90: 2, 100: 2}
"""One unit for float64 for so many for float32; other architectures have one for 64."""

HOST_SECONDS = 10e-6
"""Of the host for each launch of a kernel, with its share of Python and PyTorch, from the second
call for a shape on: an order of magnitude.
"""

SHARED_BYTES = 128
"""That a multiprocessor reads from shared memory in a clock."""


class Device(NamedTuple):
    """A GPU as its data sheet has it."""

    bandwidth: float
    """Bytes a second."""
    architecture: int
    multiprocessors: int
    clock: float
    """Hertz, the highest."""
    tensor_cores: float
    """FLOPs a second, dense, of factors in bfloat16 that are summed in float32."""

    def flops(self, products: str, itemsize: int) -> float:
        """A second, by way of multiplying feature maps of so many bytes a number.

        Args:
            products: of `core.precision.multiplication`.
            itemsize: 2, 4 or 8.
        """
        if products != "ieee":
            return self.tensor_cores / PRODUCTS_OF_16_BITS[products]
        lanes = FP32_LANES.get(self.architecture, 128)
        share = FP64_SHARE.get(self.architecture, 64) if itemsize == 8 else 1
        return 2 * lanes * self.multiprocessors * self.clock / share

    @property
    def shared_bandwidth(self) -> float:
        """Bytes a second that all multiprocessors read from shared memory."""
        return SHARED_BYTES * self.multiprocessors * self.clock


DEVICES = {
    "a10": Device(0.600e12, 86, 72, 1.695e9, 125e12),
    "a100": Device(1.555e12, 80, 108, 1.41e9, 312e12),
    "a100-80gb": Device(2.039e12, 80, 108, 1.41e9, 312e12),
    "b200": Device(8.0e12, 100, 148, 1.965e9, 2250e12),
    "h100": Device(3.35e12, 90, 132, 1.98e9, 989e12),
    "h200": Device(4.8e12, 90, 132, 1.98e9, 989e12),
    "l4": Device(0.300e12, 89, 58, 2.04e9, 121e12),
    "l40s": Device(0.864e12, 89, 142, 2.52e9, 362e12),
    "rtx3090": Device(0.936e12, 86, 82, 1.695e9, 71e12),
    "rtx4090": Device(1.008e12, 89, 128, 2.52e9, 165e12),
}
"""By the names that `explain` takes; SXM versions where there are several."""


def slowest(launch: Launch, moved: float, itemsize: int, device: Device) -> str:
    """What a launch waits for: `Launch.waits_for`.

    Args:
        moved: bytes of feature maps, sums and matrices.
        itemsize: of a number of the feature maps, in bytes.
    """
    seconds = {"host": HOST_SECONDS, "memory": moved / device.bandwidth}
    if launch.flops:
        seconds["arithmetic"] = launch.flops / device.flops(launch.products, itemsize)
        seconds["shared memory"] = launch.shared / device.shared_bandwidth
    return max(seconds, key=seconds.__getitem__)
