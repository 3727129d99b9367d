"""The file formats of microscope makers, read by rosettasciio."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeanet.io.images import mrc
from aeanet.io.images.bruker import check_tree
from aeanet.io.images.choice import Candidate, choose
from aeanet.io.pixel_size import PixelSize

_MRC = "rsciio.mrc"

# Only readers that evaluate no text and unpickle nothing from a file. Others in rosettasciio do.
_READERS = {
    ".dm3": ("rsciio.digitalmicrograph", "DigitalMicrograph 3"),
    ".dm4": ("rsciio.digitalmicrograph", "DigitalMicrograph 4"),
    ".mrc": (_MRC, "MRC"),
    ".ser": ("rsciio.tia", "FEI TIA"),
    ".emd": ("rsciio.emd", "EMD"),
    ".bcf": ("rsciio.bruker", "Bruker"),
}
SUFFIXES = tuple(_READERS)


def decode(path: Path, image: str | None = None) -> tuple[NDArray, PixelSize | None, str, str]:
    """The one image in a file. Spectra, spectrum images and complex transforms beside it are
    ignored.

    Args:
        path: of the file.
        image: which of several images it is: a name, or a number from 1.

    Returns:
        Values (H, W), or (H, W, 3) if in colour; the pixel size; the name of the format; which
        image it is if it was chosen as the only raw one, else "".

    Raises:
        NotOneImageError: if it holds no image or several.
        Exception: for a damaged file whatever rosettasciio raises.
    """
    module, kind = _READERS[path.suffix.lower()]
    signals = load_signals(path)
    images = [signal for signal in signals if _is_image(signal)]
    real = [signal for signal in images if signal["data"].dtype.kind != "c"] or images
    candidates = [Candidate(signal, title_of(signal), _is_raw(signal, kind)) for signal in real]
    held = ", ".join(map(_describe, real or signals)) or "none"
    signal, which = choose(candidates, image, f"one 2-D image is wanted, it holds {held}")
    raw = np.squeeze(np.asarray(signal["data"]))
    if module == _MRC:
        raw = mrc.as_stored(raw, path)
    return _colours(raw), _pixel_size(signal), kind, which


def load_signals(path: Path) -> list[dict[str, Any]]:
    """All signals of a file, of a Bruker or Velox file all images. Data are read only when needed,
    unless they are in colour.
    """
    module, _ = _READERS[path.suffix.lower()]
    read = import_module(module).file_reader
    options: dict[str, Any] = {}

    # looked over first: with a damaged tree rosettasciio may not come to an end
    if module == "rsciio.bruker":
        check_tree(path)
        return read(os.fspath(path), select_type="image")

    # what rosettasciio would read in vain, or assume
    if module == "rsciio.emd":
        options["select_type"] = "images"  # spectra beside them may need more than the memory
    if module == _MRC:
        options["endianness"] = mrc.byte_order(path)

    # what cannot be read lazily, such as colours, is read at once
    try:
        return read(os.fspath(path), lazy=True, **options)
    except (NotImplementedError, ValueError):
        return read(os.fspath(path), **options)


def _axes(signal: dict[str, Any]) -> list[dict[str, Any]]:
    return [axis for axis in signal["axes"] if axis["size"] != 1]


def _is_image(signal: dict[str, Any]) -> bool:
    return len(_axes(signal)) == 2 and not any(axis.get("navigate") for axis in _axes(signal))


def _is_raw(signal: dict[str, Any], kind: str) -> bool:
    """Whether a detector wrote it. What is in colour was made of others, and so were the floats in
    an EMD file: maps of elements beside the image of the detector.
    """
    dtype = signal["data"].dtype
    return dtype.names is None and (kind != "EMD" or dtype.kind in "ui")


def title_of(signal: dict[str, Any]) -> str:
    return signal["metadata"].get("General", {}).get("title") or ""


def _describe(signal: dict[str, Any]) -> str:
    data = signal["data"]
    name = title_of(signal) or "unnamed"
    return f"{name} ({' x '.join(map(str, data.shape))} {data.dtype})"


def _pixel_size(signal: dict[str, Any]) -> PixelSize | None:
    vertical, horizontal = _axes(signal)
    header = signal["original_metadata"].get("std_header", {})
    if "MX" in header and min(vertical["scale"], horizontal["scale"], header["MX"]) <= 0:
        return None  # an MRC file without calibration
    units = horizontal["units"], vertical["units"]
    return PixelSize.of(horizontal["scale"], vertical["scale"], *units)


def _colours(raw: NDArray) -> NDArray:
    """rosettasciio's records of R, G, B (and A) -> (H, W, 3)."""
    if raw.dtype.names is None:
        return raw
    return np.stack([raw[name] for name in ("R", "G", "B")], axis=-1)
