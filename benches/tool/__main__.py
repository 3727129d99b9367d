"""`python -m benches.tool IMAGE`: how long it takes to restore images from file to file.

Measures `aeanet restore` in a process of its own, with one image, with twenty more of its size, and
with a large one. Of the first image it tells apart the import of PyTorch, the network, and the
rest; of each further one, how much longer it takes than its network alone. Beside it the denoisers
of `benches.denoising`, whose record has the gains and strengths. Writes `results/tool.json` and
`tool.png`. On a machine that does nothing else: the times are those of a clock, with the
processor's beside them.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from aea_kernels.core.dtypes import multiplies_bfloat16
from aeanet.imaging.precision import Precision
from aeanet.io.images import read_image
from aeanet.io.text import write_json

from ..denoising.methods import METHODS
from ..denoising.scores import Scores
from ..record import RESULTS, header
from . import others, ours, plot
from .files import LARGE, MAGNIFICATION, write_large

FLIPS = (1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, help="an LR micrograph, at best of 640x472 px")
    parser.add_argument("--side", type=int, default=LARGE, help="px of the large image")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--record", type=Path, default=RESULTS / "tool.json")
    chosen = parser.parse_args()

    scores = Scores.read(RESULTS / "denoising.json")
    record = measure(chosen, scores)
    write_json(chosen.record, record, 1)
    plot.write(record, scores, chosen.record.with_suffix(".png"))


def measure(chosen: argparse.Namespace, scores: Scores) -> dict[str, Any]:
    # what the times depend on: the load before, the threads, the precisions the processor has
    load = os.getloadavg()[0]  # of the machine, before
    processor = torch.cpu.get_capabilities().get("cpu_name", platform.processor())
    record: dict[str, Any] = header("cpu", processor) | {"load": round(load, 1)}
    native = multiplies_bfloat16(torch.device("cpu"))
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if native else ("float32",)
    height, width = read_image(chosen.image).pixels.shape
    record["image"] = [width, height]
    record["result"] = [MAGNIFICATION * width, MAGNIFICATION * height]
    record["further"], record["longest"] = ours.FURTHER, others.LONGEST
    record["rows"], record["large"], record["others"] = [], {"side": chosen.side}, {}

    # every precision that the processor multiplies, with one flip and with four
    for precision in precisions:
        for flips in FLIPS:
            record["rows"].append(_shown(ours.measure(chosen.image, precision, flips)))

    # large images are restored in the default precision alone
    with tempfile.TemporaryDirectory() as folder:
        large = write_large(chosen.image, Path(folder), chosen.side)
        for flips in FLIPS:
            record["large"][str(flips)] = _shown(ours.seconds_of_large(large, flips))
        for name in chosen.methods:
            if name == "bm3d" and find_spec("bm3d") is None:
                print("BM3D is left out. For non-commercial use: pip install -e '.[compare]'")
                continue
            record["others"][name] = _shown(others.measure(chosen.image, large, name, scores))
    return record


def _shown(found: Any) -> Any:
    print(found, flush=True)
    return found


if __name__ == "__main__":
    main()
