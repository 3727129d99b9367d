"""The memory that a network needs, and the largest tile that fits into the free memory."""

import ctypes
import math
import os
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aeanet.imaging.precision import Precision, computing_in
from aeanet.inference.reach import reach_of, uncompiled

PROBE = 128  # side of the image on which the need is measured
SHARE = 0.6  # of the free memory; the rest is for the image and the workspaces of libraries
STEP = 64  # px; sides of tiles are multiples of it
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # options of glibc's mallopt
TILES_EACH = 4  # at least, for each of several processes, so that all have about as many


class _Live(TorchDispatchMode):
    """Within it, the bytes of the tensors that exist are counted.

    Attributes:
        bytes: of the tensors that exist now.
        peak: the most that existed at the same time.
        known: the storages that are counted, by their id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known: dict[int, weakref.ref[Any]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """To keep compiled code out of a mode, PyTorch would import `torch._dynamo`, which takes
        seconds. Nothing compiled runs within this one.
        """
        return False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.known:
            return

        def gone(_: object) -> None:
            del self.known[key]
            self.bytes -= size

        self.known[key] = weakref.ref(storage, gone)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)


_measured: weakref.WeakKeyDictionary[nn.Module, dict[Any, float]] = weakref.WeakKeyDictionary()
"""What `bytes_per_pixel` found for a network, by precision, type and device."""


def bytes_per_pixel(model: nn.Module, precision: Precision = "float32") -> float:
    """Peak bytes of the tensors that a network makes, per pixel of its image, measured once, on a
    small image.
    """
    parameter = next(model.parameters())
    key = precision, parameter.dtype, parameter.device
    known = _measured.setdefault(model, {})
    if key not in known:
        image = torch.zeros(1, 1, PROBE, PROBE, dtype=parameter.dtype, device=parameter.device)
        live = _Live()
        with torch.inference_mode(), uncompiled(), computing_in(precision, parameter.device), live:
            model.eval()(image)
        known[key] = live.peak / PROBE**2
    return known[key]


def keep_freed_memory() -> None:
    """Keep blocks that are freed, for the next image: to give them back to the system and get them
    again takes up to a quarter of the time of four flips. Only glibc can be told so.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no such library: Windows, macOS, musl
        return
    # Before glibc 2.35 blocks may have 32 MB. The second option alone would make all slower.
    if any(set_option(_MMAP_THRESHOLD, size) for size in (2**30, 2**25)):
        set_option(_TRIM_THRESHOLD, 2**30)


def free_bytes(device: torch.device) -> int:
    """The free memory of a GPU, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def largest_tile(
    model: nn.Module,
    shape: tuple[int, int],
    precision: Precision = "float32",
    group: ProcessGroup | None = None,
) -> int | None:
    """Side of the largest tile (px, a multiple of 64) that fits into the free memory.

    It is the same on all processes of `group`: it fits into the memory of each, and leaves tiles
    for each.

    Args:
        model: the network.
        shape: (H, W) of the result.
        precision: of the convolutions.
        group: the processes that share the tiles.

    Returns:
        The side; None if the whole image fits.

    Raises:
        TilingError: as `reach_of`.
        MemoryError: if not even the smallest tile fits.
    """
    # the pixels whose tensors fit at the peak
    device = next(model.parameters()).device
    pixels = int(SHARE * free_bytes(device) / bytes_per_pixel(model, precision))
    if group is None and math.prod(shape) <= pixels:
        return None

    # what fits in every process is the least of what fits in each
    if group is not None:
        if device.type == "cpu":  # which the processes of a machine share
            pixels //= int(os.environ.get("LOCAL_WORLD_SIZE", group.size()))
        least = torch.tensor(pixels, device=device)
        torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN, group=group)
        pixels = int(least)

    # the tile with its halo must fit, on both sides
    halo = reach_of(model).halo
    side = (math.isqrt(pixels) - 2 * halo) // STEP * STEP
    if group is not None:
        # Smaller tiles, so that each process gets several.
        share = math.isqrt(math.prod(shape) // (TILES_EACH * group.size()))
        side = min(side, max(share // STEP, 1) * STEP)
    if side < max(STEP, halo):
        raise MemoryError("not enough memory for the smallest tile")
    return side
