"""What the READMEs say of restoring from file to file: gain and time beside other denoisers."""

from __future__ import annotations

import statistics
from typing import Any

from ..denoising.methods import METHODS
from ..denoising.scores import Scores
from ..denoising.table import short_gains, unseen
from ..record import RESULTS, read
from ..report import markdown


def restoring_table() -> str:
    """Gains of other methods and of the shipped model on real pairs, and their time from file to
    file.
    """
    # gains and times are of two programs, joined by the titles of the methods
    scores, tool = Scores.read(RESULTS / "denoising.json"), read("tool")
    gains = short_gains(scores)
    times = [_times(title, tool) for title in gains]
    side = f"{tool['large']['side']:,}"
    lines = [
        ["Δ PSNR (dB)", *(f"{gain:+.2f}" for gain in gains.values())],
        [f"one image of {_size(tool['result'])}, each further one", *(usual for usual, _ in times)],
        [f"one of {side} x {side} px at 1x", *(large for _, large in times)],
    ]
    return (
        f"**Images.** Gain over bicubic interpolation on {len(unseen(scores))} real pairs that "
        f"none of the networks was trained on. The other methods have the strength that is best "
        f"on such images. The times are from file to file, on {tool['threads']} threads of a CPU "
        f"({tool['device']}), start included; networks take the mean over four flips.\n\n"
        f"{markdown(['', *gains], lines)}"
    )


def _times(title: str, tool: dict[str, Any]) -> tuple[str, str]:
    """Of the first image and each further one, and of a large one."""
    names = {method.title: name for name, method in METHODS.items()}
    if title in names:
        found = tool["others"][names[title]]
        large = found["large_seconds"]
        first, further = found["first_seconds"], found["further_seconds"]
    else:  # the default: four flips, and bfloat16 where the processor multiplies it
        row = [row for row in tool["rows"] if row["flips"] == 4][-1]
        large = tool["large"]["4"]
        first, further = row["first"]["seconds"], row["further_seconds"]
    of_large = f"{large:.0f} s" if large else f"more than {tool['longest']:.0f} s"
    return f"{first:.2g} s, {further:.2g} s", of_large


def _size(shape: list[int]) -> str:
    return f"{shape[0]} x {shape[1]} px"


def tool_section() -> str:
    """What the time of `aeanet restore` is made of, and what bfloat16 costs."""
    # a row for each precision and number of flips: the first image by its parts, then one more
    tool, precision = read("tool"), read("precision")
    head = ["precision, flips", "first image (s)", "import of PyTorch", "network", "the rest"]
    head += ["each further image (s)", "its network alone", "ratio"]
    lines = []
    for row in tool["rows"]:
        first = row["first"]
        seconds = [first[part] for part in ("seconds", "import_torch", "network", "rest")]
        seconds += [row["further_seconds"], row["network_alone_seconds"]]
        cells = [f"{value:.2f}" for value in seconds] + [f"{row['further_over_network']:.2f}"]
        lines.append([f"{row['precision']}, {row['flips']}", *cells])

    # in the mean over real pairs, and on clean images, where rounding shows most
    gains = {
        name: statistics.fmean(pair[name][0] for pair in precision["real"].values())
        for name in ("float32", "bfloat16")
    }
    clean = precision["clean"]
    return (
        f"`aeanet restore` of one image of {_size(tool['image'])} to {_size(tool['result'])}, and "
        f"of {tool['further']} more, from file to file (`python -m benches.tool` at "
        f"{tool['commit']}, {tool['threads']} threads of a CPU, "
        f"{tool['device']}):\n\n{markdown(head, lines)}\n\n"
        f"In bfloat16 the gain on {len(precision['real'])} real pairs is "
        f"{gains['bfloat16']:+.3f} dB, in float32 {gains['float32']:+.3f} dB. Clean images at 1x "
        f"differ by {clean['rms_levels']:.3f} grey levels of 8 bits (root mean square), that which "
        f"differs most by {clean['largest_rms_levels']:.3f} (`python -m benches.precision`)."
    )
