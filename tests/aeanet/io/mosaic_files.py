"""Images for the tests of mosaics."""

from pathlib import Path

import numpy as np
import zarr

from aeanet.io.images import PixelSize

RANDOM = np.random.default_rng(0)


NANOMETRES = PixelSize(3.0, 4.0, "nm")


def image(dtype: str, shape: tuple[int, int] = (150, 203)) -> np.ndarray:
    values = RANDOM.random(shape)
    return (
        values.astype(dtype)
        if dtype.startswith("float")
        else (values * np.iinfo(dtype).max).astype(dtype)
    )


def write_zarr(path: Path, values: np.ndarray) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("fine", shape=(1, *values.shape), dtype=values.dtype, chunks=(1, 64, 64))[
        0
    ] = values
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [
                {"name": "c", "type": "channel"},
                *({"name": n, "type": "space", "unit": "nanometer"} for n in "yx"),
            ],
            "datasets": [
                {
                    "path": "fine",
                    "coordinateTransformations": [{"type": "scale", "scale": [1, 4.0, 3.0]}],
                }
            ],
        }
    ]
