"""Repeated scans from files, as what a network learns from where there is no clean image."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from aeanet.data.frames import FrameError
from aeanet.data.frames.pairs import pairs_of_frames
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.errors import sentence_or_raise
from aeanet.imaging.exposure import within
from aeanet.inference.exposure import find_exposure
from aeanet.inference.frame_files import read_frames
from aeanet.inference.frames import without_outliers
from aeanet.inference.prediction import reader
from aeanet.io.images import SUFFIXES
from aeanet.io.images.reading import ZARR_SUFFIX
from aeanet.io.stacks.opening import STACK_SUFFIXES

Progress = Callable[[str, float], None]
"""Called with what is done and the share that is done before it."""


def load_scans(path: Path, *, progress: Progress | None = None) -> PairSet:
    """Read the repeated scans of one or more fields, and lay beside each the mean of the others.

    Hot, dead and other outlying pixels are replaced by the median around them, and each scan is in
    the range that it uses, as a network with `fits_range` is shown it.

    Args:
        path: a stack of the scans of one field; a folder with an image for each scan; or a folder
            with a stack or such a folder for each field.
        progress: called before each field.

    Returns:
        A pair for each scan, as `pairs_of_frames`. Scans and fields that cannot be used are in
        `refused`, with the reason.

    Raises:
        FrameError: nothing is there, or no field has two scans that can be used.
    """
    fields = _find_fields(path)
    found = PairSet([], {}, of_scans=True)
    for done, (name, files) in enumerate(fields.items()):
        if progress:
            progress(f"Aligning the scans of {name}", done / len(fields))
        try:
            of_field = _load_field(files, path)
        except Exception as error:
            found.refused[name] = sentence_or_raise(error)
            continue
        found.pairs.extend(of_field.pairs)
        found.refused.update(of_field.refused)
    if not found.pairs:
        name, reason = next(iter(found.refused.items()))
        raise FrameError(f"None of the fields in {path} can be used; {name}: {reason}")
    return found


def _find_fields(path: Path) -> dict[str, list[Path]]:
    """The files of each field, by its name.

    Raises:
        FrameError: there are none.
    """
    if not path.exists():
        raise FrameError(f"There is no {path}; a stack or a folder of repeated scans is wanted.")
    if _is_image(path):
        return {path.name: [path]}
    inside = sorted(path.iterdir()) if path.is_dir() else []
    images = [one for one in inside if _is_image(one)]
    folders = {one.name: _images_in(one) for one in inside if one.is_dir() and one not in images}
    fields = {name: files for name, files in folders.items() if files}
    if fields:
        return fields | {one.name: [one] for one in images}
    if not images:
        raise FrameError(f"{path} holds no images; repeated scans of a field are wanted.")
    return {path.name: images}


def _images_in(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if _is_image(one))


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix == ZARR_SUFFIX or (path.is_file() and suffix in (*SUFFIXES, *STACK_SUFFIXES))


def _load_field(files: list[Path], root: Path) -> PairSet:
    """The scans of one field, named by their place in `root`."""
    places = {str(file): str(file.relative_to(root)) for file in files if file != root}
    read = read_frames(files)
    scans = {
        places.get(name, name): without_outliers(image.pixels)
        for name, image in read.images.items()
    }
    unread = {places.get(name, name): reason for name, reason in read.unread.items()}
    found = pairs_of_frames(scans)
    return PairSet([in_range(pair) for pair in found.pairs], unread | found.refused)


def in_range(pair: RegisteredPair) -> RegisteredPair:
    """A scan and its mean in the range that the scan uses."""
    exposure = find_exposure(reader(pair.lr), pair.lr.shape)
    lr, hr = within(exposure.scale(pair.lr)), exposure.scale(pair.hr)
    return replace(pair, lr=np.asarray(lr, np.float32), hr=np.asarray(hr, np.float32))
