"""Which of several images in a file is meant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aeanet.io.images.micrograph import NotOneImageError


@dataclass(frozen=True)
class Candidate:
    """An image in a file.

    Attributes:
        content: what its reader needs to read it.
        name: in the file; empty if it has none.
        raw: it has the grey values of the detector, and is no picture in colours made of them.
    """

    content: Any
    name: str
    raw: bool


def choose(
    candidates: Sequence[Candidate],
    wanted: str | None,
    described: str,
    count: int = 0,
    beyond: Callable[[int], Any] | None = None,
) -> tuple[Any, str]:
    """The content of the image that is meant: the wanted one, else the only one, else the only raw
    one.

    Args:
        candidates: the images in the order of the file.
        wanted: a name, or a number from 1; None if the user chose none.
        described: what the file holds and that one image is wanted, for the error.
        count: of the images, where the file has more than it describes one by one.
        beyond: gives the content of one that is not described, by its number; with `count`.

    Returns:
        The content, and which image it is if a raw one was chosen among others; else "".

    Raises:
        NotOneImageError: if it is not clear which one, or there is none.
    """
    count = max(count, len(candidates))

    # a name counts before a number: an image may be called "2"
    if wanted is not None:
        name = wanted.strip().casefold()
        found = [one for one in candidates if one.name and one.name.casefold() == name]
        if not found and name.isdecimal():
            found = [one for number, one in enumerate(candidates, 1) if number == int(name)]
            if beyond is not None and len(candidates) < int(name) <= count:
                return beyond(int(name)), ""
        if len(found) != 1:
            trouble = "several images have" if found else "no image has"
            raise NotOneImageError(f"{described}; {trouble} the name or number {wanted!r}")
        return found[0].content, ""

    # a raw one counts as the only one where no others are left undescribed, which could be raw too
    if count == 1:
        return candidates[0].content, ""
    raw = [index for index, one in enumerate(candidates) if one.raw]
    if len(raw) == 1 and count == len(candidates):
        return candidates[raw[0]].content, f"image {raw[0] + 1} of {count}"
    if candidates:
        described += (
            "; choose one by its number or name (--image, where a command has it), or save it in "
            "a file of its own"
        )
    raise NotOneImageError(described)
