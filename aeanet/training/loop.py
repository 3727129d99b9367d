"""Training a network: Lightning runs the steps, this says what a step is and what it begins with."""

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, distributed
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from aeanet.data.crops import RandomCrops
from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.distributed import ProcessError, is_loss_of_process, process_count, rank
from aeanet.io.quiet import quietly
from aeanet.networks.base import Network
from aeanet.networks.baselines import Library
from aeanet.networks.layers import pool_over_processes
from aeanet.networks.registry import build_model
from aeanet.training.callbacks import Keeper, Metrics, Validation, loggers, score_held_back
from aeanet.training.checkpoint import CHECKPOINT_FILE, Checkpoint, set_optimizer_state, set_random_state
from aeanet.training.ranks import StepSampler, lightning_settings
from aeanet.training.recipe import Interval, Recipe
from aeanet.training.run import RunFolder, Trained, configuration, write_record
from aeanet.training.watch import Progress, Watch

PRECISIONS: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed"}  # the recipe's, as Lightning names them
# Lightning advises on loggers, workers and devices.
LIGHTNING = ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric")
STATISTICS_WINDOW = 5  # a young batch norm averages over about the latest fifth of its steps


class _Task(pl.LightningModule):
    """The network, its loss and its optimiser, and what changes from step to step.

    Batch norm's running statistics follow with momentum 0.003, too slow for a run of a few hundred steps: prediction
    would still use the values of the first ones. So the momentum starts at 1 and falls as 5 / (5 + step), which
    averages over about the latest fifth of the steps done, until it meets 0.003 at step 1,662. From there on, 98 % of
    the paper's 120,000 steps, it is the paper's; what the early steps left has by then decayed to nothing. A model is
    thus usable after any step, interrupted ones included, without a pass over the data at the end.

    The average is taken here, from the statistics of each batch, which the norms leave behind with a momentum of 1:
    one that changed with every step would have `torch.compile` build the network anew for each.
    """

    def __init__(self, model: Network, recipe: Recipe, watch: Watch, checkpoint: Checkpoint | None) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.watch = watch
        self.checkpoint = checkpoint
        self.network: Callable[[Tensor], Tensor] = torch.compile(model.forward) if recipe.compile else model.forward
        self.momenta = {norm: norm.momentum or 0.0 for norm in model.modules() if isinstance(norm, _BatchNorm)}
        self.running: list[Tensor] = []

    def setup(self, stage: str) -> None:
        if process_count() > 1:
            pool_over_processes(self.model, distributed.group.WORLD)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        optimizer = torch.optim.Adam(self.model.parameters(), lr=recipe.rate, betas=recipe.betas, eps=recipe.epsilon)
        if self.checkpoint:
            set_optimizer_state(optimizer, self.checkpoint.optimizer)
        return optimizer

    def on_train_start(self) -> None:
        for norm in self.momenta:
            norm.momentum = 1.0
        if self.checkpoint:
            set_random_state(self.checkpoint.random)

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        used = self.watch.used
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.recipe.learning_rate(self.watch.step, used)
        for norm in self.momenta:
            norm.train(used < self.recipe.freeze)
        self.running = [statistic.clone() for statistic, _ in self._statistics()]

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        lr, hr = batch
        return F.l1_loss(self.network(lr), hr)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        window = STATISTICS_WINDOW / (STATISTICS_WINDOW + self.watch.step)
        for before, (statistic, momentum) in zip(self.running, self._statistics(), strict=True):
            statistic.copy_(before.lerp_(statistic, max(momentum, window)))

    def on_train_end(self) -> None:
        for norm, momentum in self.momenta.items():
            norm.momentum = momentum
        pool_over_processes(self.model, None)

    def _statistics(self) -> Iterator[tuple[Tensor, float]]:
        """Running means and variances that follow the batches, and the momentum they end up with."""
        for norm, momentum in self.momenta.items():
            if norm.training and norm.running_mean is not None and norm.running_var is not None:
                yield norm.running_mean, momentum
                yield norm.running_var, momentum


def train(
    pairs: Sequence[RegisteredPair] | PairSet,
    recipe: Recipe | None = None,
    *,
    name: str = "aeanet",
    run: RunFolder | None = None,
    held_back: Sequence[RegisteredPair] = (),
    checkpoint_every: Interval = Interval(seconds=60),  # noqa: B008 (frozen)
    validate_every: Interval = Interval(steps=1000),  # noqa: B008 (frozen)
    on_step: Callable[[Progress], None] | None = None,
    on_save: Callable[[Network], None] | None = None,
    on_trouble: Callable[[OSError], None] | None = None,
    **options: Any,
) -> Trained:
    """Train a network on the training regions of registered pairs, on the GPU if there is one.

    Everything random (initial weights, crops) follows from `recipe.seed`; the caller's random state is left as it was.
    Ctrl-C and SIGTERM end the training after the step in hand and hand back the model as it then is. In processes
    started by `torchrun`, N of them train as one with N times the batch; all hand back the same model. Begin and end
    their group with `aeanet.distributed.all_processes`.

    A method by example (`baselines.Library`) takes no steps: it draws its library. Ctrl-C then raises
    KeyboardInterrupt.

    Args:
        pairs: registered pairs; pixels in [0, 1]. Crops come from their training regions (`pairs.split_3x4`).
        recipe: the paper's by default.
        name, options: of `model.build_model`.
        run: of `open_run`: keep checkpoints, logs and a record of the run there, and go on from its checkpoint if it
            has one. What came of it is written by `save_run`.
        held_back: pairs to restore and to score meanwhile, never trained on.
        checkpoint_every: how often the checkpoint and the model are written, and `on_save` is called.
        validate_every: how often the held-back pairs are restored; first after a tenth of that, and at the end.
        on_step: called after every step.
        on_save: called with the model, for a copy that outlives a crash.
        on_trouble: told of files that could not be written, which then do not end the training.

    Raises PairError if no crop fits into the pairs, RecipeError if the loss stops being a finite number, ModelError as
    `build_model` does, CheckpointError if the run was begun in another way, ProcessError if another process ended.
    """
    data = pairs if isinstance(pairs, PairSet) else PairSet(list(pairs), {})
    recipe = recipe or Recipe()
    checkpoint = run.checkpoint if run else None
    folder = run.path if run else None
    watch = Watch(recipe, checkpoint, on_step)
    # Lightning turns PyTorch's switch for deterministic algorithms on; the caller finds it as it was.
    with isolate_rng(), quietly(*LIGHTNING, below=logging.ERROR), _same_determinism(), watch.heeding_signals():
        pl.seed_everything(recipe.seed, verbose=False)
        model = build_model(name, **options)
        model.magnification = statistics.median(pair.report.magnification for pair in data.pairs)
        what = configuration(recipe, model, data.pairs, held_back) if run else {}
        if checkpoint:
            checkpoint.check(what)
        if isinstance(model, Library):
            trained = _drawn(model, data, recipe, folder, held_back, on_trouble)
            if watch.interrupted:
                raise KeyboardInterrupt
            return trained
        steps = range(watch.step, recipe.steps if watch.used < 1 else 0)
        loader = _loader(data, recipe, steps) if steps else None
        if checkpoint:
            model.load_state_dict(checkpoint.model)
        validation = Validation(model, watch, validate_every, folder, held_back, on_trouble)
        validation.scores = checkpoint.scores if checkpoint else None
        if folder and not rank():
            begun = Trained(model, watch.step, watch.seconds, watch.loss, interrupted=True)
            write_record(folder, begun, recipe, data, held_back)
        trainer = pl.Trainer(
            max_steps=len(steps),
            accelerator="auto",
            precision=PRECISIONS[recipe.precision],
            deterministic=recipe.deterministic or None,
            callbacks=[
                watch,
                *([validation] if held_back else []),
                Metrics(watch, on_trouble),
                Keeper(model, watch, checkpoint_every, folder, validation, what, on_save, on_trouble),
            ],
            logger=loggers(folder, watch.step) if folder and not rank() else False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **lightning_settings(),
        )
        try:
            if loader:
                trainer.fit(_Task(model.train(), recipe, watch, checkpoint), loader)
        except Exception as error:
            if is_loss_of_process(error):
                raise ProcessError(
                    "Another process of this training ended or no longer answers; its own message says why, and "
                    "--resume goes on from the latest checkpoint."
                ) from error
            raise
    return Trained(
        model.cpu().eval(),
        watch.step,
        watch.seconds,
        watch.loss,
        watch.interrupted,
        watch.steps_per_second,
        validation.scores,
    )


def _drawn(
    model: Library,
    data: PairSet,
    recipe: Recipe,
    folder: Path | None,
    held_back: Sequence[RegisteredPair],
    on_trouble: Callable[[OSError], None] | None,
) -> Trained:
    """A method by example, its library drawn."""
    start = time.monotonic()
    model.fit(data.pairs, recipe.seed)
    seconds = time.monotonic() - start
    scores = None
    if not rank():
        if folder:  # the checkpoint there, of a network that this model replaces, would be resumed
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        scores = score_held_back(model, held_back, folder, on_trouble)
    return Trained(model.eval(), 0, seconds, math.nan, interrupted=False, validation=scores)


def _loader(data: PairSet, recipe: Recipe, steps: range) -> DataLoader[tuple[Tensor, Tensor]]:
    """This process's crops for each of `steps`."""
    crops = RandomCrops(data.pairs, recipe.crop, recipe.steps * recipe.batch * process_count(), seed=recipe.seed)
    batches = StepSampler(steps, recipe.batch, rank=rank(), processes=process_count())
    generator = torch.Generator().manual_seed(recipe.seed)  # else the loader would draw from the common one
    return DataLoader(crops, batch_sampler=batches, generator=generator)


@contextmanager
def _same_determinism() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
