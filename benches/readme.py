"""`python -m benches.readme [DEMO_FOLDER]`: put the recorded numbers into README, so that none is
typed by hand.

With the folder of an `aeanet demo`, its scores are recorded under `results/` first.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from aea_kernels.conversion.table import RECOGNISERS
from aeanet.networks.registry import SHIPPED_FOLDER
from aeanet.training import Recipe

from . import report
from .__main__ import HERE
from .denoising.scores import Scores
from .denoising.table import section

README = HERE.parent / "README.md"
RESULTS = HERE / "results"


def main() -> None:
    if len(sys.argv) > 1:
        record_demo(Path(sys.argv[1]))
    README.write_text(with_records(README.read_text(encoding="utf-8")), encoding="utf-8")


def with_records(text: str) -> str:
    """README's text with what the records under `results/` say between its markers."""
    text = fill(text, "supported", supported_table())
    text = fill(text, "sem", sem_sentence(json.loads((SHIPPED_FOLDER / "sem.json").read_text())))
    text = fill(text, "demo", demo_sentence(json.loads((RESULTS / "demo.json").read_text())))
    text = fill(
        text, "gpu", gpu_section(json.loads((RESULTS / "NVIDIA-H200-quick.json").read_text()))
    )
    text = fill(text, "denoising", denoising_section())
    text = fill(text, "benches", bench_section(json.loads((RESULTS / "cpu.json").read_text())))
    networks = RESULTS / "cpu-networks.json"
    text = fill(
        text,
        "networks",
        networks_section(json.loads(networks.read_text())) if networks.exists() else "",
    )
    text = fill(text, "tiling", tiling_section(json.loads((RESULTS / "tiling.json").read_text())))
    return fill(
        text,
        "reproduce",
        reproduce_section(json.loads((RESULTS / "reproduce-cpu.json").read_text())),
    )


def record_demo(folder: Path) -> None:
    shutil.copy(folder / "demo.json", RESULTS / "demo.json")


def fill(text: str, name: str, content: str) -> str:
    """`content` between the markers `<!-- name -->` and `<!-- /name -->`."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    text, found = re.subn(
        pattern, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL
    )
    if found != 1:
        raise ValueError(f"README has {found} places for {name!r}, wanted one")
    return text


def supported_table() -> str:
    """What `aea.convert` recognises."""
    lines = ["| from | class | replaced by | results |", "|---|---|---|---|"]
    for known in RECOGNISERS:
        classes = ", ".join(f"`{name}`" for name in known.classes) + f" {known.only}".rstrip()
        results = "the same" if known.exact else "others, with `retrain=True`"
        row = known.package, classes, f"`{known.operators}`", results
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def sem_sentence(record: dict[str, Any]) -> str:
    example, scores = record["example"], record["scores"]
    real = scores.get("real", [])
    on_real = ""
    if real:
        psnr, ssim = (
            sum(score[name] for score in real) / len(real) for name in ("delta_psnr", "delta_ssim")
        )
        on_real = (
            f" On {len(real)} real SEM pairs, which it was never trained on, it gains {psnr:+.2f} dB and {ssim:+.3f} "
            "SSIM."
        )
    return (
        f"The simulated image above, which the model has not seen, gains {example['delta_psnr']:+.2f} dB PSNR and "
        f"{example['delta_ssim']:+.3f} SSIM over bicubic interpolation.{on_real}\n"
        "[Its card](aeanet/models/sem.md) says what it was trained on, all its scores, and its limits."
    )


def demo_sentence(demo: dict[str, Any]) -> str:
    return (
        f"From `aeanet demo`: after {demo['steps']:,} training steps ({demo['training_seconds']:.0f} s), an unseen "
        f"simulated image gains {demo['delta_psnr']:+.2f} dB PSNR and {demo['delta_ssim']:+.3f} SSIM over bicubic\n"
        f"interpolation. Its attention over {demo['positions']:,} positions took {demo['attention_seconds']:.3f} s; "
        f"the materialised map alone would have needed {demo['map_bytes'] / 1e9:.1f} GB."
    )


def denoising_section() -> str:
    curve = "![Gain over the noisy image against its noise: the model in the box and BM3D](benches/results/noise-curve.png)"
    return f"{section(Scores.read(RESULTS / 'denoising.json'))}\n\n{curve}"


def gpu_section(record: dict[str, Any]) -> str:
    groups = [
        group
        for group in record["groups"]
        if group.startswith("operator | bottom | float32 | forward")
    ]
    absent = {
        name: result["status"]
        for group in groups
        for name, result in record["groups"][group].items()
        if "status" in result
    }
    (inference,) = (
        results["aeanet"]
        for group, results in record["groups"].items()
        if group.startswith("model | inf")
    )
    return (
        f"Equation 4 at the network's bottom for a 1280x944 image (236 x 320 positions, 128 channels, 2 heads, 64 "
        f"references, float32) on one {record['device']}, torch {record['torch']}, triton {record['triton']}, "
        f"`python -m benches --device cuda --quick` at {record['commit']}, before any tuning. *Plain eager* is PyTorch "
        f"with the product reordered. The whole AEANet takes {inference['median']:.1f} ms and "
        f"{inference['bytes'] / 2**30:.2f} GiB for 1280 x 944 px. Not measured: "
        f"{'; '.join(f'{name} ({why})' for name, why in absent.items())}.\n\n"
        f"{report.table(record, groups, only_measured=True)}"
    )


def bench_section(record: dict[str, Any]) -> str:
    bottom = [group for group in record["groups"] if group.startswith("block | bottom | float32")]
    slope = report.slope(report.scaling(record)["aea"])
    return (
        f"The block at the network's bottom for a 1280x944 image (236 x 320 positions, 128 channels, 2 heads, 64 "
        f"references, float32, CPU: {record['device']}, {record['threads']} threads, torch {record['torch']}, "
        f"`python -m benches` at {record['commit']}). *Plain eager* is the same block as one writes it in PyTorch, "
        f"product reordered; *bare products* are X X^T and M X, nothing else. Time grows with the number of positions "
        f"to the power {slope:.2f}.\n\n{report.table(record, bottom)}\n\n"
        f"![Time and memory against image side](benches/results/{record['name']}-scaling.png)"
    )


def networks_section(record: dict[str, Any]) -> str:
    return (
        f"Measured in one run, in turn, on a CPU ({record['device']}, {record['threads']} threads, torch "
        f"{record['torch']}, float32, `python -m benches --suite networks` at {record['commit']}): whole networks with "
        "their attention and with this library's, memory beyond network and image, the largest square image within "
        "8 GB (extrapolated), and how many times as fast single blocks are, forward / forward + backward, on maps of "
        "so many positions. MONAI's DiffusionModelUNet is converted with `retrain=True`.\n\n"
        f"{report.conversions(record)}"
    )


def reproduce_section(record: dict[str, Any]) -> str:
    table = record["tables"]["table1-left"]
    shown = (
        "method",
        "pooled Δ PSNR (dB)",
        "pooled Δ SSIM",
        "pooled AEANet − method (dB)",
        "paper, pooled",
    )
    columns = [table["columns"].index(name) for name in shown]
    rows = [
        "| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in table["rows"]
    ]
    steps = record["recipe"]["steps"]
    residual = (
        "; U-Net, GVTNet and AEANet learn what to add to the image" if record["residual"] else ""
    )
    return (
        f"`aeanet reproduce` on {len(record['pairs'])} real pairs and a CPU, {steps} of the paper's "
        f"{Recipe().steps:,} steps a network: not yet what the methods reach{residual}. ± is half of the 95 % interval "
        f"over samples; the paper's numbers are of its own images and networks.\n\n"
        f"| {' | '.join(shown)} |\n|{'---|' * len(shown)}\n" + "\n".join(rows)
    )


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        digits = 3 if abs(value["mean"]) < 0.2 else 2
        low, high = value["interval"]
        return f"{value['mean']:+.{digits}f} ± {(high - low) / 2:.{digits}f}".replace("-", "−")
    return "" if value is None else str(value)


def tiling_section(record: dict[str, Any]) -> str:
    times, projection = record["times"], record["projection"]
    peaks = {(m["kind"], m["side"]): m for m in record["mosaics"]}
    sides = sorted({side for _, side in peaks})
    streamed = "; ".join(
        f"{side:,} x {side:,}: {peaks['tif', side]['peak'] / 2**30:.2f} GiB from TIFF, "
        f"{peaks['zarr', side]['peak'] / 2**30:.2f} from OME-Zarr, {peaks['tif', side]['seconds']:.0f} s"
        for side in sides
    )
    text = (
        f"On {record['threads']} CPU threads (`python -m benches.tiling` at {record['commit']}): a 1280x944 image in "
        f"tiles of 512 px takes {times['512'] / times['whole']:.2f}x the time of the whole image "
        f"({times['whole']:.2f} s). Peak memory of the process from file to file, tiles of 1024 px: {streamed}. "
        f"A projection, not a measurement: a "
        f"mosaic of 100,000 x 100,000 px is {projection['flop'] / 1e15:.1f} PFLOP in both passes, "
        f"{projection['seconds_one_gpu']:.0f} s on an H100 that reaches a fifth of its bfloat16 peak and "
        f"{projection['seconds_one_gpu'] / 8:.0f} s on eight, if files of 10 GB can be read and written that fast."
    )
    if "quality" not in record:
        return text
    quality = record["quality"]
    smallest = quality["rows"][0]
    exact, stitched = (smallest[way] - quality["whole"] for way in ("exact", "stitched"))
    return (
        f"{text}\n\nWith a model of `aeanet train --quick` on real pairs, tiles of {smallest['tile']} px change "
        f"PSNR ({quality['whole']:.2f} dB) by {exact:+.0e} dB where they are exact and by {stitched:+.0e} dB where "
        f"each attends to itself and they are stitched.\n\n"
        f"![PSNR and memory against tile size](benches/results/tiling.png)"
    )


if __name__ == "__main__":
    main()
