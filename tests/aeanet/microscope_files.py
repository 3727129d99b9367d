"""Files of microscope makers: EMD by rosettasciio, and others, which it only reads, put together
byte by byte.
"""

import base64
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import rsciio.emd
from numpy.typing import NDArray


def dm3(
    image: NDArray[np.uint16],
    size: tuple[float, float],
    unit: str,
    version: int = 3,
    further: tuple[float, str] = (1.0, ""),
) -> bytes:
    """A DigitalMicrograph 3 file of one uint16 image, or a stack of them whose first axis has the
    calibration `further`: a tree of big-endian tags with little-endian data.

    Version 4 has lengths of 8 bytes instead of 4, and states how long each tag is.
    """
    whole = {3: "I", 4: "Q"}[version]

    def lengths(*values: int) -> bytes:
        return struct.pack(f">{len(values)}{whole}", *values)

    def stated(content: bytes) -> bytes:
        return lengths(len(content)) if version == 4 else b""

    def tag(name: str, *parts: bytes) -> bytes:
        content = b"%%%%" + b"".join(parts)
        return struct.pack(">BH", 21, len(name)) + name.encode() + stated(content) + content

    def number(name: str, code: int, pack: str, value: float) -> bytes:
        return tag(name, lengths(1, code), struct.pack(f"<{pack}", value))

    def array(name: str, code: int, values: bytes, count: int) -> bytes:
        return tag(name, lengths(3, 20, code, count), values)

    def content(*tags: bytes) -> bytes:
        return lengths(len(tags)) + b"".join(tags)

    def group(name: str, *tags: bytes) -> bytes:
        inside = content(*tags)
        return struct.pack(">BH", 20, len(name)) + name.encode() + b"\0\0" + stated(inside) + inside

    def axis(scale: float, unit: str) -> list[bytes]:
        units = array("Units", 4, unit.encode("utf-16-le"), len(unit))
        return [number("Origin", 6, "f", 0), number("Scale", 6, "f", scale), units]

    calibrations = [(size[0], unit), (size[1], unit), further][: image.ndim]
    data = group(
        "ImageData",
        group(
            "Calibrations",
            group("Brightness", *axis(1, "")),
            group("Dimension", *(group("", *axis(*one)) for one in calibrations)),
        ),
        array("Data", 4, image.astype("<u2").tobytes(), image.size),
        number("DataType", 5, "I", 10),
        group("Dimensions", *(number("", 5, "I", length) for length in image.shape[::-1])),
        number("PixelDepth", 5, "I", 2),
    )
    title = array("Name", 4, "grains".encode("utf-16-le"), 6)
    root = b"\0\0" + content(group("ImageList", group("", data, group("ImageTags"), title)))
    return struct.pack(">I", version) + lengths(len(root)) + struct.pack(">I", 1) + root


def dm4(image: NDArray[np.uint16], size: tuple[float, float], unit: str) -> bytes:
    return dm3(image, size, unit, version=4)


def mrc(
    image: NDArray[np.uint16], size: tuple[float, float], unit: str = "Å", samples: int = 1
) -> bytes:
    """An MRC file of one uint16 image; the format measures in Å. Without samples its cell is not
    defined.
    """
    height, width = image.shape
    grid = struct.pack(
        "<10I", width, height, 1, 6, 0, 0, 0, samples * width, samples * height, samples
    )
    cell = struct.pack("<6f3I", width * size[0], height * size[1], 1, 90, 90, 90, 1, 2, 3)
    return (grid + cell).ljust(1024, b"\0") + image.astype("<u2").tobytes()


def ser(image: NDArray[np.uint16], size: tuple[float, float], unit: str = "m") -> bytes:
    """A TIA series (ES Vision) of one uint16 image, stored from the bottom up; the format measures
    in metres.
    """
    header = struct.pack("<HHHIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 1, 1)
    dimension = struct.pack("<IddII6sI", 1, 0, 1, 0, 6, b"Number", 0)
    start = len(header) + 8 + len(dimension)
    element = struct.pack(
        "<ddIddIHII", 0, size[0], 0, 0, size[1], 0, 2, image.shape[1], image.shape[0]
    )
    data = element + image[::-1].astype("<u2").tobytes()
    offsets = struct.pack("<II", start + 8, start + 8 + len(data))
    return (
        header
        + struct.pack("<II", start, 1)
        + dimension
        + offsets
        + data
        + struct.pack("<HHI", 0x4152, 0, 0)
    )


def bcf(
    image: NDArray[np.uint16],
    size: tuple[float, float],
    unit: str = "µm",
    bse: NDArray[np.uint16] | None = None,
) -> bytes:
    """A Bruker file of one uint16 image, or SE and BSE, beside an empty map of spectra; the format
    measures in µm.

    It is a file system: chunks, a tree of its files in the first, each file's list of chunks, and
    their content.
    """
    chunk, usable = 4096, 4096 - 32
    layers = base64.b64encode(zlib.compress(b"<L/>")).decode()
    height, width = image.shape
    detected = {"SE": image} if bse is None else {"SE": image, "BSE": bse}
    planes = "".join(
        f"<Plane{index}><Description>{name}</Description><Data>"
        f"{base64.b64encode(values.astype('<u2').tobytes()).decode()}</Data></Plane{index}>"
        for index, (name, values) in enumerate(detected.items())
    )
    header = f"""<X><ClassInstance Type="TRTSpectrumDatabase" Name="a">
<Header><Date>26.11.2026</Date><Time>12:00:00</Time><FileVersion>1</FileVersion></Header>
<ClassInstance Type="TRTSEMData"><HV>15.0</HV><DX>{size[0]}</DX><DY>{size[1]}</DY></ClassInstance>
<ClassInstance Type="TRTSEMStageData"><X>0.0</X></ClassInstance>
<ClassInstance Type="TRTDSPConfiguration"><LineAverage>1</LineAverage>
<PixelAverage>1</PixelAverage><PixelTime>1</PixelTime></ClassInstance>
<ClassInstance Type="TRTImageData"><Width>{width}</Width><Height>{height}</Height>
<ItemSize>2</ItemSize><PlaneCount>{len(detected)}</PlaneCount>{planes}</ClassInstance>
<LineCounter>(1,)</LineCounter><ChCount>2</ChCount><DetectorCount>1</DetectorCount>
<SpectrumData0><ClassInstance Type="TRTSpectrum"><TRTHeaderedClass>
<ClassInstance Type="TRTSpectrumHardwareHeader"><Amplification>20000.0</Amplification>
</ClassInstance>
<ClassInstance Type="TRTDetectorHeader"><Type>X</Type>
<DetLayers>{layers}</DetLayers></ClassInstance>
<ClassInstance Type="TRTESMAHeader"><PrimaryEnergy>15.0</PrimaryEnergy>
<ElevationAngle>35.0</ElevationAngle></ClassInstance></TRTHeaderedClass>
<ClassInstance Type="TRTSpectrumHeader"><CalibAbs>0.0</CalibAbs>
<CalibLin>0.01</CalibLin></ClassInstance>
<Channels>0,1,2</Channels></ClassInstance></SpectrumData0></ClassInstance></X>""".encode()
    files = {
        b"SpectrumData0": struct.pack("<ii", height, width).ljust(0x1A0, b"\0"),
        b"HeaderData": header,
    }
    tree = struct.pack("<iQ24xIi176x?3x256s32x", 0, 0, 0, -1, True, b"EDSDatabase")
    content = b""
    for name, data in files.items():
        parts = [data[i : i + usable] for i in range(0, len(data), usable)]
        first = 2 + len(content) // chunk
        tree += struct.pack("<iQ24xIi176x?3x256s32x", first, len(data), 0, 0, False, name)
        for part in (
            struct.pack(f"<{len(parts)}I", *range(first + 1, first + 1 + len(parts))),
            *parts,
        ):
            content += bytes(32) + part.ljust(usable, b"\0")
    start = b"AAMVHFSS".ljust(0x124, b"\0") + struct.pack("<fI", 2.4, chunk)
    start = start.ljust(0x140, b"\0") + struct.pack(
        "<III", 1, 1 + len(files), 2 + len(content) // chunk
    )
    return start.ljust(0x118 + chunk, b"\0") + bytes(32) + tree.ljust(usable, b"\0") + content


def emd(
    path: Path,
    *images: NDArray,
    unit: str = "nm",
    scale: float = 0.5,
    navigate: int = 0,
    last_unit: str | None = None,
) -> Path:
    """An NCEM EMD file of rosettasciio's; its first `navigate` axes are no axes of the image. The
    last axis, x, may have another unit.
    """
    for index, image in enumerate(images):
        axes = [
            {
                "size": side,
                "name": f"axis{i}",
                "scale": scale,
                "offset": 0.0,
                "units": last_unit or unit if i == image.ndim - 1 else unit,
                "navigate": i < navigate,
            }
            for i, side in enumerate(image.shape)
        ]
        title = {"General": {"title": f"signal{index}"}, "Signal": {}}
        part = path if index == 0 else path.with_suffix(f".{index}.emd")
        rsciio.emd.file_writer(
            part, {"data": image, "axes": axes, "metadata": title, "original_metadata": {}}
        )
        if index:
            with h5py.File(path, "r+") as whole, h5py.File(part) as one:
                one.copy(f"signals/signal{index}", whole["signals"])
            part.unlink()
    return path
