"""The card of a shipped model: that of a pretrained one, and what the benchmarks measured since."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from aeanet.training.card import NOT_COMPARED, model_card

Entries = Sequence[Mapping[str, Any]]

ATTENTION = {"aeanet": "unet", "shuffled-bottom": "shuffled", "shuffled-all": "shuffled"}
"""Networks of `benches.networks` with attention, and the network without that each is compared
with.
"""


def shipped_card(record: Mapping[str, Any]) -> str:
    """Markdown for the record of a shipped model, which `benches.ship` writes."""
    # what every shipped model was scored on
    scores = record["scores"]
    parts = [
        "Do no harm: clean simulated images given at 1x come back at "
        f"{min(scores['clean']):.1f} dB or more (median {statistics.median(scores['clean']):.1f} "
        "dB).",
        _real(scores["real"]),
    ]

    # what other programs of the benchmarks add, if they ran
    if record.get("curve"):
        parts.append(_smooth(record["curve"]))
    if "cost" in record:
        parts.append(_cost(record["cost"]))
    if record["comparison"]:
        parts += ["## Which network", *comparison(record["comparison"])]
    elif record["model"]["name"] == "shuffled":
        parts.append(NOT_COMPARED)
    if "trust" in record:
        parts += ["## Warnings", record["trust"]]
    if "errors" in record:
        parts += ["## The standard error of each pixel", record["errors"]]
    return model_card(record, parts)


def _real(scores: Entries) -> str:
    psnr = statistics.fmean(score["delta_psnr"] for score in scores)
    ssim = statistics.fmean(score["delta_ssim"] for score in scores)
    return (
        f"On {len(scores)} real SEM pairs at 2x, never trained on (registered, whole images "
        f"without a border of 24 px): {psnr:+.2f} dB PSNR and {ssim:+.3f} SSIM over bicubic "
        "interpolation."
    )


def _smooth(curve: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """What is gained over BM3D on smooth noise, from levels of `denoising.curve`."""
    images = sum(len(gains["shipped"]) for gains in curve.values())
    told, best = (_more(curve, contender) for contender in ("bm3d at the noise", "bm3d"))
    return (
        f"On {images} simulated images at 1x whose noise is correlated by 0.4 along the lines and "
        f"by 0.6 across them: {told} over BM3D that is told the noise, and {best} over BM3D with "
        "the strength that is best for each image, which only the truth tells."
    )


def _more(curve: Mapping[str, Mapping[str, Sequence[float]]], contender: str) -> str:
    """The mean gain over a contender, and that at each level."""
    gains = {
        level: statistics.fmean(entry["shipped"]) - statistics.fmean(entry[contender])
        for level, entry in curve.items()
    }
    levels = ", ".join(f"{gain:+.2f} at {level}" for level, gain in gains.items())
    return f"{statistics.fmean(gains.values()):+.2f} dB ({levels} grey levels of 8 bits)"


def errors_section(record: Mapping[str, Any]) -> str:
    """What `benches.error_bars` found."""
    # what is claimed, on what it was counted, and beside which simple estimate
    wider, images = record["wider"], record["images"]
    text = (
        "`aeanet restore --error` writes it: 68 % of the true values are to lie within one "
        f"standard error, 95 % within {wider:.2f}. So many do, on {images} simulated images held "
        "back, in all pixels and by the noise (in shares of the range used), the brightness of "
        "the truth and how much it changes; beside it, what the spread over four flips gives, "
        "made wide enough to hold 68 % of all (`python -m benches.error_bars`). Its network was "
        f"trained for {record['training']['steps']:,} steps in "
        f"{record['training']['seconds'] / 60:.0f} minutes on two cores, by which the training was "
        "ended."
    )

    # on simulated images, whose truth is known, and on real pairs, whose truth has noise
    parts = [text, _coverage(record["simulated"]), _reliability(record["simulated"])]
    if "real" in record:
        text = (
            f"On {record['pairs']} real pairs. The truth there has noise of its own: its variance, "
            "estimated from HR at each brightness, is added to the square of the standard error. "
            "What else tells both images of a pair apart, in grey levels and in place, counts as "
            "error."
        )
        parts += [text, _coverage(record["real"]), _reliability(record["real"])]
    return "\n\n".join(parts)


def _coverage(found: Mapping[str, Any]) -> str:
    lines = [
        "| pixels | within one | within the wider | mean size | by flips: within one | mean size |",
        "|---|---|---|---|---|---|",
    ]
    flips = found["spread over flips"]
    for title, row in found["standard error"].items():
        lines.append(
            f"| {title} | {row['within_one']:.1%} | {row['within_wider']:.1%} | "
            f"{row['mean_error']:.2%} | {flips[title]['within_one']:.1%} | "
            f"{flips[title]['mean_error']:.2%} |"
        )
    return "\n".join(lines)


def _reliability(found: Mapping[str, Any]) -> str:
    """The reliability diagram in words."""
    shares = [
        f"{share:.0%} within {multiple} ({math.erf(float(multiple) / math.sqrt(2)):.0%})"
        for multiple, share in found["reliability"].items()
    ]
    return (
        "Shares of the true values within multiples of the standard error, in brackets those of a "
        f"normal distribution: {', '.join(shares)}."
    )


def _cost(entries: Entries) -> str:
    costs = [
        f"{entry['height']} x {entry['width']} px of result in {entry['seconds']:.1f} s and "
        f"{entry['gib']:.2f} GiB"
        for entry in entries
    ]
    return f"Cost on 2 CPU threads, from file to file in a process of its own: {'; '.join(costs)}."


def comparison(entries: Entries) -> list[str]:
    """A table for each budget and size of crops, of means over the seeds, and what attention
    adds.
    """
    # runs of unequal budgets or crops are not comparable, so each has a table of its own
    parts = []
    for budget, crops in dict.fromkeys((entry["budget"], entry["crops"]) for entry in entries):
        runs = [entry for entry in entries if (entry["budget"], entry["crops"]) == (budget, crops)]
        parts += [
            f"Trained on {crops} a step, for {budget} of their own steps each (`python -m "
            f"benches.networks` at {runs[0]['commit']}); gains over bicubic interpolation without "
            "flips, on simulated images held back and on real pairs:",
            _table(runs),
        ]

        # the same seed had the same crops, so gains are differences of two runs
        added = []
        for name, plain in ATTENTION.items():
            found = _added(runs, name, plain)
            if found:
                added.append(f"{name} against {plain}: {' and '.join(found)}")
        if added:
            parts.append(
                "What attention adds at equal time, mean and range over the seeds, in dB: "
                f"{'; '.join(added)}. The shipped model has none."
            )
    return parts


def _table(runs: Entries) -> str:
    lines = [
        "| network | seeds | steps | parameters | simulated Δ PSNR (dB) | simulated Δ SSIM | "
        "real Δ PSNR (dB) |",
        "|---|---|---|---|---|---|---|",
    ]

    # a row for each network, of means over its seeds
    for name in dict.fromkeys(run["network"] for run in runs):
        seeds = [run for run in runs if run["network"] == name]
        steps = statistics.fmean(run["steps"] for run in seeds)
        psnr = statistics.fmean(run["simulated_psnr"] for run in seeds)
        ssim = statistics.fmean(run["simulated_ssim"] for run in seeds)
        real = [f"{run['real_psnr']:+.2f}" for run in seeds if "real_psnr" in run]
        lines.append(
            f"| {name} | {len(seeds)} | {steps:,.0f} | {seeds[0]['parameters']:,} | {psnr:+.2f} | "
            f"{ssim:+.4f} | {', '.join(real) or '-'} |"
        )
    return "\n".join(lines)


def _added(runs: Entries, name: str, plain: str) -> list[str]:
    """The gain of one network over another with the same seeds, on each kind of images."""
    # only seeds that both networks were trained with
    found = []
    kinds = {"on simulated images": "simulated_psnr", "on the real pairs": "real_psnr"}
    for title, key in kinds.items():
        psnr = {(run["network"], run["seed"]): run[key] for run in runs if key in run}
        gains = [
            gain - psnr[plain, seed]
            for (network, seed), gain in psnr.items()
            if network == name and (plain, seed) in psnr
        ]
        if gains:
            found.append(
                f"{statistics.fmean(gains):+.2f} {title} ({min(gains):+.2f} to {max(gains):+.2f})"
            )
    return found
