"""`python -m benches.tiling`: what exact tiles cost in time, and what they save in memory.

python -m benches.tiling                           time at 1280 x 944, memory up to 8,192 x 8,192
python -m benches.tiling --run RUN --pairs PAIRS   also quality against tile size

Writes `results/tiling.json` and, with a model, `results/tiling.png`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import zarr
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from aeanet.data.crops import split_3x4
from aeanet.data.pairs import load_pairs
from aeanet.data.registration import RegisteredPair
from aeanet.imaging.metrics import psnr
from aeanet.inference.files import super_resolve_mosaic
from aeanet.inference.memory import bytes_per_pixel
from aeanet.inference.prediction import restore
from aeanet.inference.reach import reach_of
from aeanet.io.text import json_text, write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import build_model, load_model
from aeanet.reproduce.run import MARGIN

from .record import RESULTS, commit

TILE = 1024
SIDES = (4096, 8192)
TILES = (128, 192, 256, 384, 512, 768)
PAIRS = 8  # evaluated, from the first
PROJECTED = 100_000  # side of the mosaic of the projection, px
H100 = 989e12  # dense bfloat16 FLOP/s, NVIDIA's data sheet
ASSUMED = 0.2  # of which convolutions of 32 to 128 channels are assumed to reach


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="run folder of a trained model")
    parser.add_argument("--pairs", type=Path, help="folder of pairs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()

    # quality needs a model and pairs; time, memory and the projection need neither
    record = {"commit": commit(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    record |= {"times": times(), "mosaics": mosaics(), "projection": projection()}
    if chosen.run and chosen.pairs:
        record["quality"] = quality(load_model(chosen.run), chosen.pairs)
        draw(record["quality"], chosen.out / "tiling.png")
    write_json(chosen.out / "tiling.json", record, 1)
    print(json_text(record, 1))


def times() -> dict[str, float]:
    """Seconds for a 1280 x 944 image, whole and in tiles, taken in turns; medians of 5."""
    model = build_model("aeanet").eval()
    image = np.random.default_rng(0).random((944, 1280), np.float32)
    sides = {"whole": None, "256": 256, "512": 512}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(6):
        for name, side in sides.items():
            start = time.perf_counter()
            restore(model, image, tile=side)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def mosaics() -> list[dict[str, Any]]:
    """Peak resident memory and seconds from file to file, each in a process of its own, at the
    image's own grid.
    """
    # noise, which hardly compresses: the files are as large as their pixels
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            image = (np.random.default_rng(0).random((side, side)) * 255).astype(np.uint8)
            tiff = Path(folder) / f"{side}.tif"
            tifffile.imwrite(tiff, image, tile=(256, 256), compression="zlib")
            write_ome_zarr(tiff.with_suffix(".zarr"), image)

            # each in a new process, since the peak of a process never falls
            for kind in ("tif", "zarr"):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    peak, seconds = pool.apply(stream, (folder, side, kind))
                results.append({"kind": kind, "side": side, "peak": peak, "seconds": seconds})
                print(results[-1], flush=True)
    return results


def write_ome_zarr(path: Path, image: NDArray[np.uint8]) -> None:
    """One level of pixels of size 1."""
    group = zarr.open_group(path, mode="w")
    group.create_array("0", data=image, chunks=(512, 512))
    scale = {"type": "scale", "scale": [1.0, 1.0]}
    level = {"path": "0", "coordinateTransformations": [scale]}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}


def stream(folder: str, side: int, kind: str) -> tuple[int, float]:
    model = build_model("aeanet")
    start = time.perf_counter()
    source, target = (Path(folder) / f"{name}.{kind}" for name in (side, f"{side}-out"))
    super_resolve_mosaic(model, source, target, tile=TILE, magnification=1.0)
    seconds = time.perf_counter() - start
    with open("/proc/self/status") as handle:
        line = next(line for line in handle if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024, seconds


def projection() -> dict[str, float]:
    """FLOP of both passes' convolutions, halos included, and what that makes of a large mosaic: not
    measured.
    """
    model = build_model("aeanet").eval()
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(torch.zeros(1, 1, 256, 256))
    counts = counter.get_flop_counts()["Global"]
    whole = sum(counts.values()) / 256**2
    reach, side = reach_of(model), 2048
    passes = 2 * (1 + 2 * reach.halo / side) ** 2  # the first stops half-way; counted as whole
    flop = passes * whole * PROJECTED**2
    return {"flop_per_pixel": whole, "flop": flop, "seconds_one_gpu": flop / (ASSUMED * H100)}


def quality(model: Network, folder: Path) -> dict[str, Any]:
    """Mean PSNR on the test columns of pairs, and the memory of a tile, for stitched and for exact
    tiles.
    """
    # an exact tile has its halo besides, a stitched one has its margin within
    pairs = load_pairs(folder).pairs[:PAIRS]
    per_pixel, halo = bytes_per_pixel(model), reach_of(model).halo
    whole = statistics.fmean(score(restore(model, pair.lr), pair) for pair in pairs)
    rows = []
    for tile in TILES:
        apart = [score(stitched(model, pair.lr, tile), pair) for pair in pairs]
        exact = [score(restore(model, pair.lr, tile=tile), pair) for pair in pairs]
        rows.append(
            {
                "tile": tile,
                "stitched": statistics.fmean(apart),
                "exact": statistics.fmean(exact),
                "stitched_bytes": per_pixel * tile**2,
                "exact_bytes": per_pixel * (tile + 2 * halo) ** 2,
            }
        )
        print(rows[-1], flush=True)

    return {
        "rows": rows,
        "margin": MARGIN,
        "pairs": len(pairs),
        "whole": whole,
        "whole_bytes": per_pixel * pairs[0].hr.size,
    }


def stitched(model: Network, image: NDArray, tile: int) -> NDArray:
    return restore(model, image, tile=tile - 2 * MARGIN, halo=MARGIN, exact=False)


def score(restored: NDArray, pair: RegisteredPair) -> float:
    """Mean PSNR (dB) of the test subimages that have LR data."""
    regions = [region for region in split_3x4(pair.hr.shape)[1] if pair.mask[region].any()]
    return statistics.fmean(
        psnr(restored[region], pair.hr[region], pair.mask[region]) for region in regions
    )


def draw(record: dict[str, Any], path: Path) -> None:
    """Quality on the left, memory on the right, against the side of a tile."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_quality(left, record)
    _draw_memory(right, record)
    for axes in (left, right):
        axes.set(xlabel="tile, px")
        axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


def _draw_quality(axes: Any, record: dict[str, Any]) -> None:
    tiles = [row["tile"] for row in record["rows"]]
    lines = {"exact": ("exact tiles", 2.5)}
    lines["stitched"] = (f"stitched, margin {record['margin']} px", 1.5)
    for way, (label, width) in lines.items():
        lost = [row[way] - record["whole"] for row in record["rows"]]
        axes.plot(tiles, lost, marker="o", linewidth=width, label=label)

    axes.axhline(0, color="gray", linestyle=":")
    of_pairs = f"(mean of {record['pairs']} pairs)"
    axes.set(ylabel=f"PSNR less the whole image's, dB\n{of_pairs}")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))


def _draw_memory(axes: Any, record: dict[str, Any]) -> None:
    tiles = [row["tile"] for row in record["rows"]]
    whole = record["whole_bytes"] / 1e6
    axes.axhline(whole, color="gray", linestyle=":", label="whole image")
    for way, label, width in (("exact", "exact tiles", 2.5), ("stitched", "stitched", 1.5)):
        megabytes = [row[f"{way}_bytes"] / 1e6 for row in record["rows"]]
        axes.plot(tiles, megabytes, marker="o", linewidth=width, label=label)
    axes.set(ylabel="memory of the network's tensors, MB", yscale="log")


if __name__ == "__main__":
    main()
