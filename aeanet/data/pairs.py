"""The LR/HR pairs in a folder: found, read and registered."""

import math
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from numpy.typing import NDArray

from aeanet.data.registration import RegisteredPair, register_pair
from aeanet.errors import PairError, sentence_or_raise
from aeanet.io.images import SUFFIXES, ImageError, Micrograph, read_image
from aeanet.io.text import visible

PairProgress = Callable[[int, int, str], None]

MOST_BRIGHTNESS = (
    3.0  # greatest ratio of the means of LR and HR; 14 bits stored in 16 against 8 bits give 4
)

_LAYOUTS = "lr/NAME.png with hr/NAME.png, or NAME10000.bmp (LR) with NAME20000.bmp (HR)"


@dataclass(frozen=True)
class PairFiles:
    """The two files of one pair."""

    name: str
    lr: Path
    hr: Path


@dataclass(frozen=True)
class PairSet:
    """The registered pairs in the order of their names, and the others: name -> reason."""

    pairs: list[RegisteredPair]
    refused: dict[str, str]


def find_pairs(folder: str | os.PathLike[str]) -> list[PairFiles]:
    """The complete pairs of a folder, by name: `lr/NAME.*` with `hr/NAME.*`, else `NAME10000.*`
    with `NAME20000.*`.

    Raises PairError if the folder is not one, or holds no complete pair.
    """
    pairs, incomplete = _scan(Path(folder))
    if not pairs:
        reason = f": {next(iter(incomplete.values()))}" if incomplete else "."
        raise PairError(f"{folder} holds no complete pair of images, wanted {_LAYOUTS}{reason}")
    return pairs


def load_pairs(folder: str | os.PathLike[str], *, progress: PairProgress | None = None) -> PairSet:
    """Read and register all pairs of a folder; `progress(done, total, name)` is called after each.

    A pair that is incomplete, cannot be read or cannot be registered is in `refused` with the
    reason. Raises PairError if no pair can be used.
    """
    files, incomplete = find_pairs(folder), _scan(Path(folder))[1]
    found = _register(((pair.name, partial(_read, pair)) for pair in files), len(files), progress)
    refused = dict(sorted({**incomplete, **found.refused}.items()))
    if not found.pairs:
        name, reason = next(iter(found.refused.items()))
        raise PairError(f"None of the {len(files)} pairs in {folder} can be used; {name}: {reason}")
    return PairSet(found.pairs, refused)


def register_all(
    triples: Sequence[tuple[str, NDArray, NDArray]], *, progress: PairProgress | None = None
) -> PairSet:
    """Register (name, lr, hr) triples as `load_pairs` does; all may be refused."""
    pairs = {name: (lr, hr) for name, lr, hr in triples}
    return _register(
        ((name, partial(pairs.__getitem__, name)) for name in pairs), len(pairs), progress
    )


def hold_back(
    data: PairSet, which: float | Collection[str]
) -> tuple[PairSet, list[RegisteredPair]]:
    """The pairs to train on, and those held back, which are evenly spaced by name.

    `which` is their number (from 1 on), their share (below 1; at least one pair) or their names.
    Raises PairError for any other number, and if no pair is left to train on.
    """
    total = len(data.pairs)
    if isinstance(which, float | int):
        number = 0
        if 0 < which < math.inf:
            number = int(which) if which >= 1 else max(1, round(which * total))
        if not number or (which > 1 and which != number):
            raise PairError(
                f"{which} pairs cannot be held back: wanted a whole number, or a share below 1."
            )
        if number >= total:
            raise PairError(f"Holding back {number} of {total} pairs leaves none to train on.")
        which = evenly_spaced([pair.name for pair in data.pairs], number)
    held = [pair for pair in data.pairs if pair.name in which]
    return replace(data, pairs=[pair for pair in data.pairs if pair.name not in which]), held


def evenly_spaced(names: Sequence[str], number: int) -> list[str]:
    """`number` of the names, or all if they are fewer, evenly spaced: no choice by result."""
    number = min(number, len(names))
    return [names[(2 * i + 1) * len(names) // (2 * number)] for i in range(number)]


def _scan(folder: Path) -> tuple[list[PairFiles], dict[str, str]]:
    """The complete pairs by name, and the incomplete ones: name -> what is missing."""
    if not folder.is_dir():
        raise PairError(f"{folder} is not a folder; a folder of pairs is wanted: {_LAYOUTS}.")
    if (folder / "lr").is_dir() or (folder / "hr").is_dir():
        lr, hr = (_by_name(folder / kind, "") for kind in ("lr", "hr"))
        wanted = {"LR": f"{folder / 'lr'}/{{}}.*", "HR": f"{folder / 'hr'}/{{}}.*"}
    else:
        lr, hr = (_by_name(folder, ending) for ending in ("10000", "20000"))
        wanted = {"LR": f"{folder}/{{}}10000.*", "HR": f"{folder}/{{}}20000.*"}
    pairs, incomplete = [], {}
    for key in sorted({*lr, *hr}):
        name = visible(key.rstrip("_- ") or folder.resolve().name)
        found = {"LR": lr.get(key, []), "HR": hr.get(key, [])}
        for label, files in found.items():
            if not files:
                incomplete[name] = f"the {label} image {wanted[label].format(key)} is missing."
            elif len(files) > 1:
                incomplete[name] = (
                    f"{len(files)} files could be the {label} image: {', '.join(f.name for f in files)}."
                )
        if name not in incomplete:
            pairs.append(PairFiles(name, found["LR"][0], found["HR"][0]))
    return pairs, incomplete


def _by_name(folder: Path, ending: str) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (
            path.suffix.lower() in SUFFIXES
            and path.stem.endswith(ending)
            and not path.name.startswith(".")
        ):
            found.setdefault(path.stem.removesuffix(ending), []).append(path)
    return found


def _read(files: PairFiles) -> tuple[NDArray, NDArray]:
    """LR and HR, each over the range of its type. Raises ImageError if these ranges do not fit each
    other.
    """
    lr, hr = read_image(files.lr), read_image(files.hr)
    means = [max(float(image.pixels.mean()), 1e-6) for image in (lr, hr)]
    if max(means) > MOST_BRIGHTNESS * min(means):
        raise ImageError(
            f"LR is {_exposure(lr)} and HR {_exposure(hr)}, so they differ {max(means) / min(means):.1f}-fold in "
            "brightness: bring both to the same bit depth and range first."
        )
    return lr.pixels, hr.pixels


def _exposure(image: Micrograph) -> str:
    return f"{image.dtype} with a mean of {image.pixels.mean():.1%} of its range from {image.low:g} to {image.high:g}"


def _register(
    sources: Iterable[tuple[str, Callable[[], tuple[NDArray, NDArray]]]],
    total: int,
    progress: PairProgress | None,
) -> PairSet:
    found = PairSet([], {})
    for done, (name, read) in enumerate(sources, start=1):
        try:
            found.pairs.append(register_pair(*read(), name=name))
        except Exception as error:
            found.refused[name] = sentence_or_raise(error)
        if progress is not None:
            progress(done, total, name)
    return found
