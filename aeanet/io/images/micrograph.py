"""A micrograph in memory: grey values from 0 to 1, and what another image of its kind needs."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aeanet.errors import UserError
from aeanet.io.pixel_size import PixelSize
from aeanet.io.quiet import quietly

# OME has no half floats and no 64-bit integers: they are read as the next type that holds their
# values.
WIDER = {"float16": "float32", "int64": "float64", "uint64": "float64"}


class ImageError(UserError):
    """An image that cannot be read or written; the sentence names the file."""


class NotOneImageError(ValueError):
    """An undamaged file without the one grey or colour image that is wanted; the message says what
    it holds instead.
    """


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Within it, whatever a decoder raises on a damaged file becomes an ImageError that names the
    file.

    Decoders raise errors of all kinds on damaged files, even SyntaxError and struct.error.
    """
    try:
        with quietly("rsciio", "tifffile"):  # they warn of odd metadata
            yield
    except (ImageError, MemoryError):
        # these say what is wrong already
        raise
    except NotOneImageError as error:
        # the file is whole: nothing is said of damage
        raise ImageError(f"{path} cannot be read as an image: {error}.") from error
    except Exception as error:
        if package := _missing_package(error):
            raise ImageError(
                f"{path} cannot be read without the package {package}: install it by "
                f"pip install {package}."
            ) from error

        # messages of decoders may have several lines, a full stop, or no text at all
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ImageError(
            f"{path} cannot be read as an image, it may be damaged or cut short: {reason}."
        ) from error


def _missing_package(error: Exception) -> str | None:
    """The package that a decoder asks for: tifffile and rosettasciio name it in their message."""
    named = re.search(r"'([\w.-]+)' (?:package|library)", str(error))
    if named and isinstance(error, ImportError | ValueError):
        return named[1]
    return error.name if isinstance(error, ImportError) else None


@contextmanager
def encoding(path: Path) -> Iterator[None]:
    """Within it, an OSError becomes an ImageError which says that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error


class GreyScale:
    """The type of an image's values, and the values `low` and `high` that are black and white: 0
    and 1 as pixels.
    """

    dtype: np.dtype
    low: float
    high: float

    @property
    def bits(self) -> int | None:
        """The number of bits of white, for unsigned types; None for other types."""
        return int(self.high).bit_length() if self.dtype.kind == "u" else None

    def to_raw(self, pixels: NDArray) -> NDArray:
        """Pixels, clipped to [0, 1], as values."""
        half = _halved(self.low, self.high)
        low, high = self.low * half, self.high * half
        # in place: a new array costs more than the arithmetic
        values = np.array(pixels, np.float64)
        np.clip(values, 0, 1, out=values)
        values *= high - low
        values += low
        np.clip(values, low, high, out=values)
        if half != 1:
            values /= half
        if self.dtype.kind != "f":
            np.rint(values, out=values)
        return values.astype(self.dtype)


@dataclass(frozen=True)
class Micrograph(GreyScale):
    """A grey image and what is needed to write another one of its kind.

    Attributes:
        pixels: (H, W) float32 in [0, 1]: `(raw - low) / (high - low)`.
        dtype: of the file; for half floats and 64-bit integers the next type in `WIDER`.
        low, high: the black and the white of that type (`value_range`).
        pixel_size: None if the file states none.
        bar: rows of an information bar that were cut off at the bottom.
        kind: the name of the file format.
        colour: the file has colours, which became grey.
        which: of several images in the file ("image 2 of 2"), if it was chosen as the only raw one.
    """

    pixels: NDArray[np.float32]
    dtype: np.dtype
    low: float
    high: float
    pixel_size: PixelSize | None = None
    bar: int = 0
    kind: str = ""
    colour: bool = False
    which: str = ""


def to_pixels(values: NDArray, low: float, high: float) -> NDArray[np.float32]:
    """Values of an image as pixels: 0 is black and 1 is white."""
    return fraction(values, low, high).astype(np.float32)


def fraction(values: NDArray, low: float, high: float) -> NDArray[np.float64]:
    """0 for `low` and 1 for `high`, also where their difference is not a finite float64."""
    half = _halved(low, high)
    return (values.astype(np.float64) * half - low * half) / (high * half - low * half)


def _halved(low: float, high: float) -> float:
    """The factor with which the difference of two numbers is finite: 1/2 for the largest float64,
    else 1.
    """
    return 1.0 if math.isfinite(high - low) else 0.5


def has_range(dtype: np.dtype) -> bool:
    """Whether black and white follow from the type, and not from the values of an image."""
    return dtype.kind in "bui" and dtype.itemsize <= 2


def value_range(
    dtype: np.dtype, least: float, most: float, bits: int | None = None
) -> tuple[float, float]:
    """Black and white, the values that become 0 and 1, of an image with values from `least` to
    `most`.

    They follow from the type, not from the exposure:

    - Integers of 8 and 16 bits go from 0, or from the least value of a signed type if some are
      negative, to the greatest value of the type, or of the number of `bits` that the file states.
      Detectors of 12 bits write files of 16: if no number of bits is stated and all values are
      below 4096, they are taken to have 12 bits, or they would come out black.
    - Integers of 32 bits and floats have no white by their type. Floats within 0 to 1 are kept; for
      all others the extremes of the image are taken.
    """
    if dtype.kind == "b":
        return 0.0, 1.0
    if has_range(dtype):
        limits = np.iinfo(dtype)
        if least < 0:
            return float(limits.min), float(limits.max)
        if bits is not None and most < 2**bits <= limits.max + 1:
            return 0.0, float(2**bits - 1)
        return 0.0, 4095.0 if dtype.itemsize == 2 and most < 4096 else float(limits.max)
    if dtype.kind == "f" and least >= 0 and most <= 1:
        return 0.0, 1.0
    return (least, most) if most > least else _around(dtype, least)


def _around(dtype: np.dtype, value: float) -> tuple[float, float]:
    """Black and white of an image that has one value throughout: it is black, or white where the
    type has none above.

    They are 1 apart, or further where floats are not so close.
    """
    most = float(np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max)
    apart = max(1.0, abs(value) * 2**-20) if dtype.kind == "f" else 1.0
    return (value, value + apart) if value <= most - apart else (value - apart, value)
