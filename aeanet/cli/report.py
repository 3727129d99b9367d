"""What is to be said of an image that was restored. It is put together beside the restoration of
the next image, and printed when its turn comes.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aeanet.cli.places import TargetError, check_place
from aeanet.cli.shared import note, say, warn
from aeanet.imaging.exposure import Outliers
from aeanet.inference.error import unknown_at
from aeanet.inference.restored import Restored
from aeanet.io.atomic import LONGEST_NAME
from aeanet.io.images.reading import TIFF_SUFFIXES
from aeanet.io.images.writing import write_values
from aeanet.networks.base import Network
from aeanet.trust.places import warned_places

if TYPE_CHECKING:
    from aeanet.trust import TrustReport


@dataclass
class Report:
    """Sentences about one image.

    Attributes:
        name: of its file.
        target: the file of its result.
        sentences: in their order, each with the function that prints it.
        error: with which they ended, though the result was written.
    """

    name: str
    target: Path
    sentences: list[tuple[Callable[[str], None], str]] = field(default_factory=list)
    error: Exception | None = None

    def note(self, sentence: str) -> None:
        self.sentences.append((note, sentence))

    def warn(self, sentence: str) -> None:
        self.sentences.append((warn, sentence))

    def said(self, *, warnings: bool) -> list[str]:
        """The warnings, or all else that is said, without the name of the image."""
        chosen = [text for print_it, text in self.sentences if (print_it is warn) is warnings]
        return [text.removeprefix(f"{self.name}: ") for text in chosen]

    @contextmanager
    def keeping_error(self) -> Iterator[None]:
        """Within it, an error is kept until all is said."""
        try:
            yield
        except Exception as error:
            self.error = error

    def say(self) -> None:
        """Print all, at last the path of the result.

        Raises:
            Exception: the error that was kept.
        """
        for print_it, sentence in self.sentences:
            print_it(sentence)
        if self.error is not None:
            raise self.error
        say(str(self.target))


def note_change(report: Report, restored: Restored, outliers: Outliers = "keep") -> None:
    """Say what of a file does not enter the result, and what became of its outliers."""
    # an image that was read by regions has no source, and only its outliers are told
    name, source = restored.image.name, restored.source
    if source and source.bar:
        report.note(
            f"{name}: The information bar, {source.bar} rows at the bottom, is left out; "
            "--keep-bar keeps it."
        )
    if source and source.which:
        report.note(f"{name}: It holds several images; {source.which} is taken, the only raw one.")
    if number := restored.exposure.rows.size:
        what = "1 outlier" if number == 1 else f"{number:,} outliers"
        done = "kept; --outliers replace replaces it" if outliers == "keep" else "replaced"
        report.note(f"{name}: {what}, such as a hot or dead pixel, not shown to the model: {done}.")

    # slices of a stack may be stored as colours, and would be mixed
    if source and source.colour:
        slices = restored.image.suffix.lower() in TIFF_SUFFIXES
        hint = " Slices that were stored as colours are taken by --axes ZYX." if slices else ""
        report.note(f"{name}: The colours become grey.{hint}")


@dataclass(frozen=True)
class Judged:
    """An image and its result as they were judged, (H, W) each, in [0, 1], and what was found."""

    image: NDArray
    result: NDArray
    found: "TrustReport"
    used: float

    @property
    def noise(self) -> float | None:
        """In shares of the range that the image uses; None where it cannot be told."""
        sd = self.found.sd
        return sd / self.used if math.isfinite(sd) and self.used > 0 else None


def _of_range(value: float, used: float) -> str:
    """A number as a share of the range that an image uses, which is 0 for one of one value."""
    return f"{value / used:.1%} of the range used" if used > 0 else "0% of the range used"


def note_trust(report: Report, model: Network, restored: Restored, picture: Path | None) -> Judged:
    """Say how noisy an image is, warn of what is unusual, and write what was taken away to
    `picture`.
    """
    from aeanet.trust import assess, write_residual
    from aeanet.trust.residual import residual

    # judged in a range that has the share `width` of the file's: 1, unless the image uses little
    image, result, width = restored.judged()
    found = assess(model, image, result)
    name, used = restored.image.name, restored.exposure.used / width
    report.note(f"{name}: {found.summary(used, width * restored.unit)}")
    if used > 0:
        for sentence in found.warnings:
            report.warn(f"{name}: {sentence}")

    # the residual needs the noise, which cannot be told of every image
    if picture is not None and found.taken is None:
        report.note(f"{picture} is not written: what was taken away cannot be told.")
    if picture is not None and found.taken is not None:
        half = write_residual(picture, residual(image, result, found.noise))
        white = _of_range(half, used)
        report.note(f"{picture}: what was taken away; mid-grey is 0, white is {white}.")
    return Judged(image, result, found, used)


def residual_file(report: Report, images: Iterable[Path], overwrite: bool) -> Path | None:
    """Where the residual of a result goes; None as `_file_beside`."""
    ending = "-residual.png" if report.target.suffix == ".png" else "-residual.tif"
    return _file_beside(report, ending, "What was taken away", images, overwrite)


def _file_beside(
    report: Report, ending: str, what: str, images: Iterable[Path], overwrite: bool
) -> Path | None:
    """A file beside a result; None, with a warning, if one is there that is to be kept."""
    file = report.target.with_name(report.target.stem + ending)
    try:
        if len(os.fsencode(file.name)) > LONGEST_NAME:
            raise TargetError(f"the name of the image is too long to add {ending}.")
        check_place(file, overwrite=overwrite, inputs=images)
    except TargetError as error:
        report.warn(f"{what} is not written: {error}")
        return None
    return file


def without_warned(restored: Restored, judged: Judged) -> Restored:
    """With no standard error wherever the image is warned of."""
    if not judged.found.warnings or judged.found.taken is None:
        return restored
    return unknown_at(restored, warned_places(judged.image, judged.result, judged.found.noise))


def what_it_covers(wider: float) -> str:
    """What a standard error means; `wider` of them hold 95 % of the true values."""
    return (
        f"68 % of the true values lie within it, and 95 % within {wider:.1f} times it, for images "
        "like those of the training."
    )


def write_error(
    report: Report,
    restored: Restored,
    wider: float,
    judged: Judged,
    images: Iterable[Path],
    overwrite: bool,
) -> None:
    """Write the standard error of each pixel as NAME-error.tif, in the values of the image.

    Args:
        wider: how many standard errors hold 95 % of the true values.
    """
    # an image that was read by regions has none
    if restored.error is None:
        report.warn(f"{restored.image.name}: --error is for images that fit into the memory.")
        return
    file = _file_beside(report, "-error.tif", "The standard error", images, overwrite)
    if file is None:
        return

    # the file itself says what it means, since it may be opened alone
    covers = what_it_covers(wider)
    doubt = " This image is warned of: it may not hold here." if judged.found.warnings else ""
    values = restored.error * restored.unit
    write_values(
        file, values, restored.pixel_size, f"Standard error of each pixel. {covers}{doubt}"
    )

    # the median is that of the pixels where it is known, if there are any
    unknown = float(np.isnan(values).mean())
    nowhere = f" It is NaN, not known, in {unknown:.2%} of the pixels." if unknown else ""
    median = float(np.nanmedian(restored.error)) if unknown < 1 else math.nan
    typical = f"median {_of_range(median, restored.exposure.used)}"
    report.note(f"{file}: the standard error of each pixel, {typical}. {covers}{nowhere}{doubt}")
