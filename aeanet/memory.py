"""How much memory a network needs for an image, and the largest tile that fits into what is free."""

import math
import weakref
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aeanet.tiling import reach_of

PROBE = 256  # side of the image on which the need is measured
SHARE = 0.6  # of what is free: the rest for libraries' own workspaces, and for the image itself
STEP = 64  # sizes of tiles that are offered, px


class _Live(TorchDispatchMode):
    """Adds up the bytes of the tensors that exist at a time, from their first appearance within it to their end."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
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


@lru_cache(maxsize=1)  # a folder of images is restored with one model
def bytes_per_pixel(model: nn.Module) -> float:
    """Peak of the memory of all tensors that a network makes, over the pixels of its image: measured on a small one."""
    parameter = next(model.parameters())
    image = torch.zeros(1, 1, PROBE, PROBE, dtype=parameter.dtype, device=parameter.device)
    live = _Live()
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"), live:
        model.eval()(image)
    return live.peak / PROBE**2


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU, or of the machine, that nothing uses now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def largest_tile(model: nn.Module, shape: tuple[int, int]) -> int | None:
    """Side of the largest tile (px, a multiple of 64) that fits into the free memory; None if the whole image does.

    Raises TilingError as `reach_of`; MemoryError if not even the smallest tile fits.
    """
    pixels = SHARE * free_bytes(next(model.parameters()).device) / bytes_per_pixel(model)
    if math.prod(shape) <= pixels:
        return None
    halo = reach_of(model).halo
    side = (math.isqrt(int(pixels)) - 2 * halo) // STEP * STEP
    if side < max(STEP, halo):
        raise MemoryError("not enough memory for the smallest tile")
    return side
