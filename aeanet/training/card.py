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
    "smooth noise": lambda score: score.get("smooth", False),
    "all": lambda score: True,
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

_TRAINED_ON = (
    "Simulated micrographs only, none of which repeats: `aeanet.data.synthetic` draws specimens "
    "(particles, porous bodies, fibres, foams, grains, layers, lithography, polished sections, "
    "tissue, dead leaves) and instruments (noise from next to none to strong, correlated along the "
    "line, blur, astigmatism, brightness and contrast, charging, line jitter, vibration; 1x to 4x; "
    "8 to 16 bits). No real image was used for training. A third of the settings lie around "
    "statistics of real LR images (grey levels, noise against brightness, its correlation), and "
    "specimens are as coarse as those of the same images (the fall of their spectrum). The "
    "simulator is named by the SHA-256 of its source."
)
_SMOOTH_TOO = (
    " In a fifth of the images the noise is smooth along the lines, across them or both ways, as a "
    "slow detector, a filter, a correction of drift or a digital zoom makes it."
)
NOT_COMPARED = "Whether another network or attention does better at equal budgets is not yet shown."
_LIMITS = (
    "- It can take dense regular patterns with a period of three or four pixels of the image, such "
    "as arrays of holes, for noise and remove them. `aeanet restore` then warns that what was "
    "taken away repeats regularly.",
    "- An image at 1x whose noise is below half a grey level of 8 bits is clean already, and its "
    "result can be further from the truth than it is, if only by less than can be seen: leave such "
    "an image as it is.",
    "- It is a statistical estimate. It can smooth away structure that is weaker than the noise, "
    "and what it draws below the resolution of the image is a guess: do not measure such details "
    "in its results.",
    "- It knows scanning electron micrographs as the simulator draws them. Photographs, text, "
    "diffraction patterns and other detectors lie outside.",
    "- Its results are clean targets of simulated scans, so they can look smoother than a real "
    "image of the same kind.",
    "- A model trained on your own pairs does better on images like them: "
    "`aeanet train PAIRS --from sem`.",
)


def model_card(record: Mapping[str, Any], measured: Sequence[str] | None = None) -> str:
    """Markdown for the record of `pretraining.pretrain`.

    Args:
        record: with "name" and "start", the records of the trainings before it, if there are any.
        measured: paragraphs on what was measured beside the scores on simulated images.
    """
    # the options that the text itself says in words are not listed
    model, stages = record["model"], [*record.get("start", []), record]
    shown = {name: value for name, value in model.items() if name not in ("name", "told_noise")}
    options = ", ".join(f"{name} {value}" for name, value in shown.items())
    told = "the magnification"
    if model.get("told_noise"):
        told += " and the noise that is measured in the image: how strong it is, and how smooth"

    # all trainings that led to this model, the first one first
    course = "; then ".join(_course(stage, model) for stage in stages)

    # without a comparison the card says that there is none
    if measured is None:
        measured = [NOT_COMPARED] if model["name"] == "shuffled" else []

    # in the order of a reader's questions: what it is, what it saw, how good it is, where it fails
    parts = [
        f"# {record.get('name', 'A model pretrained on simulated micrographs')}",
        "Restores electron micrographs: less noise, and up to 4 times the pixels along each side, "
        "at once.",
        "## What it is",
        f"The network `{model['name']}` ({options or 'its usual options'}). It is told {told}. "
        "Its weights are the running average of the latest steps, rounded to float16 in the "
        "shipped file.",
        f"Trained by `aeanet pretrain` with Adam: {course}. The record beside this card has all "
        "settings and versions.",
        "## What it was trained on",
        _TRAINED_ON + (_SMOOTH_TOO if model.get("told_noise") else ""),
        "## Scores",
        *_simulated_scores(record),
        *measured,
        "## Limits",
        *_LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _course(record: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """A training, in words, with the options of its network where they are not those of `model`."""
    # an earlier training may be of a smaller network: only what differs from `model` is said
    recipe = record["recipe"]
    differing = [
        f", {name} {value}" for name, value in record["model"].items() if model.get(name) != value
    ]

    # a record without a loss is of MAE
    losses = {"relative": "relative error", "psnr": "PSNR"}
    loss = losses.get(recipe.get("loss"), "mean absolute error")
    ended = ", ended early," if record["interrupted"] else ""
    return (
        f"{record['steps_done']:,} steps of {recipe['batch']} crops of {recipe['crop']} px{ended} "
        f"in {record['seconds'] / 60:.0f} minutes on {record['device']} with {record['threads']} "
        f"thread(s), {loss}, {recipe['schedule']} learning rate up to {recipe['rate']:g}, products "
        f"in {recipe['precision']}, seed {recipe['seed']}, simulator "
        f"`{record['data']['sha256'][:12]}`{''.join(differing)}"
    )


def _simulated_scores(record: Mapping[str, Any]) -> list[str]:
    """Paragraphs on the gain over bicubic interpolation on simulated images held back."""
    # this network alone takes several flips without being asked
    parts = []
    if record["model"]["name"] == "shuffled":
        parts.append(
            "All are of the mean over four flips of the image, which is the result unless one asks "
            "otherwise."
        )

    # An image above `VISIBLE` has nothing to gain and would only blur the table.
    scores = record["scores"].get("simulated", [])
    if scores:
        visible = [score for score in scores if score["psnr_bicubic"] < VISIBLE]
        parts += [
            "On simulated images held back (160 x 192 px LR), gain over bicubic interpolation:",
            _simulated_table(visible),
            _harm([score for score in visible if score["psnr"] < score["psnr_bicubic"] - HARM]),
        ]
    clean = [score["psnr"] for score in scores if score["psnr_bicubic"] >= VISIBLE]
    if clean:
        parts.append(
            f"{len(clean)} more are clean already, with an error below half a grey level of 8 bits "
            f"({VISIBLE} dB): their results have {min(clean):.1f} dB or more."
        )
    return parts


def _simulated_table(scores: Scores) -> str:
    # an image is in several groups; one without images would have no mean and no worst
    lines = [
        "| images | number | Δ PSNR (dB) | Δ SSIM | worst Δ PSNR (dB) |",
        "|---|---|---|---|---|",
    ]

    # the worst gain stands beside the mean: a mean hides the image that was harmed
    for title, belongs in GROUPS.items():
        group = [score for score in scores if belongs(score)]
        if group:
            gains = [score["psnr"] - score["psnr_bicubic"] for score in group]
            similar = statistics.fmean(score["ssim"] - score["ssim_bicubic"] for score in group)
            lines.append(
                f"| {title} | {len(group)} | {statistics.fmean(gains):+.2f} | {similar:+.3f} | "
                f"{min(gains):+.2f} |"
            )
    return "\n".join(lines)


def _harm(worse: Scores) -> str:
    warning = ""
    if any("warned" in score for score in worse):
        warned = sum(score.get("warned", False) for score in worse)
        warning = f", and `aeanet restore` warns of {warned} of them"
    return (
        f"{len(worse) or 'None'} of the results {'is' if len(worse) < 2 else 'are'} further from "
        f"the truth than the interpolated image by more than {HARM} dB{warning}."
    )
