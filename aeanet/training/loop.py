"""Training a network: the loop over its steps; and one network for each pair."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import distributed

from aeanet.data.pairs import PairSet
from aeanet.data.registration import RegisteredPair
from aeanet.distributed import naming_lost_processes, process_count, rank, training_device
from aeanet.errors import PairError
from aeanet.io.text import write_json
from aeanet.networks.base import Network
from aeanet.networks.baselines import Library
from aeanet.networks.layers import pool_over_processes
from aeanet.networks.registry import build_model
from aeanet.training.bookkeeping import Bookkeeping, OnTrouble, open_logs, score_held_back
from aeanet.training.checkpoint import CHECKPOINT_FILE, fitting, set_optimizer_state
from aeanet.training.progress import ProgressMeter, TrainingProgress, noting_signals
from aeanet.training.randomness import deterministic_algorithms, seeded_randomness, set_random_state
from aeanet.training.recipe import Interval, Recipe
from aeanet.training.run import (
    RUN_FILE,
    RunFolder,
    TrainingResult,
    configuration,
    list_models,
    open_run,
    run_record,
    save_run,
)
from aeanet.training.sources import PairSource, Source
from aeanet.training.step import TrainingStep, WeightAverage


def train(
    pairs: Sequence[RegisteredPair] | PairSet | Source,
    recipe: Recipe | None = None,
    *,
    name: str = "aeanet",
    start: Network | None = None,
    run: RunFolder | None = None,
    held_back: Sequence[RegisteredPair] = (),
    checkpoint_every: Interval = Interval(seconds=60),  # noqa: B008 (frozen)
    validate_every: Interval = Interval(steps=1000),  # noqa: B008 (frozen)
    on_step: Callable[[TrainingProgress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    on_save: Callable[[Network], None] | None = None,
    on_trouble: OnTrouble = None,
    cuda_graph: bool = False,
    **options: Any,
) -> TrainingResult:
    """Train a network on the training regions of registered pairs, on the GPU if there is one.

    Everything random (initial weights, crops) follows from `recipe.seed`; the caller's random state
    is left as it was. Ctrl-C and SIGTERM end the training after the step in hand and hand back the
    model as it then is. In processes started by `torchrun`, N of them train as one with N times the
    batch; all hand back the same model. Begin and end their group with
    `aeanet.distributed.all_processes`.

    A method by example (`baselines.Library`) takes no steps: it draws its library. Ctrl-C then
    raises KeyboardInterrupt.

    Args:
        pairs: registered pairs; pixels in [0, 1]. Crops come from their training regions
            (`crops.split_3x4`). Or another source of batches.
        recipe: the paper's by default.
        name, options: of `registry.build_model`.
        start: begin with the weights of this network, whose name and options replace the given
            ones.
        run: of `open_run`: keep checkpoints, logs and a record of the run there, and go on from its
            checkpoint if it has one. The final model and record are written by `save_run`.
        held_back: pairs to restore and to score meanwhile, never trained on.
        checkpoint_every: how often the checkpoint and the model are written, and `on_save` is
            called.
        validate_every: how often the held-back pairs are restored; first after a tenth of that, and
            at the end.
        on_step: called after every step.
        stop: asked after every step; where it says yes, the training ends as by Ctrl-C. A thread,
            which signals do not reach, is ended so.
        on_save: called with the model, for a copy that outlives a crash.
        on_trouble: called with the error when a file could not be written, which then does not end
            the training.
        cuda_graph: replay each step's forward and backward pass as one CUDA graph, see
            `step.TrainingStep`.

    Raises:
        PairError: no crop fits into the pairs.
        RecipeError: the loss stops being a finite number, or the machine cannot do what is asked.
        ModelError: as `build_model`.
        CheckpointError: the run was begun in another way.
        ProcessError: another process ended.
    """
    # whatever is given becomes a source of batches
    recipe = recipe or Recipe()
    if isinstance(pairs, Source):
        source = pairs
    else:
        data = pairs if isinstance(pairs, PairSet) else PairSet(list(pairs), {})
        source = PairSource(data, recipe, held_back)
    checkpoint = run.checkpoint if run else None
    folder = run.path if run else None

    # the seed counts before the network is built: its weights are the first that is drawn
    with (
        seeded_randomness(recipe.seed),
        deterministic_algorithms(recipe.deterministic),
        noting_signals() as signals,
    ):
        model = build_model(**start.config) if start is not None else build_model(name, **options)
        if start is not None:
            model.load_state_dict(start.state_dict())
            model.bfloat16_cost = start.bfloat16_cost
        model.magnification, model.fits_range = source.magnification, source.fits_range

        # The pixels of all pairs are read for this, so it is done only for a run that is kept.
        configured = configuration(recipe, model, source.describe()) if run else {}
        if checkpoint:
            checkpoint.check(configured)
        if isinstance(model, Library) and isinstance(source, PairSource):
            result = _draw_library(model, source, run, on_trouble)
            if signals:
                raise KeyboardInterrupt
            return result

        # go on where the checkpoint ends: its steps, its weights, and the batches after them
        now, scores = TrainingProgress(), None
        if checkpoint:
            now, scores = checkpoint.progress(recipe), checkpoint.scores
        batches = source.batches(now.step)
        if checkpoint:
            with fitting():
                model.load_state_dict(checkpoint.model)
            model.bfloat16_cost = checkpoint.bfloat16_cost

        # a record from the beginning, for a run that is killed: until the end it says "interrupted"
        if folder and not rank():
            begun = _result(model, replace(now, interrupted=True), scores)
            write_json(folder / RUN_FILE, run_record(configured, begun))

        # closed in the other order, also after an error: workers, logs, shared statistics
        with (
            _training_as_one(model),
            open_logs(folder, now.step, on_trouble) as log,
            closing(batches),
        ):
            step = TrainingStep(model.to(training_device()).train(), recipe, cuda_graph=cuda_graph)
            average = WeightAverage(model, step.optimizer) if source.averages else None
            if checkpoint:
                # the random state last, since what is built before it draws numbers
                with fitting():
                    set_optimizer_state(step.optimizer, checkpoint.optimizer)
                    set_random_state(checkpoint.random)

            # the latest save and score of a resumed run count as just done
            books = Bookkeeping(
                model=model,
                step=step,
                configuration=configured,
                average=average,
                folder=folder,
                log=log,
                checkpoint_every=checkpoint_every,
                saved=now.seconds,
                held_back=held_back,
                validate_every=validate_every,
                scored=now.seconds,
                scores=scores,
                on_save=on_save,
                on_trouble=on_trouble,
            )

            # a checkpoint before the first step: a folder that cannot be written is found at once
            if now.step == 0 and not rank():
                books.save(now)

            # Each step is measured before anything is done with it: the end of the budget, a signal
            # and a loss that is no number are then known in all processes.
            meter = ProgressMeter(recipe, now, signals)
            while not now.ended:
                lr, hr, magnifications, noises = next(batches)
                model.tell(magnifications, noises)
                loss = step(lr, hr, now)
                if stop is not None and stop():
                    signals.append(signal.SIGINT)
                now = meter.after_step(loss)
                if on_step:
                    on_step(now)
                books.after_step(now)

        # A signal may have come after the last step.
        now = replace(now, interrupted=now.interrupted or bool(signals))
    return _result(average.network() if average else model, now, books.scores)


@contextmanager
def _training_as_one(model: Network) -> Iterator[None]:
    """Within it, the networks of all processes see one batch: see `layers.pool_over_processes`.

    Raises:
        ProcessError: another process ended.
    """
    if process_count() > 1:
        pool_over_processes(model, distributed.group.WORLD)
    try:
        with naming_lost_processes(
            "Another process of this training ended or no longer answers; its own message says "
            "why, and --resume goes on from the latest checkpoint."
        ):
            yield
    finally:
        pool_over_processes(model, None)


def _result(
    model: Network, now: TrainingProgress, scores: dict[str, float] | None
) -> TrainingResult:
    return TrainingResult(
        model=model.cpu().eval(),
        steps=now.step,
        seconds=now.seconds,
        loss=now.loss,
        interrupted=now.interrupted,
        steps_per_second=now.steps_per_second,
        validation=scores,
    )


def _draw_library(
    model: Library, source: PairSource, run: RunFolder | None, on_trouble: OnTrouble
) -> TrainingResult:
    """A method by example, its library drawn."""
    start = time.monotonic()
    model.fit(source.data.pairs, source.recipe.seed)
    now = TrainingProgress(seconds=time.monotonic() - start)
    scores = None
    if not rank():
        folder = run.path if run else None
        if folder:  # the checkpoint there, of a network that this model replaces, would be resumed
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        scores = score_held_back(model, source.held_back, folder, on_trouble)
    return _result(model, now, scores)


def train_each(
    path: Path,
    data: PairSet,
    recipe: Recipe,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_pair: Callable[[str], None] | None = None,
    save: Callable[[Path, TrainingResult, Recipe, PairSet], None] = save_run,
    **arguments: Any,
) -> dict[str, TrainingResult]:
    """Train a network on each pair alone, in the sub-folders of `path` that `listed_models` names.

    Args:
        path: the folder, opened by `open_run(..., one_per_pair=True)`.
        data: registered pairs, one model each.
        recipe: of each training.
        resume: go on with those that were begun, begin the others.
        overwrite: begin all of them anew.
        on_pair: called with each pair's name before its training.
        save: writes a model and the record of its training, as `save_run` does.
        arguments: of `train`.

    Returns:
        What was trained, by name of the pair; after an interruption, which ends the last of them,
        not all. A pair that has no room for a crop is left out.

    Raises:
        PairError: all pairs are left out.
        RunError, CheckpointError, RecipeError, OSError: as `open_run`, `train` and `save`.
    """
    # the list comes first, so that a run that is broken off names the folders to go on in
    left_out = dict(data.refused)
    if not rank():
        list_models(path, [pair.name for pair in data.pairs], left_out)
    done: dict[str, TrainingResult] = {}

    # each in a run folder of its own; where several are resumed, some are only now begun
    for pair in data.pairs:
        if on_pair:
            on_pair(pair.name)
        folder = path / pair.name
        begun = resume and (folder / CHECKPOINT_FILE).is_file()
        try:
            with open_run(folder, resume=begun, overwrite=overwrite) as run:
                trained = train([pair], recipe, run=run, **arguments)
                if not rank():
                    save(folder, trained, recipe, PairSet([pair], {}))
        except PairError as error:
            # too small a pair does not end the training of the others
            left_out[pair.name] = str(error)
            continue
        done[pair.name] = trained
        if trained.interrupted:
            return done

    # one reason stands for all
    if not done:
        raise PairError(
            f"None of the {len(data.pairs)} pairs can be trained on: "
            f"{next(iter(left_out.values()))}"
        )

    # What turned out to have no room for a crop is now left out of the list.
    if not rank():
        list_models(path, done, left_out)
    return done
