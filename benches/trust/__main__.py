"""`python -m benches.trust [PAIRS]`: how often the warnings of a restoration come, on images like
those of the training and on others.

    python -m benches.trust --learn 600    first learn the statistics of the training images anew
    python -m benches.trust pairs/         also with the LR images of real pairs, where no warning
                                           is expected

Everything is restored in float32, and in bfloat16 too where the processor multiplies it. Writes
`results/trust.json` and prints the table of the model card.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from aea_kernels.core.dtypes import multiplies_bfloat16
from aeanet.data.pairs import find_pairs
from aeanet.imaging.precision import Precision
from aeanet.imaging.upsampling import upsample
from aeanet.inference.prediction import super_resolve
from aeanet.io.images import read_image
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import load_model
from aeanet.trust import Reference, assess
from aeanet.trust.pattern import lost_pattern
from aeanet.trust.report import REFERENCE_FILE

from .card import LIKE_TRAINING, REAL, RECORD, card_section, totals
from .faults import FAULTS, eight_bits, faulty, photograph_crop, photographs
from .learning import Example, reference_statistics, simulated, write_reference

TESTED_FROM = 2_500_000_000  # seeds of simulated images from which nothing was learned
PHOTOGRAPHS = (
    "astronaut",
    "camera",
    "moon",
    "hubble_deep_field",
    "retina",
    "gravel",
    "colorwheel",
    "horse",
)
PAGES = ("page", "text")
PARTS = 2  # of each photograph, besides the whole
TRUTH_KEPT = (
    "noise beyond the range",
    "checkered detector",
    "columns of a detector",
    "salt and pepper",
    "lost lines",
)


def lines_repeated(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray:
    """Every line two or three times."""
    step = int(rng.integers(2, 4))
    return np.repeat(image[::step], step, 0)[: len(image)]


def halftone(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray:
    """Printed: black and white dots on a grid of 4 px."""
    dots = np.argsort(np.argsort(rng.random(16))).reshape(4, 4) / 16
    rows, columns = (length // 4 + 1 for length in image.shape)
    threshold = np.tile(dots, (rows, columns))[: image.shape[0], : image.shape[1]]
    return (image > threshold).astype(np.float32)


NEVER_SEEN = {"repeated lines": lines_repeated, "printed in dots": halftone}
"""Faults from which nothing was learned."""


class Case(NamedTuple):
    """One image that is restored and judged."""

    group: str
    kind: str
    image: NDArray[np.float32]
    magnification: float
    truth: NDArray | None = None
    """The clean target, if the fault leaves one."""


def cases(each: int, pairs: Path | None) -> Iterator[Case]:
    """All images, `each` of every kind of fault."""
    rng = np.random.default_rng(1)
    for index in range(20 * each):
        found = simulated(index, first=TESTED_FROM)
        yield Case(LIKE_TRAINING, found.kind, found.lr, found.magnification, found.hr)
    yield from _learned_faults(each, rng)
    yield from _other_faults(each, rng)
    yield from _pictures(rng)
    for files in find_pairs(pairs) if pairs else ():
        yield Case(REAL, REAL, read_image(files.lr).pixels, 2.0)


def _learned_faults(each: int, rng: np.random.Generator) -> Iterator[Case]:
    for number, kind in enumerate(FAULTS):
        for index in range(each):
            found = simulated(1000 + number * each + index, first=TESTED_FROM)
            image = faulty(found.lr, kind, rng)
            truth = found.hr if kind in TRUTH_KEPT else None
            yield Case("faults learned, other images", kind, image, found.magnification, truth)


def _other_faults(each: int, rng: np.random.Generator) -> Iterator[Case]:
    for number, (kind, fault) in enumerate(NEVER_SEEN.items()):
        for index in range(each):
            found = simulated(5000 + number * each + index, first=TESTED_FROM)
            image = eight_bits(fault(found.lr, rng))
            yield Case("faults never seen", kind, image, found.magnification)


def _pictures(rng: np.random.Generator) -> Iterator[Case]:
    for names, kind in ((PHOTOGRAPHS, "photographs"), (PAGES, "printed pages")):
        for photograph in photographs(names).values():
            parts = [photograph_crop(photograph, (192, 256), rng) for _ in range(PARTS)]
            for part in [photograph, *parts]:
                yield Case("pictures never seen", kind, part, 1.0)


def measure(
    model: Network,
    reference: Reference,
    each: int,
    pairs: Path | None,
    precision: Precision = "float32",
) -> dict[str, Any]:
    """Kind by kind: how many images, how many warned of, and by which warnings; `pattern` counts
    those that are warned of for a lost pattern alone, and rightly.
    """
    # restored and judged as the command does it, with the reference that is asked for
    kinds: dict[str, dict[str, Any]] = {}
    for case in cases(each, pairs):
        restored = super_resolve(
            model, case.image, magnification=case.magnification, precision=precision
        )
        report = assess(model, case.image, restored, reference=reference)
        unlike, taken = (report.distance or 0) > 1, (report.residual_distance or 0) > 1

        # images like those of the training are one kind, all others are told apart
        title = case.group if case.group == LIKE_TRAINING else case.kind
        counts = dict.fromkeys(("images", "warned", "unlike", "taken", "pattern"), 0)
        entry = kinds.setdefault(title, {"group": case.group, **counts, "gains": []})
        entry["images"] += 1
        entry["warned"] += bool(report.warnings)
        entry["unlike"] += unlike
        entry["taken"] += taken
        if case.truth is None:
            continue

        # whether a warning of a lost pattern alone is right, the truth tells
        if report.warnings and not unlike and not taken:
            entry["pattern"] += pattern_is_lost(restored, case.truth, case.image.shape)
        gain, error = gain_and_error(case, restored)
        entry["gains"].append([bool(report.warnings), round(gain, 3), error])
    return {"kinds": kinds, "learned_from": reference.images}


def gain_and_error(case: Case, restored: NDArray) -> tuple[float, float]:
    """Over interpolation, dB, and mean square error of the result, dB."""
    interpolated = upsample(case.image, case.magnification).clip(0, 1)
    before, after = (
        10 * np.log10(max(float(np.mean((image - case.truth) ** 2)), 1e-9))
        for image in (interpolated, restored)
    )
    return before - after, after


def pattern_is_lost(restored: NDArray, truth: NDArray, shape: tuple[int, ...]) -> bool:
    """Whether the result's error, on the grid of the image, (H, W) = `shape`, repeats regularly."""
    error = np.asarray(
        cv2.resize(truth - restored, shape[::-1], interpolation=cv2.INTER_AREA), np.float32
    )
    return lost_pattern(error) > 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path, nargs="?", help="folder of real pairs")
    parser.add_argument("--model", default="sem", help="name, run folder or file")
    parser.add_argument(
        "--learn", type=int, metavar="N", help="learn from N simulated images, and keep it"
    )
    parser.add_argument("--reference", type=Path, default=REFERENCE_FILE, help="where it is kept")
    parser.add_argument("--each", type=int, default=12, help="images of each kind")
    parser.add_argument("--out", type=Path, default=RECORD)
    chosen = parser.parse_args()

    model = load_model(chosen.model)

    # learned from other seeds than are tested
    if chosen.learn:
        drawn = [simulated(index) for index in range(chosen.learn)]
        examples = [Example(found.lr, found.magnification) for found in drawn]
        learned = reference_statistics(model, examples, residuals=max(20, chosen.learn // 3))
        write_reference(chosen.reference, learned)

    # once more in bfloat16, where that is what users get
    reference = Reference.read(chosen.reference)
    found = measure(model, reference, chosen.each, chosen.pairs)
    record = {"model": str(chosen.model), **found}
    if multiplies_bfloat16(torch.device("cpu")):
        narrow = measure(model, reference, chosen.each, chosen.pairs, "bfloat16")
        record["bfloat16"] = totals(narrow["kinds"])
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out, record, 1)
    print(card_section(record))


if __name__ == "__main__":
    main()
