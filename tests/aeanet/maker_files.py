"""Small files as makers of microscopes write them, put together from the published layouts."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

WIDTH, HEIGHT = 40, 30
GREY = np.random.default_rng(0).integers(20, 230, (HEIGHT, WIDTH)).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 200

ASCII, BYTE = 2, 1  # types of TIFF tags


def tiff(path: Path, *tags: tuple[int, int, bytes], image: NDArray = GREY, **options: Any) -> Path:
    """A TIFF of one page with tags of a maker: code, type and content."""
    extra = [
        (code, kind, None if kind == ASCII else len(content), content, True)
        for code, kind, content in tags
    ]
    settings = {"photometric": "minisblack", "metadata": None} | options
    tifffile.imwrite(path, image, extratags=extra, **settings)
    return path


def fei_camera(path: Path) -> Path:
    """A picture of FEI's Nav-Cam: no section Scan, its field of view in that of the IR beam."""
    text = (
        f"[Beam]\r\nBeam=IRBeam\r\nScan=\r\n[IRBeam]\r\nHFW={WIDTH * 264e-6}\r\n"
        f"VFW={HEIGHT * 265e-6}\r\n[Image]\r\nResolutionX={WIDTH}\r\nResolutionY={HEIGHT}\r\n"
        "[Detectors]\r\nName=Nav-Cam\r\n"
    )
    return tiff(path, (34682, ASCII, text.encode()))


def thermo_xml(path: Path, below: bool = False) -> Path:
    """Thermo Fisher's XML, with an empty tag of the older kind, or below its sections."""
    text = (
        '<?xml version="1.0"?><Metadata xmlns:nil="http://schemas.fei.com/Metadata/v1/2013/07">'
        "<Instrument><Manufacturer>Thermo Fisher</Manufacturer></Instrument><BinaryResult>"
        '<PixelSize><X unit="m">2.5E-09</X><Y unit="m">2.6E-09</Y></PixelSize>'
        "</BinaryResult></Metadata>"
    )
    if below:
        return tiff(path, (34682, ASCII, b"[User]\r\nUser=a\r\n" + text.encode() + b"\r\n"))
    return tiff(path, (34682, ASCII, b" "), (34683, ASCII, text.encode()))


PHENOM = (
    '<?xml version="1.0"?><FeiImage><databarHeight>{bar}</databarHeight>'
    '<pixelWidth unit="nm">25.5</pixelWidth><pixelHeight unit="nm">25.5</pixelHeight></FeiImage>'
)


def phenom(path: Path, image: NDArray = GREY, bar: int = 0) -> Path:
    return tiff(path, (34683, ASCII, PHENOM.format(bar=bar).encode()), image=image)


TESCAN = "AccFrames=1\r\nImageStripSize={bar}\r\nPixelSizeX=4e-09\r\nPixelSizeY=5e-09\r\n"


def tescan(path: Path, image: NDArray = GREY, bar: int = 0) -> Path:
    """Blocks of a length and a type: a thumbnail (1), then text (2), then the end (0)."""
    blocks = (1, b"\xff\xd8\xff\n\x00="), (2, TESCAN.format(bar=bar).encode()), (0, b"")
    content = b"".join(struct.pack("<IH", len(text) + 2, kind) + text for kind, text in blocks)
    return tiff(path, (50431, BYTE, content), image=image)


def tescan_text(image: Path, bar: int = 0, ending: str = "-tif.hdr") -> None:
    text = "[MAIN]\r\n" + TESCAN.format(bar=bar) + "[SEM]\r\nHV=5000\r\n"
    image.with_name(image.stem + ending).write_text(text)


def hitachi_text(width: int = WIDTH, height: int = HEIGHT) -> str:
    return (
        "[SemImageFile]\r\nInstructName=SU8000\r\nSampleName=\r\n"
        f"DataSize={width}x{height}\r\nPixelSize=24.8\r\n"
    )


def jeol_text(*lines: str, width: int = WIDTH, height: int = HEIGHT) -> str:
    size = f"$CM_FULL_SIZE {width} {height}"
    return "\r\n".join(("$SEM_DATA_VERSION 1", "$CM_FORMAT JEOL-SEM", "$CM_TITLE ", *lines, size))


def sight_x(path: Path, mode: str = "MAG", selector: str = "150000", unit: str = "X") -> Path:
    """JEOL SightX: 93 pixels of the camera per inch, by the magnification."""
    text = (
        '<?xml version="1.0"?>\n<TemReporter><Manufacturer>JEOL Ltd.</Manufacturer>'
        "<Eos><EosMode>eosTEM</EosMode></Eos><ImageFormingSystem>"
        f"<ModeString>{mode}</ModeString><SelectorValue>{selector}</SelectorValue>"
        f"<SelectorUnitString>{unit}</SelectorUnitString></ImageFormingSystem></TemReporter>"
    )
    return tiff(path, description=text, resolution=(93, 93), resolutionunit="INCH")


def analysis_center(path: Path, kind: str = "Length") -> Path:
    """JEOL Analysis Center, as a JEM-F200 writes it."""
    text = (
        '<TemReporter2 xmlns:a="urn:a"><MeasurementReporter>'
        f"<a:MeasurementUnitType>UnitType_{kind}</a:MeasurementUnitType>"
        "<a:MeasureLengthPerPixelReporter><a:LengthPerPixel>0.31</a:LengthPerPixel>"
        "</a:MeasureLengthPerPixelReporter></MeasurementReporter></TemReporter2>"
    )
    return tiff(path, description=text)


def olympus(path: Path, raw: NDArray = DEEP) -> Path:
    """Olympus SIS: a copy in colours, then the raw values with tag 33560, lengths times 10^-9 m."""
    general = struct.pack("<10xhdd8xd2x34s32s", -9, 0.2, 0.25, 6e5, b"Quemesa", b"")
    with tifffile.TiffWriter(path) as file:
        file.write(np.stack([GREY] * 3, axis=-1), photometric="rgb", metadata=None)
        head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 42, 19, 15, 10, 118, b"", 1)
        # The structure names a place in the file, which is filled in below.
        content = head + struct.pack("<hhI", 1, 1, 0) + general
        tag = (33560, BYTE, len(content), content, True)
        file.write(raw, photometric="minisblack", extratags=[tag], metadata=None)
    whole = bytearray(path.read_bytes())
    start = whole.index(b"SIS0")
    struct.pack_into("<I", whole, start + len(head) + 4, start + len(head) + 8)
    path.write_bytes(whole)
    return path


def zeiss(path: Path, *sides: float) -> Path:
    """Zeiss: a page for each detector, with its size in nm; 0 for a page without the tag."""
    with tifffile.TiffWriter(path) as file:
        for index, side in enumerate(sides):
            text = f"0\r\n0\r\n0\r\n1e-8\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = {side} nm\r\n"
            tags = [(34118, ASCII, None, text.encode("cp1252"), True)] if side else []
            file.write(GREY + index, photometric="minisblack", extratags=tags, metadata=None)
    return path
