"""What a file is by its first bytes, whatever its name says."""

from pathlib import Path

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG image", ".png"),
    (b"\xff\xd8\xff", "JPEG image", ".jpg"),
    (b"BM", "BMP image", ".bmp"),
    (b"II*\0", "TIFF image", ".tif"),
    (b"MM\0*", "TIFF image", ".tif"),
    (b"II+\0", "TIFF image", ".tif"),  # BigTIFF
    (b"MM\0+", "TIFF image", ".tif"),
    (b"GIF8", "GIF image", ".gif"),
    (b"\x89HDF\r\n\x1a\n", "HDF5 file", ".h5"),
    (b"%PDF", "PDF document", ".pdf"),
    (b"PK\x03\x04", "zip archive or PyTorch file", ".zip"),
    (b"\x80\x02", "Python pickle, as of PyTorch", ".pkl"),
    (b"\x80\x04", "Python pickle, as of PyTorch", ".pkl"),
)


def signature(path: Path) -> tuple[str, str] | None:
    """The kind of a file and the ending that belongs to it; None if its first bytes tell nothing.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
    return next(
        ((kind, suffix) for words, kind, suffix in _SIGNATURES if start.startswith(words)), None
    )
