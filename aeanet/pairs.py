"""A folder of LR/HR pairs, registered; the paper's 3x4 split; random crops for training."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from aeanet.images import SUFFIXES, ImageError, Micrograph, read_image
from aeanet.registration import RegisteredPair, RegistrationError, register_pair

Progress = Callable[[int, int, str], None]
Region = tuple[slice, slice]

MOST_BRIGHTNESS = 3.0  # ratio of LR's mean to HR's, or the inverse; 14 bits in 16 against 8 make 4

_LAYOUTS = "lr/NAME.png with hr/NAME.png, or NAME10000.bmp (LR) with NAME20000.bmp (HR)"


class PairError(ValueError):
    """A folder or set without a usable pair; the message is one sentence."""


@dataclass(frozen=True)
class PairFiles:
    """The two files of one pair."""

    name: str
    lr: Path
    hr: Path


@dataclass(frozen=True)
class PairSet:
    """The pairs that registered, in the order of their names, and for the others name -> reason."""

    pairs: list[RegisteredPair]
    refused: dict[str, str]


def find_pairs(folder: str | os.PathLike[str]) -> list[PairFiles]:
    """The complete pairs of a folder, by name: `lr/NAME.*` with `hr/NAME.*`, else `NAME10000.*` with `NAME20000.*`.

    Raises PairError if the folder is not one, or holds no complete pair.
    """
    pairs, incomplete = _scan(Path(folder))
    if not pairs:
        reason = f": {next(iter(incomplete.values()))}" if incomplete else "."
        raise PairError(f"{folder} holds no complete pair of images ({_LAYOUTS} is wanted){reason}")
    return pairs


def load_pairs(folder: str | os.PathLike[str], *, progress: Progress | None = None) -> PairSet:
    """Read and register all pairs of a folder; `progress(done, total, name)` is called after each.

    A pair that is incomplete, cannot be read or cannot be registered goes to `refused` with the reason, and the others
    go on. Raises PairError if none is left.
    """
    files, incomplete = find_pairs(folder), _scan(Path(folder))[1]
    found = _register(((pair.name, partial(_read, pair)) for pair in files), len(files), progress)
    refused = dict(sorted({**incomplete, **found.refused}.items()))
    if not found.pairs:
        name, reason = next(iter(found.refused.items()))
        raise PairError(f"None of the {len(files)} pairs in {folder} can be used; {name}: {reason}")
    return PairSet(found.pairs, refused)


def register_all(triples: Sequence[tuple[str, NDArray, NDArray]], *, progress: Progress | None = None) -> PairSet:
    """Register (name, lr, hr) triples held in memory; see `load_pairs`, but all may end up refused."""
    return _register(((name, partial(_both, lr, hr)) for name, lr, hr in triples), len(triples), progress)


def split_3x4(shape: tuple[int, ...]) -> tuple[Region, list[Region]]:
    """The paper's split of an (H, W) image: the left three quarters for training, three subimages for tests.

    For 944x1280: columns 0 to 959; and of columns 960 to 1279 the rows 0 to 313, 314 to 627 and 628 to 941.
    """
    height, width = shape
    column, row = 3 * width // 4, height // 3
    if column == 0 or row == 0:
        raise PairError(f"An image of {height} x {width} pixels is too small for the 3x4 split.")
    tests = [(slice(i * row, (i + 1) * row), slice(column, width)) for i in range(3)]
    return (slice(0, height), slice(0, column)), tests


def hold_back(data: PairSet, which: float | Collection[str]) -> tuple[PairSet, list[RegisteredPair]]:
    """The pairs to train on, and those held back from it, which are evenly spread over the order of the names.

    `which` is their number (from 1 on), their share (below 1, at least one pair) or their names. PairError if that
    leaves none to train on, or is not such a number.
    """
    total = len(data.pairs)
    if isinstance(which, float | int):
        number = int(which) if which >= 1 else max(1, round(which * total))
        if not which > 0 or (which > 1 and which != number):
            raise PairError(f"{which} pairs cannot be held back: wanted a whole number, or a share below 1.")
        if number >= total:
            raise PairError(f"Holding back {number} of {total} pairs leaves none to train on.")
        which = [data.pairs[(2 * i + 1) * total // (2 * number)].name for i in range(number)]
    held = [pair for pair in data.pairs if pair.name in which]
    return replace(data, pairs=[pair for pair in data.pairs if pair.name not in which]), held


class RandomCrops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """`length` square crops, each from a random image and there from a random place where all LR pixels are real.

    Item i is (lr, hr), float32 (1, size, size) each, and depends on `seed` and i alone. `regions` gives the part of
    each pair that may be drawn from; by default the training part of the 3x4 split. Pairs without room for one crop are
    left out; PairError if that leaves none.
    """

    def __init__(
        self,
        pairs: Sequence[RegisteredPair],
        size: int,
        length: int,
        *,
        seed: int = 0,
        regions: Sequence[Region] | None = None,
    ) -> None:
        if size < 1 or length < 1:
            raise PairError(f"Crops need a size and a number of at least 1, got size {size} and number {length}.")
        self.size, self.length, self.seed = size, length, seed
        regions = [split_3x4(pair.hr.shape)[0] for pair in pairs] if regions is None else regions
        self._sources: list[tuple[RegisteredPair, _Places]] = []
        for pair, region in zip(pairs, regions, strict=True):
            places = _Places(pair.mask, region, size)
            if places.count:
                self._sources.append((pair, places))
        if not self._sources:
            raise PairError(
                f"No pair has room for a crop of {size} x {size} valid pixels in its training region; "
                "use smaller crops or larger images."
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"crop {index} of {self.length}")
        random = np.random.default_rng((self.seed, index))
        pair, places = self._sources[random.integers(len(self._sources))]
        row, column = places[int(random.integers(places.count))]
        crop = (slice(row, row + self.size), slice(column, column + self.size))
        lr, hr = (torch.from_numpy(np.array(image[crop], dtype=np.float32))[None] for image in (pair.lr, pair.hr))
        return lr, hr


class _Places:
    """All upper left corners of size x size crops that lie in a region and are valid throughout."""

    def __init__(self, mask: NDArray[np.bool_], region: Region, size: int) -> None:
        self.origin = tuple(part.indices(length)[0] for part, length in zip(region, mask.shape, strict=True))
        invalid = np.pad(~mask[region], ((1, 0), (1, 0))).cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
        if min(invalid.shape) <= size:
            self.count = 0
            return
        inside = invalid[size:, size:] - invalid[:-size, size:] - invalid[size:, :-size] + invalid[:-size, :-size]
        self._free = inside == 0
        self._until = np.cumsum(np.count_nonzero(self._free, axis=1))
        self.count = int(self._until[-1])

    def __getitem__(self, index: int) -> tuple[int, int]:
        row = int(np.searchsorted(self._until, index, side="right"))
        before = int(self._until[row - 1]) if row else 0
        column = int(np.flatnonzero(self._free[row])[index - before])
        return self.origin[0] + row, self.origin[1] + column


def _scan(folder: Path) -> tuple[list[PairFiles], dict[str, str]]:
    """The complete pairs by name, and for the incomplete ones name -> what is missing."""
    if not folder.is_dir():
        raise PairError(f"{folder} is not a folder; one with {_LAYOUTS} is wanted.")
    if (folder / "lr").is_dir() or (folder / "hr").is_dir():
        lr, hr = (_by_name(folder / kind, "") for kind in ("lr", "hr"))
        wanted = {"LR": f"{folder / 'lr'}/{{}}.*", "HR": f"{folder / 'hr'}/{{}}.*"}
    else:
        lr, hr = (_by_name(folder, ending) for ending in ("10000", "20000"))
        wanted = {"LR": f"{folder}/{{}}10000.*", "HR": f"{folder}/{{}}20000.*"}
    pairs, incomplete = [], {}
    for key in sorted({*lr, *hr}):
        name = key.rstrip("_- ") or folder.resolve().name
        found = {"LR": lr.get(key, []), "HR": hr.get(key, [])}
        for label, files in found.items():
            if not files:
                incomplete[name] = f"the {label} image {wanted[label].format(key)} is missing."
            elif len(files) > 1:
                incomplete[name] = f"{len(files)} files could be the {label} image: {', '.join(f.name for f in files)}."
        if name not in incomplete:
            pairs.append(PairFiles(name, found["LR"][0], found["HR"][0]))
    return pairs, incomplete


def _by_name(folder: Path, ending: str) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in SUFFIXES and path.stem.endswith(ending) and not path.name.startswith("."):
            found.setdefault(path.stem.removesuffix(ending), []).append(path)
    return found


def _read(files: PairFiles) -> tuple[NDArray, NDArray]:
    """LR and HR, each over the range of its own type. Raises ImageError if these ranges cannot belong together."""
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


def _both(lr: NDArray, hr: NDArray) -> tuple[NDArray, NDArray]:
    return lr, hr


def _register(
    sources: Iterable[tuple[str, Callable[[], tuple[NDArray, NDArray]]]], total: int, progress: Progress | None
) -> PairSet:
    found = PairSet([], {})
    for done, (name, read) in enumerate(sources, start=1):
        try:
            found.pairs.append(register_pair(*read(), name=name))
        except (ImageError, RegistrationError) as error:
            found.refused[name] = str(error)
        if progress is not None:
            progress(done, total, name)
    return found
