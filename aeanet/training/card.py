"""The card of a model pretrained on simulated images: what it is, its training data, its scores,
its limits.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Scores = Sequence[Mapping[str, Any]]

GROUPS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "1x, denoising alone": lambda score: score["magnification"] == 1,
    "2x": lambda score: score["magnification"] == 2,
    "other, 1x to 4x": lambda score: score["magnification"] not in (1, 2),
    "noise below 0.01": lambda score: score["noise"] < 0.01,
    "noise 0.01 to 0.05": lambda score: 0.01 <= score["noise"] < 0.05,
    "noise 0.05 and more": lambda score: score["noise"] >= 0.05,
}
"""Groups of simulated images; noise is the standard deviation in LR as a share of the range from
black to white.
"""


VISIBLE = 54.2
"""dB of PSNR: an error of half a grey level of 8 bits. An image above it has nothing to gain that
can be seen.
"""
HARM = 0.1
"""dB: a result that is further from the truth than its interpolation by more is counted as harm."""


def model_card(record: Mapping[str, Any]) -> str:
    """Markdown for the record of `pretraining.pretrain`, and whatever was measured since
    (`benches.ship`).
    """
    model, scores, stages = record["model"], record["scores"], [*record.get("start", []), record]
    options = ", ".join(f"{name} {value}" for name, value in model.items() if name != "name")
    parts = [
        f"# {record.get('name', 'A model pretrained on simulated micrographs')}",
        "Restores electron micrographs: less noise, and up to 4 times the pixels along each side, at once.",
        "## What it is",
        f"The network `{model['name']}` ({options or 'its usual options'}). It is told the magnification. "
        "Its weights are the running average of the latest steps, rounded to float16 in the shipped file.",
        "Trained by `aeanet pretrain` with Adam: "
        + "; then ".join(_course(stage, model) for stage in stages)
        + ". The record beside this card has all settings and versions.",
        "## What it was trained on",
        "Simulated micrographs only, none of which repeats: `aeanet.data.synthetic` draws specimens (particles, porous "
        "bodies, fibres, foams, grains, layers, lithography, polished sections, tissue, dead leaves) and instruments "
        "(noise from next to none to strong, correlated along the line, blur, astigmatism, brightness and contrast, "
        "charging, line jitter, vibration; 1x to 4x; 8 to 16 bits). No real image was used for training. A third of "
        "the settings lie around statistics of real LR images (grey levels, noise against brightness, its "
        "correlation), and specimens are as coarse as those of the same images (the fall of their spectrum). The "
        "simulator is named by the SHA-256 of its source.",
        "## Scores",
    ]
    if model["name"] == "shuffled":
        parts.append(
            "All are of the mean over four flips of the image, which is the result unless one asks otherwise."
        )
    if scores.get("simulated"):
        parts += [
            "On simulated images held back (160 x 192 px LR), gain over bicubic interpolation:",
            _simulated_table(
                visible := [
                    score for score in scores["simulated"] if score["psnr_bicubic"] < VISIBLE
                ]
            ),
            _harm([score for score in visible if score["psnr"] < score["psnr_bicubic"] - HARM]),
        ]
        if clean := [
            score["psnr"] for score in scores["simulated"] if score["psnr_bicubic"] >= VISIBLE
        ]:
            parts.append(
                f"{len(clean)} more are clean already, with an error below half a grey level of 8 bits "
                f"({VISIBLE} dB): their results have {min(clean):.1f} dB or more."
            )
    if "clean" in scores:
        parts.append(
            "Do no harm: clean simulated images given at 1x come back at "
            f"{min(scores['clean']):.1f} dB or more (median {statistics.median(scores['clean']):.1f} dB)."
        )
    if "real" in scores:
        real = scores["real"]
        psnr, ssim = (
            statistics.fmean(score[name] for score in real) for name in ("delta_psnr", "delta_ssim")
        )
        parts.append(
            f"On {len(real)} real SEM pairs at 2x, never trained on (registered, whole images without a border of "
            f"24 px): {psnr:+.2f} dB PSNR and {ssim:+.3f} SSIM over bicubic interpolation."
        )
    if "cost" in record:
        parts.append(
            "Cost on 2 CPU threads, from file to file in a process of its own: "
            + _cost(record["cost"])
            + "."
        )
    if record.get("comparison"):
        parts += ["## Which network", *_comparison(record["comparison"])]
    elif model["name"] == "shuffled":
        parts.append(
            "Whether another network or attention does better at equal budgets is not yet shown."
        )
    if "trust" in record:
        parts += ["## Warnings", record["trust"]]
    parts += ["## Limits", *record.get("limits", LIMITS)]
    return "\n\n".join(parts) + "\n"


LIMITS = (
    "- It can take dense regular patterns with a period of three or four pixels of the image, such as arrays of holes, "
    "for noise and remove them. `aeanet restore` then warns that what was taken away repeats regularly.",
    "- An image at 1x whose noise is below half a grey level of 8 bits is clean already, and its result can be further "
    "from the truth than it is, if only by less than can be seen: leave such an image as it is.",
    "- It is a statistical estimate. It can smooth away structure that is weaker than the noise, and what it draws "
    "below the resolution of the image is a guess: do not measure such details in its results.",
    "- It knows scanning electron micrographs as the simulator draws them. Photographs, text, diffraction patterns and "
    "other detectors lie outside.",
    "- Its results are clean targets of simulated scans, so they can look smoother than a real image of the same kind.",
    "- A model trained on your own pairs does better on images like them: `aeanet train PAIRS --from sem`.",
)


def _course(record: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """A training, in words, with the options of its network where they are not those of `model`."""
    recipe = record["recipe"]
    other = "".join(
        f", {name} {value}" for name, value in record["model"].items() if model.get(name) != value
    )
    loss = {"relative": "relative error", "psnr": "PSNR"}.get(
        recipe.get("loss"), "mean absolute error"
    )
    ended = ", ended early," if record["interrupted"] else ""
    return (
        f"{record['steps_done']:,} steps of {recipe['batch']} crops of {recipe['crop']} px{ended} in "
        f"{record['seconds'] / 60:.0f} minutes on {record['device']} with {record['threads']} thread(s), {loss}, "
        f"{recipe['schedule']} learning rate up to {recipe['rate']:g}, products in {recipe['precision']}, seed "
        f"{recipe['seed']}, simulator `{record['data']['sha256'][:12]}`{other}"
    )


def _simulated_table(scores: Scores) -> str:
    lines = [
        "| images | number | Δ PSNR (dB) | Δ SSIM | worst Δ PSNR (dB) |",
        "|---|---|---|---|---|",
    ]
    for title, belongs in {**GROUPS, "all": lambda _: True}.items():
        group = [score for score in scores if belongs(score)]
        if group:
            gains = [score["psnr"] - score["psnr_bicubic"] for score in group]
            similar = statistics.fmean(score["ssim"] - score["ssim_bicubic"] for score in group)
            row = (
                title,
                len(group),
                f"{statistics.fmean(gains):+.2f}",
                f"{similar:+.3f}",
                f"{min(gains):+.2f}",
            )
            lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def _harm(worse: Scores) -> str:
    warned = sum(score.get("warned", False) for score in worse)
    warning = (
        f", and `aeanet restore` warns of {warned} of them"
        if any("warned" in score for score in worse)
        else ""
    )
    return (
        f"{len(worse) or 'None'} of the results {'is' if len(worse) < 2 else 'are'} further from the truth than the "
        f"interpolated image by more than {HARM} dB{warning}."
    )


ATTENTION = {"aeanet": "unet", "shuffled-bottom": "shuffled", "shuffled-all": "shuffled"}
"""Networks of `benches.networks` with attention, and the network without that each is compared
with.
"""


def _comparison(entries: Scores) -> list[str]:
    """A table for each budget and size of crops, of means over the seeds, and what attention
    adds.
    """
    parts = []
    for budget, crops in dict.fromkeys((entry["budget"], entry["crops"]) for entry in entries):
        runs = [entry for entry in entries if (entry["budget"], entry["crops"]) == (budget, crops)]
        lines = [
            "| network | seeds | steps | parameters | simulated Δ PSNR (dB) | simulated Δ SSIM | real Δ PSNR (dB) |",
            "|---|---|---|---|---|---|---|",
        ]
        for name in dict.fromkeys(run["network"] for run in runs):
            own = [run for run in runs if run["network"] == name]
            steps, psnr, ssim = (
                statistics.fmean(run[key] for run in own)
                for key in ("steps", "simulated_psnr", "simulated_ssim")
            )
            real = [f"{run['real_psnr']:+.2f}" for run in own if "real_psnr" in run]
            row = (
                name,
                len(own),
                f"{steps:,.0f}",
                f"{own[0]['parameters']:,}",
                f"{psnr:+.2f}",
                f"{ssim:+.4f}",
            )
            lines.append(f"| {' | '.join(map(str, row))} | {', '.join(real) or '-'} |")
        parts += [
            f"Trained on {crops} a step, for {budget} of their own steps each (`python -m benches.networks` at "
            f"{runs[0]['commit']}); gains over bicubic interpolation without flips, on simulated images held back and "
            "on real pairs:",
            "\n".join(lines),
        ]
        added = [
            f"{name} against {plain}: {' and '.join(found)}"
            for name, plain in ATTENTION.items()
            if (found := _added(runs, name, plain))
        ]
        if added:
            parts.append(
                f"What attention adds at equal time, mean and range over the seeds, in dB: {'; '.join(added)}. The "
                "shipped model has none."
            )
    return parts


def _added(runs: Scores, name: str, plain: str) -> list[str]:
    """The gain of one network over another with the same seeds, on each kind of images."""
    found = []
    for title, key in (
        ("on simulated images", "simulated_psnr"),
        ("on the real pairs", "real_psnr"),
    ):
        of = {(run["network"], run["seed"]): run[key] for run in runs if key in run}
        gains = [
            gain - of[plain, seed]
            for (network, seed), gain in of.items()
            if network == name and (plain, seed) in of
        ]
        if gains:
            found.append(
                f"{statistics.fmean(gains):+.2f} {title} ({min(gains):+.2f} to {max(gains):+.2f})"
            )
    return found


def _cost(cost: Scores) -> str:
    return "; ".join(
        f"{entry['height']} x {entry['width']} px of result in {entry['seconds']:.1f} s and {entry['gib']:.2f} GiB"
        for entry in cost
    )
