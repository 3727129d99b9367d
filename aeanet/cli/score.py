"""`aeanet score`."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from aeanet.cli.shared import Chosen, argument, fail, option, path, say, warn
from aeanet.io.text import json_text

if TYPE_CHECKING:
    from aeanet.io.images import Micrograph

LEAST_LIKENESS = 0.5
"""Of an image and a result of the same field, unless the field has next to no structure."""

EXAMPLE = "aeanet score scan.tif scan-restored.tif --second scan2.tif scan2-restored.tif"


def main(
    image: Annotated[Path, argument("The image as it was recorded.", metavar="IMAGE", parser=path)],
    result: Annotated[
        Path,
        argument("What aeanet or another program made of it.", metavar="RESULT", parser=path),
    ],
    second: Annotated[
        tuple[Path, Path] | None,
        option(
            "Another scan of the same field, and what the same program made of it alone: the "
            "resolution before and after is then measured.",
            "--second",
            metavar="IMAGE RESULT",
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        option(
            "An image of the same field at a higher magnification, or with less noise, which need "
            "not be aligned: PSNR and SSIM against it are then told too.",
            parser=path,
        ),
    ] = None,
    chosen: Chosen = None,
    as_json: Annotated[bool, option("Write JSON, for programs.", "--json")] = False,
) -> None:
    """Score a result, with or without a truth, to choose between programs on your own images.

    It tells the noise before and after; whether what was taken away is as strong as the noise, and
    whether it follows the structure of the specimen, as noise alone does not; and the resolution
    by Fourier ring correlation: the period at which two scans no longer show the same (a
    correlation of 1/7). Without a second scan the resolution of the image is told by its even and
    odd lines, and that of the result is not known.

    With --truth it also tells how near the result and bicubic interpolation of the image come to
    it. Brightness and contrast do not count.
    """
    from aeanet.io.images import read_image
    from aeanet.scoring.no_reference import score_without_reference
    from aeanet.scoring.with_truth import score_with_truth

    # without a truth: from the noise of the image and what was taken away
    recorded, restored = (read_image(file, image=chosen) for file in (image, result))
    other = other_result = None
    if second:
        other, other_result = (read_image(file, image=chosen).pixels for file in second)
    try:
        score = score_without_reference(
            recorded.pixels, restored.pixels, second=other, second_result=other_result
        )
    except ValueError as error:
        fail(f"{image} and {result} cannot be scored: {error}")

    # with a truth: nearness to it, of the result and of bicubic interpolation
    by_truth = None
    if truth:
        known = read_image(truth, image=chosen).pixels
        by_truth = score_with_truth(recorded.pixels, restored.pixels, known)

    # two images of different fields have numbers too, which mean nothing
    if score.likeness < LEAST_LIKENESS:
        warn(
            f"{result} hardly resembles {image}: the means of their blocks of 8 x 8 px correlate "
            f"by {score.likeness:.2f}. Is it of the same field?"
        )
    range_of_file = recorded.high - recorded.low

    # for a program: all numbers, also those that are not finite, and null for what is not given
    if as_json:
        size = recorded.pixel_size
        of_files = {"range": range_of_file, "pixel_size": size and asdict(size)}
        values = {name: _rounded(value) for name, value in asdict(score).items()}
        say(json_text(values | of_files | {"truth": by_truth and by_truth.record()}))
        return

    # for a person: in the values of the file, and as lengths where the size of a pixel is known
    say(
        f"Noise: {score.noise * range_of_file:.3g} -> {score.noise_left * range_of_file:.3g} in "
        "the values of the file (standard deviation)"
    )
    say(
        f"Taken away: {score.taken:.2f} times the noise (1: the noise; above: more than it); its "
        f"correlation with the structure is {score.structure:.2f} (0: noise alone; above: "
        "structure too; below: noise was left there)"
    )
    before = _length(score.resolution, recorded)
    if score.resolution_left is None:
        say(f"Resolution: {before} before; that of the result needs a second scan (--second)")
    else:
        say(f"Resolution: {before} -> {_length(score.resolution_left, recorded)}")

    if by_truth:
        say(
            f"Against the truth: PSNR {by_truth.psnr_bicubic:.2f} -> {by_truth.psnr:.2f} dB, SSIM "
            f"{by_truth.ssim_bicubic:.4f} -> {by_truth.ssim:.4f} (bicubic interpolation of the "
            "image -> the result)"
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _length(period: float, image: "Micrograph") -> str:
    """A period in px of the image as a length, where the size of a pixel is known."""
    if not math.isfinite(period):
        return "none found"
    size = image.pixel_size
    if size is None:
        return f"{period:.2f} px"
    return f"{period * size.x:.3g} {size.unit} ({period:.2f} px)"
