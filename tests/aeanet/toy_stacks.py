"""What the tests of stacks share: a network that changes nothing, and a volume, in files too."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from PIL import Image

from aeanet.inference.stack_files import RestoredStack, restore_stack_file
from aeanet.io.ome_zarr import create_zarr
from aeanet.io.stacks import open_stack
from aeanet.networks.base import Network


class Identity(Network):
    """Gives each image back; `shift` is added to it."""

    magnification = 1.0

    def __init__(self, shift: float = 0.0, fits_range: bool = False) -> None:
        super().__init__({"name": "identity"})
        self.shift = torch.nn.Parameter(torch.tensor(shift))
        self.fits_range = fits_range

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.shift


def restored(model: Network, path: Path, target: Path, **options: Any) -> RestoredStack:
    axes = options.pop("axes", None)
    with open_stack(path, axes=axes) as stack:
        return restore_stack_file(model, stack, target, **options)


def volume(seed: int = 0, planes: int = 5, side: int = 40) -> NDArray[np.uint16]:
    """Slices of a pattern whose exposure changes from slice to slice."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, : side + 8]
    pattern = 0.2 * np.sin(x / 3) * np.cos(y / 5)
    slices = [
        0.3 + 0.02 * number + pattern + random.normal(0, 0.02, pattern.shape)
        for number in range(planes)
    ]
    return np.rint(np.clip(slices, 0, 1) * 20000).astype(np.uint16)


def write_volume(folder: Path, name: str, values: NDArray) -> Path:
    """A volume in a file of the kind that its name says."""
    path = folder / name
    if name.endswith(".zarr"):
        chunks = (1, *values.shape[1:])
        create_zarr(path, "ZYX", values.shape, values.dtype, chunks, {"Z": (30.0, "nm")})
        zarr.open_array(path / "0", mode="r+")[:] = values
    elif name.endswith(".mrc"):
        path.write_bytes(mrc_of(values))
    elif name.endswith(".tif"):
        metadata = {"axes": "ZYX", "spacing": 30.0, "unit": "nm"}
        tifffile.imwrite(path, values, imagej=True, metadata=metadata)
    else:
        path.mkdir()
        for number, plane in enumerate(values):
            Image.fromarray(plane).save(path / f"{number}.png")
    return path


def mrc_of(values: NDArray[np.uint16]) -> bytes:
    depth, height, width = values.shape
    size = np.array([width, height, depth, 6, 0, 0, 0, width, height, depth], "<i4").tobytes()
    cell = np.array([2.0 * width, 2.0 * height, 30.0 * depth, 90, 90, 90], "<f4").tobytes()
    head = (size + cell + np.array([1, 2, 3], "<i4").tobytes()).ljust(1024, b"\0")
    return head + values.astype("<u2").tobytes()
