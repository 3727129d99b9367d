"""The table of the comparison, from its record alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .methods import METHODS
from .networks import TRAINED_ON
from .scores import TUNED_ON, Scores

Row = tuple[str, Mapping[str, Sequence[float]], str]


def rows(scores: Scores) -> list[Row]:
    """Title, pair name -> gain (dB, SSIM) on the whole image, and with which strength."""
    found: list[Row] = []
    for name, method in METHODS.items():
        if name not in scores.windows:
            continue
        place, fixed = scores.place_and_strength(name)
        by_strength = {
            float(strength): gains
            for strength, gains in scores.whole.get(name, {}).get(place, {}).items()
        }
        where = "LR, then interpolated" if place == "LR" else "interpolated LR"
        if fixed in by_strength:
            found.append(
                (
                    f"{method.title}, best fixed strength",
                    by_strength[fixed],
                    f"{fixed:g}, on {where}",
                )
            )
        tried = scores.windows[name].get(place, {})
        best = {}
        for pair in scores.bicubic:
            known = {
                strength: gains[pair] for strength, gains in by_strength.items() if pair in gains
            }
            judged = (
                sum(pair in gains for gains in tried.values()) > 1
                if method.costly
                else len(known) > 1
            )
            if known and judged:
                best[pair] = max(known.values(), key=lambda gain: gain[0])
        if len(best) == len(scores.bicubic):
            found.append((f"{method.title}, best strength for each image", best, f"on {where}"))
        if method.costly and not by_strength and str(fixed) in tried:
            found.append(
                (
                    f"{method.title}, best fixed strength, middle only",
                    tried[str(fixed)],
                    f"{fixed:g}, on {where}",
                )
            )
    found += [(title, gains, "") for title, gains in scores.models.items()]
    return found


def table(scores: Scores) -> str:
    """Markdown: mean gains over all pairs, and over the pairs that no network was trained on."""
    names = sorted(scores.bicubic)
    others = [name for index, name in enumerate(names) if index % TRAINED_ON]
    lines = [
        f"| method | Δ PSNR (dB), {len(names)} pairs | Δ SSIM | Δ PSNR, {len(others)} unseen pairs | strength |",
        "|---|---|---|---|---|",
        "| bicubic interpolation | 0 | 0 | 0 | |",
    ]
    for title, gains, strength in rows(scores):
        trained = "fine-tuned" in title or "scratch" in title
        psnr, ssim = (_mean(gains, names, index) for index in (0, 1))
        whole = ("", "") if trained else (f"{psnr:+.2f}", f"{ssim:+.3f}")
        partial = "" if trained or len(gains) >= len(names) else f" ({len(gains)} pairs)"
        lines.append(
            f"| {title}{partial} | {' | '.join(whole)} | {_mean(gains, others, 0):+.2f} | {strength} |"
        )
    return "\n".join(lines)


def _mean(gains: Mapping[str, Sequence[float]], names: Sequence[str], index: int) -> float:
    values = [gains[name][index] for name in names if name in gains]
    return statistics.fmean(values) if values else float("nan")


def section(scores: Scores) -> str:
    """For README: the table and how it was made."""
    about: dict[str, Any] = scores.about
    bicubic = [statistics.fmean(values) for values in zip(*scores.bicubic.values(), strict=True)]
    return (
        f"{len(scores.bicubic)} real pairs at 2x (`python -m benches.denoising PAIRS` at {about.get('commit', '?')}): "
        f"registered, whole images without a border of 24 px, mean gain over bicubic interpolation "
        f"({bicubic[0]:.2f} dB, SSIM {bicubic[1]:.3f}). Place and fixed strength of each method are those with the "
        f"best PSNR on the middle of every {TUNED_ON}th pair, HR known; the best strength for each image needs its HR. "
        f"Networks are trained on every {TRAINED_ON}rd pair. BM3D is the package `bm3d`, which is not for commercial "
        f"use; it is applied with white noise assumed.\n\n{table(scores)}"
    )
