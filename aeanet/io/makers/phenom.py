"""Pictures of the Phenom, a desktop SEM: XML with the root FeiImage.

A TIFF has it in tag 34683, a JPEG somewhere among its bytes. Source: Bio-Formats' reader of FEI
TIFF (its handling of Phenom), and public readers of such files.
"""

from typing import Any
from xml.etree import ElementTree

from aeanet.io.makers.header import Header, Stated, as_text
from aeanet.io.pixel_size import PixelSize

_TAG = 34683
_START, _END = b"<FeiImage", b"</FeiImage>"


def read(header: Header) -> Stated | None:
    for text in (*header.texts(_TAG), _within(header.content)):
        if "<FeiImage" in text:
            image = ElementTree.fromstring(text[text.index("<FeiImage") :].strip("\0 \r\n"))
            return Stated(_pixel_size(image), bar=_bar(image.findtext("{*}databarHeight") or ""))
    return None


def _pixel_size(image: ElementTree.Element) -> PixelSize | None:
    x: Any = image.find("{*}pixelWidth")
    y: Any = image.find("{*}pixelHeight")
    y = x if y is None else y
    return PixelSize.of(x.text, y.text, x.get("unit"), y.get("unit"))


def _bar(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None


def _within(content: bytes) -> str:
    start = content.find(_START)
    end = content.find(_END, start)
    return as_text(content[start : end + len(_END)]) if 0 <= start < end else ""
