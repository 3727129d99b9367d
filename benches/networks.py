"""`python -m benches.networks`: networks pretrained with equal budgets on the same simulated crops, and their scores.

python -m benches.networks --minutes 20 --seeds 3 --pairs aligned/    # aligned/: of `aeanet register`
python -m benches.networks --steps 1000 --networks shuffled shuffled-bottom

Runs are kept in a folder, so an interrupted comparison goes on where it was. A finished run is not repeated. The record
is `results/networks.json`, from which `benches.ship` takes the table of the model's card.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from aeanet.io.text import write_json
from aeanet.networks.registry import load_model
from aeanet.training import open_run
from aeanet.training.checkpoint import CHECKPOINT_FILE
from aeanet.training.pretraining import held_back_images, pretrain, pretraining_recipe, score_simulated

from .__main__ import HERE, commit
from .ship import score_real

RECORD = HERE / "results" / "networks.json"
NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet", "residual": True},
    "gvtnet": {"name": "gvtnet", "residual": True},
    "aeanet": {"name": "aeanet", "residual": True},
    "shuffled": {"name": "shuffled"},
    "shuffled-bottom": {"name": "shuffled", "attention": "bottom"},
    "shuffled-all": {"name": "shuffled", "attention": "all"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="budget of each run")
    parser.add_argument("--steps", type=int, help="budget of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--pairs", type=Path, help="folder of `aeanet register`, whose pairs are scored")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("networks"), help="folder of the runs")
    arguments = parser.parse_args()
    if (arguments.minutes is None) == (arguments.steps is None):
        parser.error("give --minutes or --steps, one of the two")
    budget = f"{arguments.minutes:g}min" if arguments.steps is None else f"{arguments.steps}steps"
    images = held_back_images(36)
    for seed in range(arguments.seeds):
        for name in arguments.networks:
            entries = json.loads(RECORD.read_text()) if RECORD.exists() else []
            key = {"network": name, "seed": seed, "budget": budget}
            if any(key.items() <= entry.items() for entry in entries):
                continue
            recipe = pretraining_recipe(seed=seed, steps=arguments.steps or 10**6)
            if arguments.minutes:
                recipe = pretraining_recipe(seed=seed, steps=10**6, max_seconds=60 * arguments.minutes)
            folder = arguments.out / f"{name}-{seed}-{budget}"
            begun = (folder / CHECKPOINT_FILE).exists()
            with open_run(folder, resume=begun) as run:
                done = pretrain(recipe, run=run, workers=arguments.workers, held_back=1, **NETWORKS[name])
            if done.progress.interrupted:
                return
            model = load_model(folder)
            scores = score_simulated(model, images)
            entry = key | {
                "steps": done.progress.step,
                "seconds": round(done.progress.seconds, 1),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "simulated_psnr": statistics.fmean(s["psnr"] - s["psnr_bicubic"] for s in scores),
                "simulated_ssim": statistics.fmean(s["ssim"] - s["ssim_bicubic"] for s in scores),
                "commit": commit(),
            }
            if arguments.pairs:
                real = score_real(model, arguments.pairs)
                entry |= {f"real_{n}": statistics.fmean(s[f"delta_{n}"] for s in real) for n in ("psnr", "ssim")}
            write_json(RECORD, [*entries, entry], 1)
            print(entry, flush=True)


if __name__ == "__main__":
    main()
