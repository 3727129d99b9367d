"""A page for the tests, and a reader of pages."""

import base64
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from aeanet.inference.restored import Restored
from aeanet.io.images import Micrograph

VOID = ("meta", "img", "source", "br", "link", "input")


class Read(HTMLParser):
    """What a page holds.

    Attributes:
        addresses: what it asks for or links to.
        images: alternative text and address of each picture.
        ids: of its elements.
        text: what it says.
        bare: inputs outside of labels.
        open: elements that are not closed.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: list[tuple[str | None, str]] = []
        self.ids: list[str] = []
        self.text = ""
        self.bare: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append((found.get("alt"), found["src"] or ""))
        if tag == "input" and "label" not in self.open:
            self.bare.append(found)
        self.addresses += [found[name] or "" for name in ("src", "srcset", "href") if name in found]
        self.ids += [found["id"] or ""] if "id" in found else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & {*self.open}:
            self.text += data

    def picture(self, number: int) -> Image.Image:
        """A picture of it, decoded."""
        kind, _, data = self.images[number][1].partition(",")
        assert kind == "data:image/webp;base64"
        return Image.open(BytesIO(base64.b64decode(data)))


def micrograph(shape: tuple[int, int], seed: int = 0) -> tuple[NDArray, NDArray]:
    """An image (H, W) with noise, and itself without noise at twice the size."""
    random = np.random.default_rng(seed)
    clean = gaussian_filter(random.standard_normal((2 * shape[0], 2 * shape[1])), 2.5)
    clean = (0.5 + 0.12 * clean / clean.std()).clip(0, 1)
    coarse = clean.reshape(shape[0], 2, shape[1], 2).mean((1, 3))
    noisy = (coarse + 0.05 * random.standard_normal(shape)).clip(0, 1)
    return noisy.astype(np.float32), clean.astype(np.float32)


def restored_of(image: NDArray, result: NDArray, name: str = "a.png") -> Restored:
    """As if a file had been restored at twice its size."""
    source = Micrograph(image, np.dtype(np.uint8), 0.0, 255.0)
    return Restored(Path(name), Path("out") / name, source, result, magnification=2.0)
