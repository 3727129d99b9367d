"""The tables of the comparison, from its record alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ..report import markdown
from .methods import METHODS, Method
from .networks import SHIPPED, TRAINED_ON
from .scores import TUNED_ON, Scores

Gains = Mapping[str, Sequence[float]]
"""Pair name -> gain on the whole image, (dB of PSNR, SSIM)."""
Row = tuple[str, Gains, str]
"""Title, gains, and with which strength."""
FIXED, EACH = "best fixed strength", "best strength for each image"


def rows(scores: Scores) -> list[Row]:
    """All rows that the record has numbers for."""
    found: list[Row] = []
    for name, method in METHODS.items():
        if name in scores.windows:
            found += _rows_of_method(scores, name, method)
    return found + [(title, gains, "") for title, gains in scores.models.items()]


def _rows_of_method(scores: Scores, name: str, method: Method) -> list[Row]:
    """With one strength for all images, and with the best of each image."""
    # the place was chosen on windows; of whole images there is only that one
    place, fixed = scores.place_and_strength(name)
    where = "LR, then interpolated" if place == "LR" else "interpolated LR"
    whole = scores.whole.get(name, {}).get(place, {})
    by_strength = {float(strength): gains for strength, gains in whole.items()}
    windows = scores.windows[name].get(place, {})

    # a run that was stopped has rows for what it has: the best of each image only when all have one
    found: list[Row] = []
    if fixed in by_strength:
        found.append((f"{method.title}, {FIXED}", by_strength[fixed], f"{fixed:g}, on {where}"))
    best = _best_of_each(scores, by_strength, windows, costly=method.costly)
    if len(best) == len(scores.bicubic):
        found.append((f"{method.title}, {EACH}", best, f"on {where}"))

    # before any whole image is done there are the windows, which the title says
    if method.costly and not by_strength and str(fixed) in windows:
        title = f"{method.title}, {FIXED}, middle only"
        found.append((title, windows[str(fixed)], f"{fixed:g}, on {where}"))
    return found


def _best_of_each(
    scores: Scores,
    by_strength: Mapping[float, Gains],
    windows: Mapping[str, Gains],
    *,
    costly: bool,
) -> dict[str, Sequence[float]]:
    """The gain of each pair with its own best strength, for pairs where several were tried; a
    costly method tries them on the middle of the image.
    """
    best = {}
    for pair in scores.bicubic:
        known = [gains[pair] for gains in by_strength.values() if pair in gains]
        tried = sum(pair in gains for gains in windows.values()) if costly else len(known)
        if known and tried > 1:
            best[pair] = max(known, key=lambda gain: gain[0])
    return best


def table(scores: Scores) -> str:
    """Mean gains over all pairs, and over the pairs that no network was trained on."""
    names, others = sorted(scores.bicubic), unseen(scores)
    head = ["method", f"Δ PSNR (dB), {len(names)} pairs", "Δ SSIM"]
    head += [f"Δ PSNR, {len(others)} unseen pairs", "strength"]
    lines = [["bicubic interpolation", "0", "0", "0", ""]]
    for title, gains, strength in rows(scores):
        trained = "fine-tuned" in title or "scratch" in title
        whole = [f"{_mean(gains, names, 0):+.2f}", f"{_mean(gains, names, 1):+.3f}"]
        partial = "" if trained or len(gains) >= len(names) else f" ({len(gains)} pairs)"
        cells = ["", ""] if trained else whole
        lines.append([title + partial, *cells, f"{_mean(gains, others, 0):+.2f}", strength])
    return markdown(head, lines)


def mean_gains(scores: Scores, pairs: Sequence[str]) -> dict[str, float]:
    """Mean gain (dB of PSNR) of every row over some pairs; a method with one strength for all
    images has its own name.
    """
    return {
        title.removesuffix(f", {FIXED}"): _mean(gains, pairs, 0) for title, gains, _ in rows(scores)
    }


def short_gains(scores: Scores) -> dict[str, float]:
    """Mean gains over the pairs that no network was trained on: of methods with one strength for
    all images, the shipped model, and what was fine-tuned from it.
    """
    shown = {SHIPPED, *(method.title for method in METHODS.values())}
    gains = mean_gains(scores, unseen(scores))
    return {t: gain for t, gain in gains.items() if t in shown or t.startswith("shipped")}


def unseen(scores: Scores) -> list[str]:
    """The pairs that no network was trained on."""
    return [name for index, name in enumerate(sorted(scores.bicubic)) if index % TRAINED_ON]


def _mean(gains: Gains, names: Sequence[str], index: int) -> float:
    values = [gains[name][index] for name in names if name in gains]
    return statistics.fmean(values) if values else float("nan")


def section(scores: Scores) -> str:
    """For the README of benches: how the comparison was made, and its table."""
    bicubic = [statistics.fmean(values) for values in zip(*scores.bicubic.values(), strict=True)]
    return (
        f"{len(scores.bicubic)} real pairs at 2x (`python -m benches.denoising PAIRS` at "
        f"{scores.about.get('commit', '?')}): registered, whole images without a border of 24 px, "
        f"mean gain over bicubic interpolation ({bicubic[0]:.2f} dB, SSIM {bicubic[1]:.3f}). Place "
        f"and fixed strength of each method are those with the best PSNR on the middle of every "
        f"{TUNED_ON}th pair, HR known; the best strength for each image needs its HR. Networks are "
        f"trained on every {TRAINED_ON}rd pair. BM3D is applied with white noise assumed.\n\n"
        f"{table(scores)}"
    )
