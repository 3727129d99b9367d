"""What the READMEs say of the microscopist's tool."""

from __future__ import annotations

import json
import statistics
from typing import Any

from aeanet.networks.registry import SHIPPED_FOLDER
from aeanet.training import Recipe

from ..denoising.networks import FEWER_FLIPS, SHIPPED
from ..denoising.scores import Scores
from ..denoising.table import section
from ..record import RESULTS, read
from ..report import markdown

# ---- README.md and aeanet/README.md --------------------------------------------------------------


def sem_sentence() -> str:
    """What the shipped model gains on the picture, and on real pairs."""
    record = json.loads((SHIPPED_FOLDER / "sem.json").read_text(encoding="utf-8"))
    example, real = record["example"], record["scores"]["real"]
    psnr, ssim = (statistics.fmean(s[name] for s in real) for name in ("delta_psnr", "delta_ssim"))
    return (
        f"This simulated image, which the model has not seen, gains {example['delta_psnr']:+.2f} "
        f"dB PSNR and {example['delta_ssim']:+.3f} SSIM over bicubic interpolation. On "
        f"{len(real)} real SEM pairs, none of which it was trained on, it gains {psnr:+.2f} dB "
        f"and {ssim:+.3f}.\nThe model is a U-Net without attention; [its card]"
        f"(aeanet/models/sem.md) says why, and lists its limits."
    )


def flips_sentence() -> str:
    """What the mean over flips of the image brings and costs."""
    scores = Scores.read(RESULTS / "denoising.json")
    gains, seconds = [], []
    for title in (*reversed(FEWER_FLIPS), SHIPPED):
        of_pairs = scores.models[title].values()
        gains.append(f"{statistics.fmean(gain[0] for gain in of_pairs):+.2f}")
        seconds.append(f"{scores.about['seconds'][title] / scores.about['seconds'][SHIPPED]:.2f}")
    return (
        f"On the {len(scores.bicubic)} real pairs one, two and four flips gain {gains[0]}, "
        f"{gains[1]} and {gains[2]} dB,\nin {seconds[0]}, "
        f"{seconds[1]} and {seconds[2]} of the time."
    )


def errors_sentence() -> str:
    """How many true values lie within the standard errors."""
    # within one and within the wider error, of simulated images, then of real ones
    record = json.loads((RESULTS / "error-bars.json").read_text())
    shares = [
        " and ".join(
            f"{record[images]['standard error']['all'][within]:.1%}"
            for within in ("within_one", "within_wider")
        )
        for images in ("simulated", "real")
    ]
    return (
        f"On {record['images']} simulated images held back {shares[0]} of the true values lie "
        f"within one and {record['wider']:.2f}\nstandard errors, on {record['pairs']} real pairs "
        f"{shares[1]}."
    )


def demo_sentence() -> str:
    """What the demonstration reached."""
    demo = read("demo")
    return (
        f"After {demo['steps']:,} training steps ({demo['training_seconds']:.0f} s), its unseen "
        f"image gained {demo['delta_psnr']:+.2f} dB PSNR and {demo['delta_ssim']:+.3f} SSIM over "
        f"bicubic\ninterpolation. The attention over {demo['positions']:,} positions took "
        f"{demo['attention_seconds']:.3f} s; the map alone would have needed "
        f"{demo['map_bytes'] / 1e9:.1f} GB."
    )


def frames_table() -> str:
    """What several frames bring, and what the alignment errs by."""
    # a row for each way at each magnification, a column for each number of frames
    record = read("frames")
    numbers = list(record["scenes"][0]["psnr"])
    magnifications = sorted({scene["magnification"] for scene in record["scenes"]})
    ways = {"plain": "plain mean", "aligned": "aligned mean", "restored": "aligned and restored"}
    rows = []
    for magnification in magnifications:
        for way, title in ways.items():
            gains = [_frames_gain(record, magnification, number, way) for number in numbers]
            rows.append([f"{title}, {magnification:g}x", *(f"{gain:+.1f}" for gain in gains)])

    head = ["PSNR over that of one frame restored, dB", *(f"{n} frames" for n in numbers)]
    kinds = len({scene["kind"] for scene in record["scenes"]})
    return (
        f"On simulated frames of {kinds} kinds of specimen that drift by several pixels and have "
        f"the noise of real images (`python -m benches.frames` at {record['commit']}):\n\n"
        f"{markdown(head, rows)}\n\n{_frames_errors(record)}"
    )


def _frames_errors(record: dict[str, Any]) -> str:
    """The alignment at the size of real images, what its errors cost, and the noise left."""
    # the alignment alone, at the size of real images
    found = record["alignment"]
    errors = [scene["rms"] for scene in found["scenes"]]
    within = statistics.fmean(scene["lines within 0.1"] for scene in found["scenes"])
    shown = record["shown"]

    # what is lost on the way: by errors of the alignment, and by drift at all
    reached, true, still = (
        _frames_gain(record, 1.0, str(shown), way) for way in ("restored", "true drift", "no drift")
    )

    # the noise left in the mean, as a share of one frame's and as it is measured from the frames
    noise = [scene["noise"] for scene in record["scenes"] if scene["magnification"] == 1]
    ratio, along, across, right = (
        statistics.fmean(values)
        for values in (
            [each["sd"] / each["frame"] for each in noise],
            [each["along"] for each in noise],
            [each["across"] for each in noise],
            [each["sd"] / each["error"] for each in noise],
        )
    )
    width, height = found["shape"][::-1]
    return (
        f"The alignment of {shown} frames of {width} x {height} px errs by {min(errors):.3f} to "
        f"{max(errors):.3f} px (root mean square over all lines, {len(errors)} kinds), and "
        f"{within:.0%} of the lines by at most 0.1 px. With the true drift {shown} frames at 1x "
        f"would gain {true - reached:.2f} dB more, and without drift and interpolation "
        f"{still - reached:.2f} dB more. The noise left in their mean is {ratio:.2f} of that of "
        f"one frame ({shown**-0.5:.2f} without interpolation), with neighbours correlated by "
        f"{along:.2f} along the lines and {across:.2f} across them; as measured from the frames it "
        f"is {right:.2f} of the true one."
    )


def scans_sentence() -> str:
    """What training on noisy images brings, beside training on the truth."""
    record = read("scans")
    scores = record["psnr"]
    surfaces = list(scores["shipped"])

    def gains(way: str) -> str:
        each = [scores[way][name] - scores["shipped"][name] for name in surfaces]
        listed = ", ".join(f"{gain:+.2f}" for gain in each)
        return f"{statistics.fmean(each):+.2f} dB on average ({listed})"

    return (
        f"On photographs of surfaces ({', '.join(surfaces)}), which the shipped model was not "
        f"trained on, with noise correlated by {record['along']} along the lines: after at most "
        f"{record['minutes']:g} minutes of training on {record['scans']} scans of one part of each "
        f"surface, single scans of other parts gain {gains('repeated scans')} over the shipped "
        f"model; after training on one scan of each, {gains('single images')}. With the truth it "
        f"would be {gains('truth')}. (`python -m benches.scans` at {record['commit']})"
    )


def _frames_gain(record: dict[str, Any], magnification: float, number: str, way: str) -> float:
    """Mean over the scenes of the PSNR, less that of one frame restored, dB."""
    scores = [
        scene["psnr"][number]
        for scene in record["scenes"]
        if scene["magnification"] == magnification
    ]
    return statistics.fmean(score[way] - score["one"] for score in scores)


# ---- benches/README.md ---------------------------------------------------------------------------


def denoising_section() -> str:
    """All methods on real pairs, and how they were compared."""
    return section(Scores.read(RESULTS / "denoising.json"))


def reproduce_section() -> str:
    """The paper's Table 1 as far as it was repeated."""
    # the columns by their titles: the table has more than are shown here
    record = read("reproduce-cpu")
    table = record["tables"]["table1-left"]
    shown = ["method", "pooled Δ PSNR (dB)", "pooled Δ SSIM"]
    shown += ["pooled AEANet − method (dB)", "paper, pooled"]
    columns = [table["columns"].index(name) for name in shown]
    rows = [[_cell(row[column]) for column in columns] for row in table["rows"]]

    # what is not the paper's way is said, where the record has it
    residual = "; U-Net, GVTNet and AEANet learn what to add to the image" * record["residual"]
    return (
        f"`aeanet reproduce` on {len(record['pairs'])} real pairs and a CPU, "
        f"{record['recipe']['steps']} of the paper's {Recipe().steps:,} steps a network: not yet "
        f"what the methods reach{residual}. ± is half of the 95 % interval over samples; the "
        f"paper's numbers are of its own images and networks.\n\n{markdown(shown, rows)}"
    )


def _cell(value: Any) -> str:
    """A mean with half of its interval, or a text."""
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    digits = 3 if abs(value["mean"]) < 0.2 else 2
    low, high = value["interval"]
    return f"{value['mean']:+.{digits}f} ± {(high - low) / 2:.{digits}f}".replace("-", "−")


def tiling_section() -> str:
    """Time, memory and quality of tiles."""
    record = read("tiling")
    parts = [_tiling_cost(record), _tiling_projection(record["projection"])]
    if "quality" in record:
        parts.append(_tiling_quality(record["quality"]))
    return "\n\n".join(parts)


def _tiling_cost(record: dict[str, Any]) -> str:
    # the same sides in both formats, of which TIFF stands for the time
    times = record["times"]
    peaks = {(m["kind"], m["side"]): m for m in record["mosaics"]}
    rows = []
    for side in sorted({side for _, side in peaks}):
        tiff, zarr = peaks["tif", side], peaks["zarr", side]
        memory = [f"{mosaic['peak'] / 2**30:.2f} GiB" for mosaic in (tiff, zarr)]
        rows.append([f"{side:,} x {side:,}", *memory, f"{tiff['seconds']:.0f} s"])
    head = ["mosaic, px", "peak memory, TIFF", "OME-Zarr", "time, TIFF"]
    return (
        f"On {record['threads']} CPU threads (`python -m benches.tiling` at {record['commit']}): a "
        f"1280x944 image in tiles of 512 px takes {times['512'] / times['whole']:.2f}x the time of "
        f"the whole image ({times['whole']:.2f} s). From file to file, in tiles of 1024 px:\n\n"
        f"{markdown(head, rows)}"
    )


def _tiling_projection(projection: dict[str, float]) -> str:
    seconds = projection["seconds_one_gpu"]
    return (
        f"A projection, not a measurement: a mosaic of 100,000 x 100,000 px is "
        f"{projection['flop'] / 1e15:.1f} PFLOP in both passes, {seconds:.0f} s on an H100 that "
        f"reaches a fifth of its bfloat16 peak and {seconds / 8:.0f} s on eight, if files of 10 GB "
        f"can be read and written that fast."
    )


def _tiling_quality(quality: dict[str, Any]) -> str:
    smallest = quality["rows"][0]
    exact, stitched = (smallest[way] - quality["whole"] for way in ("exact", "stitched"))
    return (
        f"With a model of `aeanet train --quick` on real pairs, tiles of {smallest['tile']} px "
        f"change PSNR ({quality['whole']:.2f} dB) by {exact:+.0e} dB where they are exact and by "
        f"{stitched:+.0e} dB where each attends to itself and they are stitched."
    )
