"""`python -m benches.networks`: train networks side by side on the same simulated crops, and score
them.

python -m benches.networks --minutes 4 --seeds 0 1 2 --pairs pairs/
python -m benches.networks --networks shuffled shuffled-bottom --crop 192   more keys for attention

Each network has the same time for its own steps; a faster one makes more of them. On a CPU it is
the time of the processor, so that other work on the machine decides nothing. All take the crops in
the same order. A seed that is in the record, `results/networks.json`, is not repeated.
`benches.ship` takes the table of the model's card from it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aeanet.data.pairs import load_pairs
from aeanet.data.registration import RegisteredPair
from aeanet.data.synthetic import WholeImage
from aeanet.distributed import training_device
from aeanet.inference.prediction import restore
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import build_model
from aeanet.networks.shuffled import ShuffledUNet
from aeanet.training.pretraining import held_back_images, pretraining_recipe, score_simulated
from aeanet.training.progress import TrainingProgress
from aeanet.training.recipe import Recipe
from aeanet.training.sources import MAGNIFICATION, Batch, SimulatedSource
from aeanet.training.step import TrainingStep, WeightAverage

from .denoising.scores import gain
from .record import RESULTS, commit

RECORD = RESULTS / "networks.json"
NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet", "residual": True},
    "gvtnet": {"name": "gvtnet", "residual": True},
    "aeanet": {"name": "aeanet", "residual": True},
    "shuffled": {"name": "shuffled"},
    "shuffled-bottom": {"name": "shuffled", "attention": "bottom"},
    "shuffled-all": {"name": "shuffled", "attention": "all"},
}
BATCH, CROP = pretraining_recipe().batch, pretraining_recipe().crop
STEPS = 10**6  # more than any budget of time allows


class Training:
    """The training of one network, whose budget is the time of its own steps."""

    def __init__(self, recipe: Recipe, options: dict[str, Any]) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.model = build_model(**options)
        self.model.magnification = MAGNIFICATION
        self.step = TrainingStep(self.model.to(training_device()).train(), recipe)
        self.average = WeightAverage(self.model, self.step.optimizer)
        self.now = TrainingProgress()
        self.clock = time.perf_counter if torch.cuda.is_available() else time.process_time

    def take(self, batch: Batch) -> None:
        """One step, unless the budget is used up."""
        if self.now.ended:
            return
        lr, hr, magnifications, noises = batch
        begun = self.clock()
        if isinstance(self.model, ShuffledUNet):
            self.model.scales, self.model.noise = magnifications, noises
        float(self.step(lr, hr, self.now))  # waits for the device
        step, seconds = self.now.step + 1, self.now.seconds + self.clock() - begun
        self.now = TrainingProgress(step, seconds, self.recipe.used(step, seconds))

    def result(self) -> Network:
        """The network with the average of its latest weights, on the CPU."""
        return self.average.network()


def scores(
    model: Network, images: Sequence[WholeImage], pairs: Sequence[RegisteredPair]
) -> dict[str, float]:
    """Mean gains over bicubic interpolation on simulated images and, if there are any, on real
    pairs.
    """
    model.flips = 1  # of all networks alike
    simulated = score_simulated(model, images)
    found = {
        f"simulated_{name}": statistics.fmean(s[name] - s[f"{name}_bicubic"] for s in simulated)
        for name in ("psnr", "ssim")
    }
    if pairs:
        real = [gain(pair, restore(model, pair.lr))[1] for pair in pairs]
        found["real_psnr"], found["real_ssim"] = map(statistics.fmean, zip(*real, strict=True))
    return found


def recorded() -> list[dict[str, Any]]:
    return json.loads(RECORD.read_text()) if RECORD.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=4, help="budget of each network")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--crop",
        type=int,
        default=CROP,
        help="px a side; a step has about as many pixels of any size",
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--pairs", type=Path, help="folder of real pairs, which are scored")
    arguments = parser.parse_args()

    # a step has about as many pixels at any size of crops, so that times are comparable
    budget = f"{arguments.minutes:g} min"
    batch = max(2, BATCH * CROP**2 // arguments.crop**2)
    crops = f"{batch} crops of {arguments.crop} px"
    images = held_back_images(36)
    pairs = load_pairs(arguments.pairs).pairs if arguments.pairs else ()

    # a seed that the record has for this budget and these crops is not repeated
    for seed in arguments.seeds:
        wanted = (budget, crops, seed)
        done = {
            entry["network"]
            for entry in recorded()
            if (entry["budget"], entry["crops"], entry["seed"]) == wanted
        }

        # the statistics of batch norm are frozen as in short trainings (`Recipe`); the other
        # networks have none
        recipe = pretraining_recipe(
            seed=seed,
            batch=batch,
            crop=arguments.crop,
            steps=STEPS,
            max_seconds=60 * arguments.minutes,
            freeze=0.6,
        )
        trainings = {
            name: Training(recipe, NETWORKS[name])
            for name in arguments.networks
            if name not in done
        }

        # in turn on the same batches: all meet the same crops and the same load
        batches = SimulatedSource(recipe).batches(0)
        while not all(training.now.ended for training in trainings.values()):
            crops_and_targets = next(batches)
            for training in trainings.values():
                training.take(crops_and_targets)
        batches.close()  # ends the worker

        # scored in the end, all alike; the record is read anew, as another run may have added to it
        entries = [
            {
                "network": name,
                "seed": seed,
                "budget": budget,
                "crops": crops,
                "steps": training.now.step,
                "parameters": sum(parameter.numel() for parameter in training.model.parameters()),
                "threads": torch.get_num_threads(),
                "commit": commit(),
            }
            | scores(training.result(), images, pairs)
            for name, training in trainings.items()
        ]
        write_json(RECORD, recorded() + entries, 1)
        for entry in entries:
            print(entry, flush=True)


if __name__ == "__main__":
    main()
