"""The LR/HR pairs in a folder: found, read and registered."""

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from numpy.typing import NDArray

from aeanet.data.registration import RegisteredPair, register_pair
from aeanet.errors import PairError, sentence_or_raise
from aeanet.io.images import ImageError, Micrograph, read_image
from aeanet.io.images.micrograph import has_range, to_pixels
from aeanet.io.images.reading import is_image
from aeanet.io.text import visible

PairProgress = Callable[[int, int, str], None]
_Files = Mapping[str, Mapping[str, list[Path]]]  # LR or HR -> name -> the images of that name

MOST_BRIGHTNESS = 3.0
"""The greatest ratio of the means of LR and HR; 14 bits stored in 16 against 8 bits give 4."""

_LAYOUTS = "lr/NAME.png with hr/NAME.png, or NAME10000.bmp (LR) with NAME20000.bmp (HR)"


@dataclass(frozen=True)
class PairFiles:
    """The two files of one pair."""

    name: str
    lr: Path
    hr: Path


@dataclass(frozen=True)
class PairSet:
    """The registered pairs in the order of their names, and the others: name -> reason.

    Attributes:
        of_scans: there is no clean image. LR are noisy images, in the range that each uses; HR have
            independent noise (`training.scans`).
        unused: so many single noisy images are left out, because there are more than needed.
    """

    pairs: list[RegisteredPair]
    refused: dict[str, str]
    of_scans: bool = False
    unused: int = 0


def find_pairs(folder: str | os.PathLike[str]) -> list[PairFiles]:
    """The complete pairs of a folder, by name: `lr/NAME.*` with `hr/NAME.*`, else `NAME10000.*`
    with `NAME20000.*`. Pairs that share a name, as those of a_10000.bmp and a10000.bmp do, are
    left out.

    Raises:
        PairError: the folder is not one, or holds no complete pair.
    """
    return _scan(Path(folder))[0]


def load_pairs(
    folder: str | os.PathLike[str],
    hr: str | os.PathLike[str] | None = None,
    *,
    progress: PairProgress | None = None,
) -> PairSet:
    """Read and register all pairs of a folder, or of two folders with the same names.

    A pair that is incomplete, shares its name, cannot be read or cannot be registered is in
    `refused` with the reason.

    Args:
        folder: see `find_pairs`; the LR images if `hr` is given.
        hr: the HR images.
        progress: called with (done, total, name) after each pair.

    Raises:
        PairError: no pair can be used.
    """
    files, incomplete = _scan(Path(folder), None if hr is None else Path(hr))
    found = _register({pair.name: partial(_read, pair) for pair in files}, progress)
    if not found.pairs:
        name, reason = next(iter(found.refused.items()))
        raise PairError(f"None of the {len(files)} pairs in {folder} can be used; {name}: {reason}")
    return replace(found, refused=dict(sorted({**incomplete, **found.refused}.items())))


def register_all(
    triples: Sequence[tuple[str, NDArray, NDArray]], *, progress: PairProgress | None = None
) -> PairSet:
    """Register (name, lr, hr) triples as `load_pairs` does; all may be refused.

    Args:
        triples: LR and HR are (H, W) from 0 to 1.
        progress: see `load_pairs`.
    """
    return _register({name: partial(tuple, (lr, hr)) for name, lr, hr in triples}, progress)


def hold_back(
    data: PairSet, which: float | Collection[str]
) -> tuple[PairSet, list[RegisteredPair]]:
    """The pairs to train on, and those held back.

    Args:
        data: all pairs.
        which: those to hold back: their number (from 1 on) or share (below 1; at least one pair),
            evenly spaced by name; or their names.

    Raises:
        PairError: another number, or no pair is left to train on.
    """
    # a number or a share becomes names, as if they had been given
    total = len(data.pairs)
    if isinstance(which, float | int):
        if not 0 < which < math.inf or (which > 1 and which != int(which)):
            raise PairError(
                f"{which} pairs cannot be held back: wanted a whole number, or a share below 1."
            )
        number = int(which) if which >= 1 else max(1, round(which * total))
        if number >= total:
            raise PairError(f"Holding back {number} of {total} pairs leaves none to train on.")
        which = evenly_spaced([pair.name for pair in data.pairs], number)

    # both parts keep the order of the pairs, whatever the order of the names
    held = [pair for pair in data.pairs if pair.name in which]
    kept = [pair for pair in data.pairs if pair.name not in which]
    if not kept:
        raise PairError(f"Holding back all of {total} pairs leaves none to train on.")
    return replace(data, pairs=kept), held


def evenly_spaced(names: Sequence[str], number: int) -> list[str]:
    """`number` of the names, or all if they are fewer, evenly spaced: no choice by result."""
    number = min(number, len(names))
    return [names[(2 * i + 1) * len(names) // (2 * number)] for i in range(number)]


def _scan(folder: Path, hr: Path | None = None) -> tuple[list[PairFiles], dict[str, str]]:
    """The complete pairs by name, and the incomplete ones: name -> what is missing.

    Raises:
        PairError: the folder is not one, or holds no complete pair.
    """
    for given in (folder, hr or folder):
        if not given.is_dir():
            raise PairError(f"{given} is not a folder; a folder of pairs is wanted: {_LAYOUTS}.")

    # a place is a folder and what its names end with; lr/ and hr/ come before the paper's names
    if hr is not None:
        places = {"LR": (folder, ""), "HR": (hr, "")}
    elif (folder / "lr").is_dir() or (folder / "hr").is_dir():
        places = {"LR": (folder / "lr", ""), "HR": (folder / "hr", "")}
    else:
        places = {"LR": (folder, "10000"), "HR": (folder, "20000")}
    files = {label: _by_name(*place) for label, place in places.items()}

    # Beside lr/ and hr/, files with the paper's names are left out, and that is said. They keep
    # their ending, so that none has the name of a pair.
    pairs, incomplete = [], {}
    if places["LR"] == (folder / "lr", ""):
        beside = _by_name(folder, "20000") | _by_name(folder, "10000")
        for key in sorted(beside):
            incomplete[visible(beside[key][0].name)] = (
                f"it lies beside {folder}/lr and {folder}/hr, from which pairs are taken."
            )

    # a_10000.bmp is of pair a; a pair that is named 10000.bmp has the name of its folder
    keys: dict[str, list[str]] = {}
    for key in sorted({*files["LR"], *files["HR"]}):
        keys.setdefault(visible(key.rstrip("_- ") or folder.resolve().name), []).append(key)

    # exactly one file on each side makes a pair, and no other pair may have its name
    for name, same in keys.items():
        reason = _spellings(name, same, files) or _what_lacks(same[0], files, places)
        if reason:
            incomplete[name] = reason
        else:
            pairs.append(PairFiles(name, files["LR"][same[0]][0], files["HR"][same[0]][0]))
    if not pairs:
        reason = f": {next(iter(incomplete.values()))}" if incomplete else "."
        raise PairError(f"{folder} holds no complete pair of images, wanted {_LAYOUTS}{reason}")
    return pairs, incomplete


def _spellings(name: str, keys: Sequence[str], files: _Files) -> str:
    """What is wrong with files of one name that is spelled in several ways; empty if it is not."""
    if len(keys) == 1:
        return ""

    # LR and HR of one pair may have the same name in two folders, which is said once
    found = [file.name for key in keys for side in files.values() for file in side.get(key, ())]
    named = ", ".join(dict.fromkeys(found))
    return (
        f"the name {name} is spelled in {len(keys)} ways ({named}): rename the files so that each "
        "pair has one name of its own."
    )


def _what_lacks(key: str, files: _Files, places: Mapping[str, tuple[Path, str]]) -> str:
    """What is wrong with the files of one pair; empty if there is one on each side."""
    reason = ""
    for label, (place, ending) in places.items():
        found = files[label].get(key, [])
        if not found:
            reason = f"the {label} image {place}/{key}{ending}.* is missing."
        elif len(found) > 1:
            names = ", ".join(file.name for file in found)
            reason = f"{len(found)} files could be the {label} image: {names}."
    return reason


def _by_name(folder: Path, ending: str) -> dict[str, list[Path]]:
    """The images in a folder by name without `ending`, of those whose name ends so."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_image(path) and path.stem.endswith(ending):
            found.setdefault(path.stem.removesuffix(ending), []).append(path)
    return found


def read_pair(files: PairFiles) -> tuple[Micrograph, Micrograph]:
    """LR and HR, each over the range of its type.

    Types without one, such as floats, go from the least to the greatest value of both images: each
    by itself, the noisier LR would be darker and have less contrast than HR.

    Raises:
        ImageError: a file cannot be read.
    """
    lr, hr = read_image(files.lr), read_image(files.hr)
    if not (has_range(lr.dtype) or has_range(hr.dtype)):
        ends = min(lr.low, hr.low), max(lr.high, hr.high)
        lr, hr = (_in_range(image, *ends) for image in (lr, hr))
    return lr, hr


def _in_range(image: Micrograph, low: float, high: float) -> Micrograph:
    """The image with another black and white."""
    if (image.low, image.high) == (low, high):
        return image
    pixels = to_pixels(image.to_raw(image.pixels), low, high)
    return replace(image, pixels=pixels, low=low, high=high)


def _read(files: PairFiles) -> tuple[NDArray, NDArray]:
    """The pixels of LR and HR.

    Raises:
        ImageError: as `read_pair`, or the ranges of the two do not fit each other.
    """
    lr, hr = read_pair(files)
    low, high = sorted(max(float(image.pixels.mean()), 1e-6) for image in (lr, hr))
    if high > MOST_BRIGHTNESS * low:
        raise ImageError(
            f"LR is {_exposure(lr)} and HR {_exposure(hr)}, so they differ {high / low:.1f}-fold "
            "in brightness: bring both to the same bit depth and range first."
        )
    return lr.pixels, hr.pixels


def _exposure(image: Micrograph) -> str:
    mean = image.pixels.mean()
    return (
        f"{image.dtype} with a mean of {mean:.1%} of its range from {image.low:g} to {image.high:g}"
    )


def _register(
    readers: Mapping[str, Callable[[], tuple[NDArray, ...]]], progress: PairProgress | None
) -> PairSet:
    """Register the pair (LR, HR) that each reader gives; what a user can mend refuses it."""
    found = PairSet([], {})
    for done, (name, read) in enumerate(readers.items(), start=1):
        try:
            lr, hr = read()
            found.pairs.append(register_pair(lr, hr, name=name))
        except Exception as error:
            found.refused[name] = sentence_or_raise(error)
        if progress is not None:
            progress(done, len(readers), name)
    return found
