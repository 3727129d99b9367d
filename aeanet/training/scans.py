"""Noisy images from files, as what a network learns from where there is no clean image: repeated
scans of a field each with the mean of the others, single images with noise like their own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aeanet.data.frames import FrameError
from aeanet.data.frames.pairs import pairs_of_frames
from aeanet.data.pairs import PairSet, evenly_spaced
from aeanet.data.registration import RegisteredPair
from aeanet.errors import sentence_or_raise
from aeanet.imaging.exposure import within
from aeanet.inference.brightness import micrograph_of
from aeanet.inference.exposure import find_exposure
from aeanet.inference.frame_files import read_frames
from aeanet.inference.frames import without_outliers
from aeanet.inference.prediction import reader
from aeanet.io.images import SUFFIXES, read_image
from aeanet.io.images.reading import ZARR_SUFFIX, is_hidden
from aeanet.io.stacks import AxesError, find_stack, open_stack
from aeanet.io.stacks.opening import STACK_SUFFIXES
from aeanet.networks.registry import load_model
from aeanet.training.recorrupted import pairs_of_image

_MOST = 64  # single images that are used, evenly spaced by name
COPIES = 8  # of a single image with other noise, if there are few images
_PAIRS = 64  # of single images, about

Progress = Callable[[str, float], None]
"""Called with what is done and the share that is done before it."""


@dataclass
class _Found:
    """What lies in a place: the scans of each field, and single images, by name."""

    fields: dict[str, list[Path]] = field(default_factory=dict)
    images: dict[str, Callable[[], NDArray]] = field(default_factory=dict)


def load_scans(path: Path, *, seed: int = 0, progress: Progress | None = None) -> PairSet:
    """Read noisy images as pairs for a network that takes the noise away.

    Where a field was scanned more than once, each scan has the mean of the others beside it
    (`pairs_of_frames`). Of a single image there are copies with noise like its own
    (`pairs_of_image`).

    Hot, dead and other outlying pixels are replaced by the median around them, and each image is in
    the range that it uses, as a network with `fits_range` is shown it.

    Args:
        path: an image; a stack of scans of one field, or, if it has an axis Z, of single images; or
            a folder of such files, and of folders with the scans of one field each. Of more than 64
            single images, 64 are used, evenly spaced by name.
        seed: of the noise that is drawn.
        progress: called before each field and each single image.

    Returns:
        The pairs, at a magnification of 1. What cannot be used is in `refused`, with the reason.

    Raises:
        FrameError: nothing is there, or nothing can be used; or it is a folder of pairs.
    """
    # the share of the work counts a field as much as a single image
    told = progress or (lambda what, share: None)
    found = _find(path)
    images = evenly_spaced(list(found.images), _MOST)
    data = PairSet([], {}, of_scans=True, unused=len(found.images) - len(images))
    total = len(found.fields) + len(images)

    # a field that cannot be used is named, and the others go on
    for done, (name, files) in enumerate(found.fields.items()):
        told(f"Aligning the scans of {name}", done / total)
        try:
            of_field = _load_field(files, path)
        except Exception as error:
            data.refused[name] = sentence_or_raise(error)
            continue
        data.pairs.extend(of_field.pairs)
        data.refused.update(of_field.refused)

    # the fewer images there are, the more copies each has, up to `COPIES`
    model = load_model("sem")
    copies = max(min(_PAIRS // max(len(images), 1), COPIES), 1)
    for number, name in enumerate(images):
        told(f"Measuring the noise of {name}", (len(found.fields) + number) / total)
        try:
            # as the network will be shown it; each image draws from a generator of its own
            shown = in_use(without_outliers(found.images[name]()))
            random = np.random.default_rng((seed, number))
            data.pairs.extend(pairs_of_image(name, shown, model, copies, random))
        except Exception as error:
            data.refused[name] = sentence_or_raise(error)

    # one reason stands for all
    if not data.pairs:
        name, reason = next(iter(data.refused.items()))
        raise FrameError(f"Nothing in {path} can be trained on; {name}: {reason}")
    return data


def in_range(pair: RegisteredPair) -> RegisteredPair:
    """A scan and its target in the range that the scan uses."""
    exposure = find_exposure(reader(pair.lr), pair.lr.shape)
    return replace(pair, lr=within(exposure.scale(pair.lr)), hr=exposure.scale(pair.hr))


def in_use(image: NDArray) -> NDArray[np.float32]:
    """An image as a network with `fits_range` is shown it: in the range that it uses."""
    exposure = find_exposure(reader(image), image.shape)
    return within(exposure.scale(image))


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


def _find(path: Path) -> _Found:
    """What lies there.

    Raises:
        FrameError: nothing does, or pairs do.
    """
    if not path.exists():
        raise FrameError(f"There is no {path}; noisy images are wanted.")
    if (path / "lr").is_dir() and (path / "hr").is_dir():
        raise FrameError(
            f"{path} holds pairs, in the folders lr and hr: train on the pairs, without --noisy, "
            f"or on the noisy images in {path / 'lr'}."
        )

    # an OME-Zarr is a folder and yet an image
    inside = [path]
    if path.is_dir() and not _is_image(path):
        inside = sorted(path.iterdir())

    # one level down a folder is a field: its files are scans of the same place
    found = _Found()
    for one in inside:
        if _is_image(one):
            _note_file(one, found)
        elif one.is_dir() and (files := sorted(filter(_is_image, one.iterdir()))):
            found.fields[one.name] = files
    if not (found.fields or found.images):
        raise FrameError(f"{path} holds no images; noisy images are wanted.")
    return found


def _note_file(file: Path, found: _Found) -> None:
    """A file is an image, scans of one field, or a volume, whose planes are images."""
    # pages of which nothing is said are taken for repeated scans
    try:
        stack = find_stack(file)
    except AxesError:  # several planes, of which it is not said what they are
        found.fields[file.name] = [file]
        return

    # a single image; it is read only when its turn comes, as planes are
    if stack is None:
        found.images[file.name] = partial(_pixels, file)
        return

    # planes at different depths show different places, so they are no scans of one field
    with stack:
        if "Z" not in stack.axes:
            found.fields[file.name] = [file]
            return
        for number in range(stack.planes):
            name = f"{stack.contents.name_of(number)} of {file.name}"
            found.images[name] = partial(_plane, file, number)


def _pixels(file: Path) -> NDArray[np.float32]:
    return read_image(file).pixels


def _plane(file: Path, number: int) -> NDArray[np.float32]:
    with open_stack(file) as stack:
        return micrograph_of(stack, number).pixels


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if is_hidden(path):
        return False
    return suffix == ZARR_SUFFIX or (path.is_file() and suffix in (*SUFFIXES, *STACK_SUFFIXES))
