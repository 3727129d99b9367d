"""Stacks in TIFF: ImageJ's hyperstacks, also beyond 4 GB, OME-TIFF, and plain pages."""

import math
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC

from aeanet.io.images.micrograph import NotOneImageError
from aeanet.io.images.tiff import (
    GREY,
    as_seen,
    check_pages,
    is_thumbnail,
    one_page,
    values_of,
)
from aeanet.io.makers import Header, stated_by_maker
from aeanet.io.pixel_size import short_unit
from aeanet.io.stacks.blocks import read_block
from aeanet.io.stacks.contents import AXES, UNKNOWN, Contents, Step, steps_of
from aeanet.io.stacks.stack import PlaneReader, Stack

IMAGEJ, OME = "ImageJ TIFF", "OME-TIFF"
_BY_PAGES = ("generic", "uniform")  # kinds of tifffile whose number of planes is that of the pages


def open_tiff(path: Path) -> Stack:
    """A TIFF as a stack.

    Raises:
        NotOneImageError: if it holds images of several kinds.
        ValueError: if its list of pages is cut short.
    """
    with ExitStack() as resources:
        file = resources.enter_context(tifffile.TiffFile(path))
        series = _series(file)

        # no series of planes: the image of the file, or the error that says what it holds
        if series is None:
            page, _ = one_page(file)
            values = values_of(page)
            axes, shape, read = "YXS"[: values.ndim], values.shape, lambda _: values
        else:
            page = series.keyframe
            axes, shape, read = _planes(path, series)

        # ImageJ states how many images there are to be
        described = (file.imagej_metadata or {}).get("images", 1)
        if described > math.prod(shape) // math.prod(shape[axes.index("Y") :]):
            raise ValueError(f"the file ends before the last of its {described} images")

        # unless an error comes, the file stays open for the planes that are read later
        contents = Contents(
            axes,
            shape,
            np.dtype(page.dtype).newbyteorder("="),
            **_facts(file, page, path),
        )
        kept = resources.pop_all()
    return Stack(contents, read, path, kept)


def _series(file: tifffile.TiffFile) -> Any:
    """The series of planes beside which there are only thumbnails, masks, labels and pictures in
    colour; None if no one is such.
    """
    # what can be planes: no small copies or masks of others, nothing without rows and columns
    found = [
        series
        for series in file.series
        if series.keyframe is not None
        and not series.keyframe.is_reduced
        and not series.keyframe.is_mask
        and "YX" in series.axes
    ]
    largest: Any = max(found, key=lambda series: series.size, default=None)
    found = [
        series
        for series in found
        if series is largest or not is_thumbnail(series.keyframe, largest.keyframe)
    ]

    # pictures in colours count only where none is grey: they were made of others
    raw = [series for series in found if series.keyframe.photometric in GREY]

    # Of several kinds of them, those of which there are more than one.
    several = [series for series in raw or found if len(series.pages) > 1]
    chosen = several or raw or found
    return chosen[0] if len(chosen) == 1 else None


def _axes(series: Any) -> tuple[str, tuple[int, ...]]:
    """The letters of the axes without that of colours, and their lengths."""
    lengths = dict(zip(series.axes, series.shape, strict=True))
    lengths.pop("S", None)
    axes = "".join(lengths)
    if not axes.endswith("YX"):
        raise NotOneImageError(f"its axes are {series.axes}, wanted such that end in YX")
    if series.kind in _BY_PAGES:
        check_pages(series.parent, math.prod(series.shape[:-2]))

    # an axis of one plane that is not named says nothing
    known = f"{AXES}YX"
    lengths = {axis: length for axis, length in lengths.items() if axis in known or length > 1}
    named = "".join(axis if axis in known else UNKNOWN for axis in lengths)
    return named, tuple(lengths.values())


def _planes(path: Path, series: Any) -> tuple[str, tuple[int, ...], PlaneReader]:
    """The axes, the shape and the reader of a series."""
    page = series.keyframe
    axes, shape = _axes(series)
    in_one_block = series.dataoffset is not None and "S" not in series.axes
    if in_one_block and page.photometric != PHOTOMETRIC.PALETTE:
        return axes, shape, _block_reader(path, series, shape)

    pages = series.pages
    if len(pages) != math.prod(shape[:-2]):
        raise NotOneImageError(f"its {len(pages)} pages hold {math.prod(shape[:-2])} planes")

    def read(plane: int) -> NDArray:
        if pages[plane] is None:
            raise ValueError("it is not in the file")
        return as_seen(pages[plane].asarray(), page)

    if page.photometric in GREY and "S" not in series.axes:
        return axes, shape, read
    seen = read(0).shape  # colours, or grey values of a colour table
    return axes + "S" * (len(seen) - 2), (*shape[:-2], *seen), read


def _block_reader(path: Path, series: Any, shape: tuple[int, ...]) -> PlaneReader:
    """Reads planes that lie one after the other. ImageJ describes the first of them alone where the
    file is larger than 4 GB.
    """
    page = series.keyframe
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    height, width = shape[-2:]

    def read(plane: int) -> NDArray:
        values = read_block(path, plane, series.dataoffset, (height, width), dtype)
        return as_seen(values, page) if page.photometric == PHOTOMETRIC.MINISWHITE else values

    return read


def _facts(file: tifffile.TiffFile, page: Any, path: Path) -> dict[str, Any]:
    """Steps, bits, the names of the channels, and what the format needs to be written again."""
    # what any maker of microscopes states
    _, stated = stated_by_maker(Header.of_page(file, page, path), "TIFF")
    facts: dict[str, Any] = {
        "kind": "TIFF",
        "bits": stated.bits,
        "steps": steps_of(stated.pixel_size),
    }

    # what OME or ImageJ say of the stack; OME-XML that is damaged counts as absent
    if file.is_ome:
        with suppress(ElementTree.ParseError, AttributeError, ValueError):
            _add_ome(facts, ElementTree.fromstring(file.ome_metadata or ""))
        facts["kind"] = OME
    elif file.imagej_metadata is not None:
        _add_imagej(facts, file.imagej_metadata)
    return facts


def _add_ome(facts: dict[str, Any], root: Any) -> None:
    image, pixels = root.find(".//{*}Image"), root.find(".//{*}Pixels")
    for axis, name, unit in (("Z", "PhysicalSizeZ", "µm"), ("T", "TimeIncrement", "s")):
        if size := pixels.get(name):
            facts["steps"][axis] = Step(float(size), pixels.get(f"{name}Unit", unit))
    names = [channel.get("Name") for channel in pixels.iterfind("{*}Channel")]
    facts["channels"] = tuple(names) if all(names) else ()
    facts["metadata"] = {"name": image.get("Name", "")}


def _add_imagej(facts: dict[str, Any], metadata: dict[str, Any]) -> None:
    unit = short_unit(metadata.get("unit", ""))
    for axis, name, unit_of_axis in (("Z", "spacing", unit), ("T", "finterval", "s")):
        size = metadata.get(name)
        if isinstance(size, int | float) and size:
            facts["steps"][axis] = Step(float(size), unit_of_axis)
    facts |= {"kind": IMAGEJ, "metadata": dict(metadata)}
