"""Files of microscope makers: EMD by rosettasciio, and others, which it only reads, put together byte by byte."""

import struct
from pathlib import Path

import h5py
import numpy as np
import rsciio.emd
from numpy.typing import NDArray


def dm3(image: NDArray[np.uint16], size: tuple[float, float], unit: str) -> bytes:
    """A DigitalMicrograph 3 file of one uint16 image: a tree of big-endian tags with little-endian data."""

    def tag(name: str, *parts: bytes) -> bytes:
        return struct.pack(">BH", 21, len(name)) + name.encode() + b"%%%%" + b"".join(parts)

    def number(name: str, code: int, pack: str, value: float) -> bytes:
        return tag(name, struct.pack(">II", 1, code), struct.pack(f"<{pack}", value))

    def array(name: str, code: int, values: bytes, count: int) -> bytes:
        return tag(name, struct.pack(">IIII", 3, 20, code, count), values)

    def content(*tags: bytes) -> bytes:
        return struct.pack(">BBI", 0, 0, len(tags)) + b"".join(tags)

    def group(name: str, *tags: bytes) -> bytes:
        return struct.pack(">BH", 20, len(name)) + name.encode() + content(*tags)

    def axis(scale: float, unit: str) -> list[bytes]:
        units = array("Units", 4, unit.encode("utf-16-le"), len(unit))
        return [number("Origin", 6, "f", 0), number("Scale", 6, "f", scale), units]

    data = group(
        "ImageData",
        group(
            "Calibrations",
            group("Brightness", *axis(1, "")),
            group("Dimension", group("", *axis(size[0], unit)), group("", *axis(size[1], unit))),
        ),
        array("Data", 4, image.astype("<u2").tobytes(), image.size),
        number("DataType", 5, "I", 10),
        group("Dimensions", number("", 5, "I", image.shape[1]), number("", 5, "I", image.shape[0])),
        number("PixelDepth", 5, "I", 2),
    )
    title = array("Name", 4, "grains".encode("utf-16-le"), 6)
    root = content(group("ImageList", group("", data, group("ImageTags"), title)))
    return struct.pack(">III", 3, len(root), 1) + root


def mrc(image: NDArray[np.uint16], size: tuple[float, float], unit: str = "Å", samples: int = 1) -> bytes:
    """An MRC file of one uint16 image; the format measures in Å. Without samples its cell is not defined."""
    height, width = image.shape
    grid = struct.pack("<10I", width, height, 1, 6, 0, 0, 0, samples * width, samples * height, samples)
    cell = struct.pack("<6f3I", width * size[0], height * size[1], 1, 90, 90, 90, 1, 2, 3)
    return (grid + cell).ljust(1024, b"\0") + image.astype("<u2").tobytes()


def ser(image: NDArray[np.uint16], size: tuple[float, float], unit: str = "m") -> bytes:
    """A TIA series (ES Vision) of one uint16 image, stored from the bottom up; the format measures in metres."""
    header = struct.pack("<HHHIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 1, 1)
    dimension = struct.pack("<IddII6sI", 1, 0, 1, 0, 6, b"Number", 0)
    start = len(header) + 8 + len(dimension)
    element = struct.pack("<ddIddIHII", 0, size[0], 0, 0, size[1], 0, 2, image.shape[1], image.shape[0])
    data = element + image[::-1].astype("<u2").tobytes()
    offsets = struct.pack("<II", start + 8, start + 8 + len(data))
    return header + struct.pack("<II", start, 1) + dimension + offsets + data + struct.pack("<HHI", 0x4152, 0, 0)


def emd(path: Path, *images: NDArray, unit: str = "nm", scale: float = 0.5, navigate: int = 0) -> Path:
    """An NCEM EMD file of rosettasciio's; its first `navigate` axes are no axes of the image."""
    for index, image in enumerate(images):
        axes = [
            {"size": side, "name": f"axis{i}", "scale": scale, "offset": 0.0, "units": unit, "navigate": i < navigate}
            for i, side in enumerate(image.shape)
        ]
        title = {"General": {"title": f"signal{index}"}, "Signal": {}}
        part = path if index == 0 else path.with_suffix(f".{index}.emd")
        rsciio.emd.file_writer(part, {"data": image, "axes": axes, "metadata": title, "original_metadata": {}})
        if index:
            with h5py.File(path, "r+") as whole, h5py.File(part) as one:
                one.copy(f"signals/signal{index}", whole["signals"])
            part.unlink()
    return path
