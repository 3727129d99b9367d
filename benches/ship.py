"""`python -m benches.ship RUN`: score a pretrained model, and put it into the package with its card
and record.

Its scores on real pairs, its warnings and its standard errors are those of `benches.denoising`,
`benches.trust` and `benches.error_bars`, which measure the model in the package: with a new one,
first run `python -m benches.ship RUN --no-cost`, then these, then this again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aeanet.data.registration import RegisteredPair, RegistrationReport
from aeanet.data.synthetic import Acquisition, WholeImage, simulate_image
from aeanet.figures import draw_comparison
from aeanet.imaging.metrics import psnr
from aeanet.imaging.upsampling import upsample
from aeanet.inference.prediction import super_resolve
from aeanet.io.images import write_image
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import SHIPPED_FOLDER, load_model, save_model
from aeanet.scoring.evaluation import score_region
from aeanet.training.card import HARM, VISIBLE
from aeanet.training.pretraining import held_back_images, score_simulated
from aeanet.training.run import RUN_FILE
from aeanet.trust import assess

from .card import errors_section, shipped_card
from .denoising.__main__ import RECORD as COMPARISON
from .denoising.networks import SHIPPED
from .denoising.scores import Scores
from .error_bars import RECORD as ERRORS
from .precision import bfloat16_cost
from .record import RESULTS
from .trust.card import RECORD as TRUST_RECORD
from .trust.card import card_section

CURVE = RESULTS / "noise-curve.json"
SIZES = ((944, 1280, 1.0), (944, 1280, 2.0))  # of LR, and the magnification
_CHILD = """
import sys, time
import torch
torch.set_num_threads(2)
from pathlib import Path
from aeanet.inference.files import restore_file
from aeanet.networks.registry import load_model
start = time.monotonic()
model, source, target, magnification = sys.argv[1:]
restore_file(load_model(model), Path(source), Path(target), magnification=float(magnification))
seconds = time.monotonic() - start
# not of getrusage, whose peak counts the process from which this one was forked
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, int(peak.split()[1]) / 2**20)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run folder of `aeanet pretrain`")
    parser.add_argument(
        "--start",
        type=Path,
        nargs="*",
        default=[],
        help="run folders of the trainings before it, first to last",
    )
    parser.add_argument("--name", default="sem")
    parser.add_argument("--images", type=int, default=240, help="simulated images to score")
    parser.add_argument("--no-cost", action="store_true", help="do not measure time and memory")
    arguments = parser.parse_args()

    # the scores are of the rounded weights: the file is loaded again before anything is measured
    record = json.loads((arguments.run / RUN_FILE).read_bytes())
    file = save_model(
        load_model(arguments.run), SHIPPED_FOLDER / f"{arguments.name}.safetensors", half=True
    )
    model = load_model(file)
    images = held_back_images(arguments.images)
    model.bfloat16_cost = bfloat16_cost(model, images)
    save_model(model, file, half=True)
    record.pop("command", None)  # it names folders of the machine

    # what the card says of the training, then of the results
    record["name"] = arguments.name
    record["start"] = [json.loads((run / RUN_FILE).read_bytes()) for run in arguments.start]
    record["bfloat16_cost"] = model.bfloat16_cost
    record["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    record["scores"] = {
        "simulated": _on_simulated_images(model, images),
        "clean": [round(_clean(model, image.hr), 2) for image in images],
    }
    record["scores"]["real"] = _on_real_pairs()

    # what other modules of benches measured
    comparison = RESULTS / "networks.json"
    record["comparison"] = json.loads(comparison.read_text()) if comparison.exists() else []
    if CURVE.exists():
        record["curve"] = json.loads(CURVE.read_text()).get("smooth levels", {})
    if TRUST_RECORD.exists():
        record["trust"] = card_section(json.loads(TRUST_RECORD.read_text()))
    if ERRORS.exists():
        record["errors"] = errors_section(json.loads(ERRORS.read_text()))

    # the picture of the README; the cost, for each size in a process of its own
    record["example"] = _example(model)
    if not arguments.no_cost:
        record["cost"] = [_cost(file, *size) for size in SIZES]
    write_json(file.with_suffix(".json"), record, 1)
    file.with_suffix(".md").write_text(shipped_card(record))


def _clean(model: Network, image: np.ndarray) -> float:
    return psnr(super_resolve(model, image, magnification=1), image, np.ones(image.shape, bool))


def _on_simulated_images(model: Network, images: Sequence[WholeImage]) -> list[dict[str, Any]]:
    """As `score_simulated`; where the result is worse than interpolation by more than `HARM`, also
    whether it is warned of.
    """
    scores = score_simulated(model, images)
    for image, score in zip(images, scores, strict=True):
        if score["psnr"] < min(score["psnr_bicubic"], VISIBLE) - HARM:
            restored = super_resolve(model, image.lr, magnification=image.magnification)
            score["warned"] = bool(assess(model, image.lr, restored).warnings)
    return scores


def _on_real_pairs() -> list[dict[str, Any]]:
    """Gains over bicubic interpolation on real pairs, from the record of the comparison."""
    found = Scores.read(COMPARISON).models.get(SHIPPED, {})
    return [
        {"name": name, "delta_psnr": psnr, "delta_ssim": ssim}
        for name, (psnr, ssim) in sorted(found.items())
    ]


def _example(model: Network) -> dict[str, float]:
    """A simulated LR image for README, `example.png`, and the picture of its restoration; its
    scores.
    """
    image = simulate_image(
        2026, (472, 640), kind="mixed", acquisition=Acquisition(magnification=2.0, shot=1.1)
    )
    # there is nothing to register: the grids agree
    identity = ((2.0, 0.0, 0.5), (0.0, 2.0, 0.5))
    report = RegistrationReport(0, 0, 2.0, 0.0, 0.0, 0.0, 1.0, identity)
    everywhere = np.ones(image.hr.shape, bool)
    pair = RegisteredPair("simulated", upsample(image.lr, 2), image.hr, everywhere, report)
    restored = super_resolve(model, image.lr, magnification=2)
    score = score_region(pair.name, pair, restored)
    assert score is not None

    # small enough for a README
    write_image(RESULTS / "example.png", image.lr)
    with tempfile.TemporaryDirectory() as folder:
        draw_comparison(Path(folder) / "sem.png", pair, restored, score)
        picture = Image.open(Path(folder) / "sem.png").convert("RGB")
    picture.thumbnail((1600, 1600), Image.Resampling.LANCZOS)
    picture.save(RESULTS / "sem.jpg", quality=85)
    return {name: round(getattr(score, name), 4) for name in ("delta_psnr", "delta_ssim")}


def _cost(file: Path, height: int, width: int, magnification: float) -> dict[str, float]:
    """Seconds and peak memory (GiB) from file to file, in a process of its own."""
    import tifffile

    # in a process of its own, so that the memory of this one does not count
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "lr.tif"
        image = (
            np.random.default_rng(0).normal(110, 30, (height, width)).clip(0, 255).astype(np.uint8)
        )
        tifffile.imwrite(source, image)

        # from file to file, as a user meets it, start of Python and imports aside
        command = [
            sys.executable,
            "-c",
            _CHILD,
            str(file),
            str(source),
            str(Path(folder) / "out.tif"),
        ]
        done = subprocess.run(
            [*command, str(magnification)], capture_output=True, text=True, check=True
        )
    seconds, gib = map(float, done.stdout.split())
    size = {"height": round(height * magnification), "width": round(width * magnification)}
    return size | {"seconds": round(seconds, 2), "gib": round(gib, 2)}


if __name__ == "__main__":
    main()
