"""The file formats of microscope makers, read by rosettasciio."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images.bruker import check_tree
from aeanet.io.images.micrograph import NotOneImageError
from aeanet.io.pixel_size import PixelSize

# Only readers that evaluate no text and unpickle nothing from a file. Others in rosettasciio do.
_READERS = {
    ".dm3": ("rsciio.digitalmicrograph", "DigitalMicrograph 3"),
    ".dm4": ("rsciio.digitalmicrograph", "DigitalMicrograph 4"),
    ".mrc": ("rsciio.mrc", "MRC"),
    ".ser": ("rsciio.tia", "FEI TIA"),
    ".emd": ("rsciio.emd", "EMD"),
    ".bcf": ("rsciio.bruker", "Bruker"),
}
SUFFIXES = tuple(_READERS)


def decode(path: Path) -> tuple[NDArray, PixelSize | None, str]:
    """The one image in a file. Spectra, spectrum images and complex transforms beside it are
    ignored.

    Returns:
        Values (H, W), or (H, W, 3) if in colour; the pixel size; the name of the format.

    Raises:
        NotOneImageError: if it holds no image or several.
        Exception: for a damaged file whatever rosettasciio raises.
    """
    module, kind = _READERS[path.suffix.lower()]
    signals = _load(module, path)
    images = [signal for signal in signals if _is_image(signal)]
    real = [signal for signal in images if signal["data"].dtype.kind != "c"] or images
    if len(real) != 1:
        raise NotOneImageError(
            f"one 2-D image is wanted, it holds {', '.join(map(_describe, signals)) or 'none'}"
        )
    raw = np.squeeze(np.asarray(real[0]["data"]))
    return _colours(raw), _pixel_size(real[0]), kind


def _load(module: str, path: Path) -> list[dict[str, Any]]:
    """All signals of a file, of a Bruker file all images. Data are read only when needed, unless
    they are in colour.
    """
    read = import_module(module).file_reader
    if module == "rsciio.bruker":
        check_tree(path)
        return read(os.fspath(path), select_type="image")
    try:
        return read(os.fspath(path), lazy=True)
    except (NotImplementedError, ValueError):
        return read(os.fspath(path))


def _axes(signal: dict[str, Any]) -> list[dict[str, Any]]:
    return [axis for axis in signal["axes"] if axis["size"] != 1]


def _is_image(signal: dict[str, Any]) -> bool:
    return len(_axes(signal)) == 2 and not any(axis.get("navigate") for axis in _axes(signal))


def _describe(signal: dict[str, Any]) -> str:
    name = signal["metadata"].get("General", {}).get("title") or "unnamed"
    data = signal["data"]
    return f"{name} ({' x '.join(map(str, data.shape))} {data.dtype})"


def _pixel_size(signal: dict[str, Any]) -> PixelSize | None:
    vertical, horizontal = _axes(signal)
    header = signal["original_metadata"].get("std_header", {})
    if "MX" in header and min(vertical["scale"], horizontal["scale"], header["MX"]) <= 0:
        return None  # an MRC file without calibration
    if vertical["units"] != horizontal["units"]:
        return None
    return PixelSize.of(horizontal["scale"], vertical["scale"], horizontal["units"])


def _colours(raw: NDArray) -> NDArray:
    """rosettasciio's records of R, G, B (and A) -> (H, W, 3)."""
    if raw.dtype.names is None:
        return raw
    return np.stack([raw[name] for name in ("R", "G", "B")], axis=-1)
