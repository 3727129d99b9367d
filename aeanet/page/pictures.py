"""Pictures in a page: 8 bits a pixel, as WebP, and not larger than is asked for."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGEST = 16_000_000  # pixels of a picture, which a phone still shows
_LONGEST = 16_383  # px a side that WebP takes
_STRIP = 4_000_000  # pixels that are read at once
_LOSSLESS = {"lossless": True, "quality": 0, "method": 0}
_LOSSY = ({"quality": 95, "method": 2}, {"quality": 85, "method": 2}, {"quality": 70, "method": 4})
_SAMPLE = 256  # px a side of the part that tells how well a picture can be compressed
_BYTES = 0.06  # bytes a pixel of a noisy micrograph at the lowest quality


@dataclass(frozen=True)
class Picture:
    """A file of a picture, held in memory.

    Attributes:
        content: of the file.
        width, height: px.
        kind: of the file, for HTML.
    """

    content: bytes
    width: int
    height: int
    kind: str = "image/webp"

    @property
    def address(self) -> str:
        """An address that holds the picture itself."""
        return data_address(self.content, self.kind)


def data_address(content: bytes | str, kind: str) -> str:
    """An address that contains the content itself, so that the page needs no other file."""
    data = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def limits_of(image: NDArray) -> tuple[float, float]:
    """Black and white of the pictures of a field: nearly the extremes of the image (H, W)."""
    step = max(1, math.isqrt(image.size // 1_000_000))
    finite = image[::step, ::step]
    finite = finite[np.isfinite(finite)]
    low, high = np.percentile(finite, (0.1, 99.9)) if finite.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def grey(image: NDArray, limits: tuple[float, float]) -> NDArray[np.uint8]:
    """An image (H, W) between black and white, in 8 bits."""
    low, high = limits
    shares = (np.asarray(image, np.float32) - np.float32(low)) / np.float32(high - low)
    return np.rint(255 * np.nan_to_num(shares).clip(0, 1)).astype(np.uint8)


def coloured(values: NDArray, limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Values (H, W) as colours (H, W, 3) whose lightness rises evenly (inferno)."""
    colours = cv2.applyColorMap(grey(values, limits), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(colours[..., ::-1])


def reduced(
    read: Callable[[slice, slice], NDArray], shape: Sequence[int], most: int = LARGEST
) -> NDArray[np.float32]:
    """An image, each pixel the mean over the area that it covers, of at most `most` pixels.

    Args:
        read: gives any rows and columns of the image; it is read in strips.
        shape: (H, W) of it.
        most: pixels of the result. An image that has no more stays as it is.
    """
    # limited in pixels, and in the length of a side by WebP
    height, width = shape
    scale = min(1.0, math.sqrt(most / (height * width)), _LONGEST / max(height, width))
    if scale == 1.0:
        return np.asarray(read(slice(0, height), slice(0, width)), np.float32)
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    result = np.zeros((rows, columns), np.float32)

    # A row of the image lies in one row of the result, or across the border of two.
    edges = np.arange(height + 1) * (rows / height)
    upper = np.minimum(edges[:-1].astype(int), rows - 1)
    lower = np.minimum(upper + 1, rows - 1)
    below = (edges[1:] - np.maximum(edges[:-1], upper + 1)).clip(0)
    above = edges[1:] - edges[:-1] - below

    # means along the lines first, then each line goes, in its shares, to one row or two
    strip = max(1, _STRIP // width)
    for top in range(0, height, strip):
        part = slice(top, min(top + strip, height))
        values = np.asarray(read(part, slice(0, width)), np.float32)
        narrow = cv2.resize(values, (columns, len(values)), interpolation=cv2.INTER_AREA)
        for row, values in enumerate(narrow, top):
            result[upper[row]] += above[row] * values
            result[lower[row]] += below[row] * values
    return result


def fitting(pixels: NDArray[np.uint8], most: int) -> Picture:
    """A picture of pixels, (H, W) or (H, W, 3), in at most `most` bytes: without loss if that fits,
    else with as little loss as does, else reduced.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, math.sqrt(most / (_BYTES * height * width)))
    shown = pixels if scale == 1.0 else _smaller(pixels, scale)
    settings = [one for one in (_LOSSLESS, *_LOSSY[:-1]) if _likely_bytes(shown, one) < 1.1 * most]
    while True:
        for setting in (*settings, _LOSSY[-1]):
            content = _webp(shown, setting)
            if len(content) <= most or max(shown.shape[:2]) <= 16:
                return Picture(content, shown.shape[1], shown.shape[0])
        scale *= 0.8 * min(1.0, math.sqrt(most / len(content)))
        shown, settings = _smaller(pixels, scale), []


def _likely_bytes(pixels: NDArray[np.uint8], setting: dict[str, Any]) -> float:
    """The size of a picture, as its middle lets expect."""
    starts = [max(0, (length - _SAMPLE) // 2) for length in pixels.shape[:2]]
    middle = pixels[starts[0] : starts[0] + _SAMPLE, starts[1] : starts[1] + _SAMPLE]
    return len(_webp(middle, setting)) * pixels.size / middle.size


def thumbnail(picture: Picture, side: int = 192) -> Picture:
    """A small grey copy of a picture, at most `side` px wide and high."""
    with Image.open(BytesIO(picture.content)) as opened:
        small = opened.convert("L")
        small.thumbnail((side, side))
    return Picture(_webp(np.asarray(small), _LOSSY[-1]), small.width, small.height)


def _smaller(pixels: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = (max(1, int(length * scale)) for length in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _webp(pixels: NDArray[np.uint8], setting: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).convert("RGB").save(buffer, "webp", **setting)
    return buffer.getvalue()
