"""Training on simulated micrographs that never repeat, for a model that restores images of which
there are no pairs.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from aeanet.data.synthetic import WholeImage, simulate_image
from aeanet.distributed import process_count
from aeanet.imaging.metrics import psnr, ssim
from aeanet.imaging.precision import Precision
from aeanet.imaging.upsampling import upsample
from aeanet.inference.prediction import super_resolve
from aeanet.io.atomic import write_atomically
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.error import ErrorNetwork
from aeanet.training.card import model_card
from aeanet.training.loop import train
from aeanet.training.recipe import Recipe, RecipeError
from aeanet.training.run import RUN_FILE, RunFolder, TrainingResult, configuration, run_record
from aeanet.training.sources import SimulatedSource

CARD_FILE = "model.md"
HELD_BACK = 1_000_000_000  # seeds from here on are of images for scores, never of training


def pretraining_recipe(**changes: Any) -> Recipe:
    """60,000 steps of 16 crops of 96 px, one cycle up to 1e-3: three hours on two cores with
    bfloat16 products.
    """
    recipe = Recipe(
        steps=60_000,
        batch=16,
        crop=96,
        rate=1e-3,
        schedule="one-cycle",
        loss="relative",
        precision="bfloat16",
    )
    return replace(recipe, **changes)


@dataclass(frozen=True, kw_only=True)
class Pretrained(TrainingResult):
    """What a training on simulated images hands back. The model is the average of the latest
    weights.

    Attributes:
        record: what the run folder's `run.json` says.
    """

    record: dict[str, Any]


def pretrain(
    recipe: Recipe,
    *,
    name: str = "shuffled",
    run: RunFolder | None = None,
    workers: int = 1,
    held_back: int = 24,
    **arguments: Any,
) -> Pretrained:
    """Train a network on simulated crops made on the fly, then score it on simulated images held
    back.

    Everything random follows from `recipe.seed`. An interrupted training goes on as if it had not
    been: see `open_run`.

    Args:
        recipe: see `pretraining_recipe`.
        name: of `registry.build_model`.
        run: of `open_run`: checkpoints, logs, model and record go there.
        workers: processes that simulate; 0: none but this one.
        held_back: number of simulated images for the scores.
        arguments: of `loop.train`, and the options of the network.

    Raises:
        ModelError: as `build_model`.
        RecipeError: the loss stops being a finite number, or there are several processes.
        CheckpointError: the run was begun in another way.
    """
    # a round depends on the seed and its number, so all processes would see the same images
    if process_count() > 1:
        raise RecipeError(
            "Pretraining runs in one process: begin it without torchrun, and give it more workers."
        )

    # the record is made within: it names the threads that the training had
    source = SimulatedSource(recipe, workers)
    with _cores_beside(workers):
        trained = train(source, recipe, name=name, run=run, **arguments)
        record = run_record(configuration(recipe, trained.model, source.describe()), trained)

    # An interrupted training goes on, so its model is not worth the time of scoring. What an error
    # network is worth, `benches.error_bars` measures.
    record["scores"] = {}
    restores = not isinstance(trained.model, ErrorNetwork)
    if restores and not trained.interrupted:
        scores = score_simulated(trained.model, held_back_images(held_back))
        record["scores"] = {"simulated": scores}
    if run:
        write_json(run.path / RUN_FILE, record)
        if restores:
            write_atomically(run.path / CARD_FILE, model_card(record).encode())
    return Pretrained(**vars(trained), record=record)


@contextmanager
def _cores_beside(workers: int) -> Iterator[None]:
    """Within it, PyTorch leaves a core to each worker, and itself has at least one."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) - workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def held_back_images(number: int) -> list[WholeImage]:
    """Simulated images that no training sees, with magnifications 1 and 2 and, each third, any from
    1 to 4.
    """
    magnifications = (1.0, 2.0, None)
    return [
        simulate_image(HELD_BACK + index, (160, 192), magnification=magnifications[index % 3])
        for index in range(number)
    ]


def score_simulated(
    model: Network, images: Sequence[WholeImage], precision: Precision = "float32"
) -> list[dict[str, Any]]:
    """PSNR (dB) and SSIM of each image and those of bicubic interpolation, with its kind,
    magnification and noise, and whether this is smooth.
    """
    # what a result is compared with: the same image, enlarged without a network
    scores = []
    for image in images:
        bicubic = upsample(image.lr, image.magnification).clip(0, 1)
        restored = super_resolve(
            model, image.lr, magnification=image.magnification, precision=precision
        )

        # the truth is known at every pixel, unlike that of registered pairs
        everywhere = np.ones(image.hr.shape, bool)
        scores.append(
            {
                "kind": image.kind,
                "magnification": round(image.magnification, 3),
                "noise": round(float(image.noise), 5),
                "smooth": image.acquisition.smooths,
                "psnr": round(psnr(restored, image.hr, everywhere), 3),
                "ssim": round(ssim(restored, image.hr, everywhere), 4),
                "psnr_bicubic": round(psnr(bicubic, image.hr, everywhere), 3),
                "ssim_bicubic": round(ssim(bicubic, image.hr, everywhere), 4),
            }
        )
    return scores
