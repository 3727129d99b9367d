"""`python -m benches.error_bars [PAIRS]`: do the standard errors of the shipped model hold?

python -m benches.error_bars                     on simulated images held back
python -m benches.error_bars pairs/              also on real pairs
python -m benches.error_bars --ship runs/error   first calibrate this run and put it in

Writes `results/error-bars.json` and the reliability diagram beside it. The run is of
`aeanet pretrain --from sem --loss interval --steps 12000`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize

from aeanet.data.pairs import load_pairs
from aeanet.data.registration import RegisteredPair
from aeanet.data.synthetic import WholeImage, simulate_image
from aeanet.figures.style import render, tight
from aeanet.imaging.exposure import Exposure
from aeanet.imaging.flips import flips_of
from aeanet.inference.error import error_of_enlarged
from aeanet.inference.exposure import find_exposure
from aeanet.inference.noise import at_lr_pixels, measured_noise
from aeanet.inference.prediction import (
    enlarged_as_shown,
    reader,
    super_resolve_enlarged,
)
from aeanet.io.text import write_json
from aeanet.networks.error import (
    NOISES,
    USUAL_NOISE,
    ErrorNetwork,
    head_training,
    load_error_network,
    save_head,
)
from aeanet.networks.registry import SHIPPED_FOLDER, load_model
from aeanet.training.pretraining import HELD_BACK, held_back_images
from aeanet.training.run import RUN_FILE
from aeanet.trust.noise import estimate_noise

from .card import errors_section, shipped_card
from .record import RESULTS, commit

RECORD = RESULTS / "error-bars.json"
MULTIPLES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)  # of the standard error
NORMAL = 0.6827, 0.95  # shares that one standard error and `wider` of them are to hold
CALIBRATION = HELD_BACK + 1_000_000  # seeds from here on are of images to calibrate with
_PIXELS = 4000  # of an image, drawn at random
_BORDER = 8  # px of the result that are not looked at
_NOISE = (0.01, 0.03, 0.1)  # of the range used: borders between the bins
_THIRDS = (1 / 3, 2 / 3)  # of the range from black to white of the truth
_FLAT, _EDGE = 0.5, 0.8  # quantiles of the slope of the truth
_LEAST = 1e-4  # of the range: what a spread over flips counts at least


def errors_of(
    network: ErrorNetwork,
    enlarged: NDArray,
    truth: NDArray,
    exposure: Exposure,
    magnification: float,
    rng: np.random.Generator,
    mask: NDArray | None = None,
) -> dict[str, NDArray]:
    """Errors and standard errors at some pixels of an image, and what these pixels are.

    Args:
        network: that estimates the errors.
        enlarged: the image on the grid of the result, in the units of the network.
        truth: in the units of the image.
        exposure: of the image.
        magnification: of the result.
        rng: draws the pixels.
        mask: where there is a truth.
    """
    # four flips turned back, (4, H, W): the mean is the result, the spread the estimate to beat
    shown = {"exposure": exposure, "magnification": magnification}
    results = np.stack(
        [
            flip.of(
                super_resolve_enlarged(
                    network.restoring,
                    np.ascontiguousarray(flip.of(enlarged)),
                    **shown,
                    outliers="replace",
                    flips=1,
                    precision="float32",
                )
            )
            for flip in flips_of(4)
        ]
    )
    result = results.mean(0)
    error = error_of_enlarged(network, enlarged, **shown)

    # Where the truth changes, at the sharpness of the result.
    smooth = cv2.GaussianBlur(np.ascontiguousarray(truth, np.float32), (0, 0), 1.5)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    flat, edge = np.quantile(slope, [_FLAT, _EDGE])
    low, high = np.quantile(truth, [0.01, 0.99])

    # pixels where both a truth and an error are known, away from the edge, drawn at random
    usable = np.isfinite(error)
    usable[:_BORDER] = usable[-_BORDER:] = usable[:, :_BORDER] = usable[:, -_BORDER:] = False
    if mask is not None:
        usable &= mask
    rows, columns = np.nonzero(usable)
    chosen = rng.choice(rows.size, min(_PIXELS, rows.size), replace=False)
    at = rows[chosen], columns[chosen]

    # all in shares of the range used; what holds for the image is repeated for each pixel
    used = exposure.used
    told = measured_noise(reader(enlarged), enlarged.shape, magnification)[0, 0].item()
    same = np.ones(chosen.size)
    return {
        "size": np.abs(result - truth)[at] / used,
        "error": error[at] / used,
        "spread": np.maximum(results.std(0)[at] / used, _LEAST),
        "truth": truth[at],
        "brightness": ((truth[at] - low) / max(high - low, 1e-6)).clip(0, 1),
        "slope": np.digitize(slope[at], [flat, edge]),
        "told": told * same,
        "magnification": magnification * same,
    }


def of_simulated(network: ErrorNetwork, images: Iterable[WholeImage]) -> dict[str, NDArray]:
    """`errors_of` simulated images, with the noise of each, in shares of the range used."""
    rng, found = np.random.default_rng(0), []
    for image in images:
        exposure = find_exposure(reader(image.lr), image.lr.shape)
        enlarged = enlarged_as_shown(image.lr, exposure, image.magnification)
        errors = errors_of(network, enlarged, image.hr, exposure, image.magnification, rng)
        noise = float(image.noise) / max(exposure.used, 1e-6)
        found.append(errors | {"noise": np.full(errors["size"].shape, noise)})
    return joined(found)


def of_pairs(network: ErrorNetwork, pairs: Sequence[RegisteredPair]) -> dict[str, NDArray]:
    """`errors_of` real pairs. HR has noise of its own, estimated from HR at each brightness: its
    variance is added to the square of the standard error, and the spread over flips.
    """
    # errors are shares of the range that LR uses, as the network is shown it
    rng, found = np.random.default_rng(0), []
    for pair in pairs:
        magnification = pair.report.magnification
        exposure = find_exposure(reader(pair.lr), pair.lr.shape)
        errors = errors_of(
            network, exposure.scale(pair.lr), pair.hr, exposure, magnification, rng, pair.mask
        )

        # what HR is uncertain by itself, at the brightness of each pixel
        variance = estimate_noise(pair.hr).variance(errors["truth"]) / exposure.used**2
        noise = estimate_noise(at_lr_pixels(pair.lr, magnification)).sd / exposure.used
        for name in ("error", "spread"):
            errors[name] = np.sqrt(errors[name] ** 2 + np.nan_to_num(variance))
        found.append(errors | {"noise": np.full(errors["size"].shape, noise)})
    return joined(found)


def joined(found: Sequence[dict[str, NDArray]]) -> dict[str, NDArray]:
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def bins_of(errors: dict[str, NDArray]) -> dict[str, NDArray]:
    """Title -> which pixels belong to it."""
    # each pixel is in one bin by noise, one by brightness, one by slope, and in "all"
    noise = np.digitize(errors["noise"], _NOISE)
    brightness = np.digitize(errors["brightness"], _THIRDS)
    edges = [f"{border:.0%}" for border in _NOISE]
    noises = [f"below {edges[0]}", f"{edges[0]} to {edges[1]}", f"{edges[1]} to {edges[2]}"]
    bins = {
        f"noise {title}": noise == number
        for number, title in enumerate([*noises, f"above {edges[2]}"])
    }
    for number, title in enumerate(["dark third", "middle third", "bright third"]):
        bins[title] = brightness == number
    for number, title in enumerate(["flat", "between", "edge"]):
        bins[title] = errors["slope"] == number
    return {"all": np.ones(noise.shape, bool)} | bins


def coverage(errors: dict[str, NDArray], wider: float, by: str = "error") -> dict[str, Any]:
    """Title of a bin -> shares of the true values within one and `wider` standard errors, and how
    large these are.
    """
    ratio = errors["size"] / errors[by]
    return {
        title: {
            "pixels": int(inside.sum()),
            "within_one": round(float((ratio[inside] <= 1).mean()), 4),
            "within_wider": round(float((ratio[inside] <= wider).mean()), 4),
            "mean_error": round(float(errors[by][inside].mean()), 5),
        }
        for title, inside in bins_of(errors).items()
        if inside.any()
    }


def calibrate(network: ErrorNetwork, errors: dict[str, NDArray]) -> None:
    """Set the numbers of a network that is not calibrated with which its standard errors hold for
    these errors: by regression of the quantile on noise and magnification.
    """
    noise = np.nan_to_num(errors["told"], nan=USUAL_NOISE).clip(*NOISES)
    scale = np.log2(errors["magnification"])
    known = np.stack([np.ones_like(noise), np.log(noise), scale])
    missing = np.log(errors["size"] + 1e-9) - np.log(errors["error"] + 1e-9)

    def check_loss(numbers: NDArray) -> float:
        above = missing - numbers @ known
        return float(np.maximum(NORMAL[0] * above, (NORMAL[0] - 1) * above).mean())

    found = minimize(check_loss, np.zeros(3), method="Nelder-Mead").x
    network.calibration.copy_(torch.from_numpy(found))
    network.wider.fill_(float(np.exp(np.quantile(missing - found @ known, NORMAL[1]))))


def measured(errors: dict[str, NDArray], wider: float) -> dict[str, Any]:
    """Coverage of the standard error, and of the spread over flips made as wide as it must be for
    the same share of all pixels.
    """
    ratio = errors["size"] / errors["error"]
    needed, most = np.quantile(errors["size"] / errors["spread"], NORMAL)
    flips = errors | {"spread": errors["spread"] * needed}
    return {
        "standard error": coverage(errors, wider),
        "spread over flips": coverage(flips, float(most / needed), "spread"),
        "reliability": {
            str(multiple): round(float((ratio <= multiple).mean()), 4) for multiple in MULTIPLES
        },
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """The reliability diagram: shares within multiples of the standard error, against those of a
    normal distribution.
    """
    expected = [math.erf(multiple / math.sqrt(2)) for multiple in MULTIPLES]

    def diagram() -> Figure:
        figure = Figure((4.0, 4.0), layout=tight())
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.7", label="normal errors")
        for title in ("simulated", "real"):
            if title in record:
                shares = list(record[title]["reliability"].values())
                axes.plot(expected, shares, marker="o", label=title)
        axes.set_xlabel("share of a normal distribution within k standard errors")
        axes.set_ylabel("share of the true values found there")
        axes.legend()
        return figure

    path.write_bytes(render(diagram))


def _put_on_card(name: str, record: dict[str, Any]) -> None:
    """Say it on the card of the shipped model."""
    file = SHIPPED_FOLDER / f"{name}.json"
    of_model = json.loads(file.read_text()) | {"errors": errors_section(record)}
    write_json(file, of_model, 1)
    file.with_suffix(".md").write_text(shipped_card(of_model))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path, nargs="?", help="folder of real pairs")
    parser.add_argument("--ship", type=Path, help="run folder to calibrate and to put in")
    parser.add_argument("--name", default="sem", help="the shipped model")
    parser.add_argument("--images", type=int, default=240, help="simulated images")
    chosen = parser.parse_args()

    # calibrated on images that neither the training nor the scores below have seen
    if chosen.ship is not None:
        network = load_error_network(chosen.ship)
        network.fits_range = load_model(chosen.name).fits_range
        images = (
            simulate_image(
                CALIBRATION + number, (160, 192), magnification=(1.0, 2.0, None)[number % 3]
            )
            for number in range(chosen.images)
        )
        calibrate(network, of_simulated(network, images))

        # of the training only what the card says of it is kept beside the head
        run = json.loads((chosen.ship / RUN_FILE).read_bytes())
        training = {"steps": run["steps_done"], "seconds": round(run["seconds"])}
        print(save_head(network, chosen.name, training))

    # measured as it is shipped: with the head rounded to float16
    network = load_error_network(chosen.name)
    wider = float(network.wider)
    errors = of_simulated(network, held_back_images(chosen.images))
    record: dict[str, Any] = {"commit": commit(), "images": chosen.images, "wider": round(wider, 3)}
    record["training"] = head_training(chosen.name)
    record["simulated"] = measured(errors, wider)

    # real pairs where they are given: nothing is chosen by them
    if chosen.pairs is not None:
        pairs = load_pairs(chosen.pairs).pairs
        record["pairs"] = len(pairs)
        record["real"] = measured(of_pairs(network, pairs), wider)

    # the card and the diagram are made from the record, so all say the same
    write_json(RECORD, record, 1)
    _put_on_card(chosen.name, record)
    draw(record, RECORD.with_suffix(".png"))
    for title, row in record["simulated"]["standard error"].items():
        print(f"{title:>20}: {row['within_one']:.1%} {row['within_wider']:.1%}")


if __name__ == "__main__":
    main()
