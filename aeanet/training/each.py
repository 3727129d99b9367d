"""Self-training (the paper's "self"): one network per pair, each in a run folder of its own within
one folder.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aeanet.data.pairs import PairSet
from aeanet.distributed import rank
from aeanet.errors import PairError
from aeanet.training.checkpoint import CHECKPOINT_FILE
from aeanet.training.loop import train
from aeanet.training.recipe import Recipe
from aeanet.training.run import TrainingResult, list_models, open_run, save_run


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
        RunError, CheckpointError, RecipeError, ...: as `open_run`, `train` and `save`.
    """
    left_out = dict(data.refused)
    if not rank():
        list_models(path, [pair.name for pair in data.pairs], left_out)
    done: dict[str, TrainingResult] = {}
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
            left_out[pair.name] = str(error)
            continue
        done[pair.name] = trained
        if trained.interrupted:
            return done
    if not done:
        raise PairError(
            f"None of the {len(data.pairs)} pairs can be trained on: "
            f"{next(iter(left_out.values()))}"
        )

    # What turned out to have no room for a crop is now left out of the list.
    if not rank():
        list_models(path, done, left_out)
    return done
