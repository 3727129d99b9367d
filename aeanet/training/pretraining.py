"""Training on simulated micrographs without end, for a model that restores images it has no pairs
of.
"""

import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import aeanet.data.synthetic
from aeanet.data.synthetic import WholeImage, simulate_image
from aeanet.distributed import process_count
from aeanet.imaging.metrics import psnr, ssim
from aeanet.imaging.upsampling import upsample
from aeanet.inference.prediction import super_resolve
from aeanet.io.atomic import write_atomically
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import build_model
from aeanet.networks.shuffled import ShuffledUNet
from aeanet.training.average import WeightAverage
from aeanet.training.card import model_card
from aeanet.training.checkpoint import Checkpointer, set_optimizer_state
from aeanet.training.disk import OnTrouble
from aeanet.training.logs import LOG_EVERY, open_logs
from aeanet.training.parallel import training_device
from aeanet.training.progress import ProgressMeter, TrainingProgress, noting_signals
from aeanet.training.randomness import own_randomness, set_random_state
from aeanet.training.recipe import Interval, Recipe, RecipeError
from aeanet.training.run import BINDING_VERSIONS, RUN_FILE, RunFolder
from aeanet.training.simulated import simulated_batches
from aeanet.training.step import TrainingStep

CARD_FILE = "model.md"
MAGNIFICATION = 2.0  # of a model for every magnification, where none is given
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


@dataclass(frozen=True)
class Pretrained:
    """What a training on simulated images hands back.

    Attributes:
        model: the average of the latest weights, on the CPU, in evaluation mode.
        progress: steps, time and loss; whether Ctrl-C ended it.
        record: what the run folder's `run.json` says.
    """

    model: Network
    progress: TrainingProgress
    record: dict[str, Any]


def pretrain(
    recipe: Recipe,
    *,
    name: str = "shuffled",
    start: Network | None = None,
    run: RunFolder | None = None,
    workers: int = 1,
    held_back: int = 24,
    checkpoint_every: Interval = Interval(seconds=60),  # noqa: B008 (frozen)
    on_step: Callable[[TrainingProgress], None] | None = None,
    on_trouble: OnTrouble = None,
    **options: Any,
) -> Pretrained:
    """Train a network on simulated crops made on the fly, then score it on simulated images held
    back.

    Everything random follows from `recipe.seed`. An interrupted training goes on as if it had not
    been: see `open_run`.

    Args:
        recipe: see `pretraining_recipe`.
        name, options: of `registry.build_model`.
        start: begin with the weights of this network, which replaces `name` and `options`.
        run: of `open_run`: checkpoints, logs, model and record go there.
        workers: processes that simulate; 0: none but this one.
        held_back: number of simulated images for the scores.
        checkpoint_every, on_step, on_trouble: as in `loop.train`.

    Raises ModelError as `build_model`, RecipeError if the loss stops being a finite number or there
    are several processes, CheckpointError if the run
    was begun in another way.
    """
    if process_count() > 1:
        raise RecipeError(
            "Pretraining runs in one process: begin it without torchrun, and give it more workers."
        )
    checkpoint = run.checkpoint if run else None
    folder = run.path if run else None
    with own_randomness(recipe.seed), _cores_beside(workers), noting_signals() as signals:
        model = build_model(**start.config) if start is not None else build_model(name, **options)
        if start is not None:
            model.load_state_dict(start.state_dict())
        model.magnification = MAGNIFICATION
        described = configuration(recipe, model)
        now = TrainingProgress()
        if checkpoint:
            checkpoint.check(described)
            now = checkpoint.progress(recipe)
            model.load_state_dict(checkpoint.model)
        with open_logs(folder, now.step, on_trouble) as log:
            step = TrainingStep(model.to(training_device()).train(), recipe)
            average = WeightAverage(model, step.optimizer)
            if checkpoint:
                set_optimizer_state(step.optimizer, checkpoint.optimizer)
                set_random_state(checkpoint.random)
            checkpointer = Checkpointer(
                model,
                step.optimizer,
                checkpoint_every,
                now.seconds,
                folder,
                described,
                None,
                on_trouble,
                published=average.network,
            )
            if now.step == 0:
                checkpointer.write(now)
            batches = simulated_batches(
                batch=recipe.batch,
                crop=recipe.crop,
                seed=recipe.seed,
                step=now.step,
                steps=recipe.steps,
                workers=workers,
            )
            meter = ProgressMeter(recipe, now, signals)
            while not now.ended:
                lr, hr, magnifications = next(batches)
                if isinstance(model, ShuffledUNet):
                    model.scales = magnifications
                now = meter.after_step(step(lr, hr, now))
                if on_step:
                    on_step(now)
                if now.ended or now.step % LOG_EVERY == 0:
                    log(now.step, {"loss": now.loss, "rate": step.rate, "seconds": now.seconds})
                checkpointer.after_step(now, None)
            del batches  # ends the workers
        trained, threads = average.network(), torch.get_num_threads()
    record = described | {
        "steps_done": now.step,
        "interrupted": now.interrupted,
        "seconds": round(now.seconds, 1),
        "loss": round(now.loss, 6),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": threads,
        "scores": {}
        if now.interrupted
        else {"simulated": score_simulated(trained, held_back_images(held_back))},
    }
    if folder:
        write_json(folder / RUN_FILE, record)
        write_atomically(folder / CARD_FILE, model_card(record).encode())
    return Pretrained(trained, now, record)


@contextmanager
def _cores_beside(workers: int) -> Iterator[None]:
    """Within it, PyTorch leaves a core to each worker, and itself has at least one."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, (os.cpu_count() or 1) - workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def configuration(recipe: Recipe, model: Network) -> dict[str, Any]:
    """What a training on simulated images is, as JSON takes it. The data is the simulator, so its
    source names it.
    """
    return {
        "recipe": asdict(recipe),
        "model": model.config,
        "data": {
            "pairs": [],
            "held_back": [],
            "simulator": "aeanet.data.synthetic",
            "sha256": simulator_fingerprint(),
        },
        "versions": {name: version(name) for name in BINDING_VERSIONS}
        | {"python": platform.python_version()},
        "processes": process_count(),
    }


def simulator_fingerprint() -> str:
    """SHA-256 over the source of the simulator."""
    digest = hashlib.sha256()
    for place in aeanet.data.synthetic.__path__:
        for file in sorted(Path(place).glob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def held_back_images(number: int) -> list[WholeImage]:
    """Simulated images that no training sees, with magnifications 1 and 2 and, each third, any from
    1 to 4.
    """
    magnifications = (1.0, 2.0, None)
    return [
        simulate_image(HELD_BACK + index, (160, 192), magnification=magnifications[index % 3])
        for index in range(number)
    ]


def score_simulated(model: Network, images: Sequence[WholeImage]) -> list[dict[str, Any]]:
    """PSNR (dB) and SSIM of each image and those of bicubic interpolation, with its kind,
    magnification and noise.
    """
    scores = []
    for image in images:
        bicubic = upsample(image.lr, image.magnification).clip(0, 1)
        restored = super_resolve(model, image.lr, magnification=image.magnification)
        everywhere = bicubic == bicubic
        scores.append(
            {
                "kind": image.kind,
                "magnification": round(image.magnification, 3),
                "noise": round(float(image.noise), 5),
                "psnr": round(psnr(restored, image.hr, everywhere), 3),
                "ssim": round(ssim(restored, image.hr, everywhere), 4),
                "psnr_bicubic": round(psnr(bicubic, image.hr, everywhere), 3),
                "ssim_bicubic": round(ssim(bicubic, image.hr, everywhere), 4),
            }
        )
    return scores
