"""The run folder: what a training leaves behind, enough to use the model, to go on with it and to
repeat it.

    model.safetensors       the network, from the first checkpoint on
    checkpoint.safetensors  all that decides the rest of the training
    run.json                recipe, network, data, versions and command line; at the end, the result
    metrics.csv             loss, learning rate and validation by step
    tensorboard/            the same for TensorBoard
    validation.png          a held-back pair, restored by the network as it then was
    models.json             in a run with one model per pair: name of the pair -> its run folder
"""

import hashlib
import math
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout

from aeanet.distributed import process_count, rank
from aeanet.errors import UserError
from aeanet.io.atomic import make_folder
from aeanet.io.text import read_json, write_json
from aeanet.networks.base import Network
from aeanet.networks.registry import MODEL_FILE, save_model
from aeanet.training.checkpoint import CHECKPOINT_FILE, Checkpoint, CheckpointError
from aeanet.training.recipe import Recipe

if TYPE_CHECKING:
    from aeanet.data.pairs import PairSet
    from aeanet.data.registration import RegisteredPair

RUN_FILE = "run.json"
MODELS_FILE = "models.json"
LOCK_FILE = ".lock"
BINDING_VERSIONS = ("aeanet", "torch", "numpy")


class RunError(UserError):
    """A run folder that cannot be used as asked."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training hands back.

    Attributes:
        model: on the CPU, in evaluation mode.
        steps, seconds: done in all, by every process that ever worked on this run.
        loss: smoothed training loss (MAE).
        interrupted: Ctrl-C ended it, and the model is that of the last full step.
        steps_per_second: of the latest process without its first step, which warms up; NaN where it
            had no other.
        validation: the latest scores on held-back pairs, "psnr", "ssim" and their gains over
            bicubic interpolation.
    """

    model: Network
    steps: int
    seconds: float
    loss: float
    interrupted: bool
    steps_per_second: float = math.nan
    validation: dict[str, float] | None = None


@dataclass(frozen=True)
class RunFolder:
    """A run folder that is this training's alone, see `open_run`; `checkpoint` is where to go
    on.
    """

    path: Path
    checkpoint: Checkpoint | None = None


@contextmanager
def open_run(
    path: Path, *, resume: bool = False, overwrite: bool = False, one_per_pair: bool = False
) -> Iterator[RunFolder]:
    """Within it, the folder is there and no other training can open it.

    Args:
        path: the folder; it is made if it is not there.
        resume: go on from the checkpoint in it; where it has a model per pair, that of the first
            begun.
        overwrite: begin anew although it holds a run; what it holds stays until it is replaced.
        one_per_pair: the folder is for a model per pair, in sub-folders, rather than for one of all
            of them.

    Raises:
        RunError: another training is at work there; or the folder holds a run and is neither to be
            resumed nor to be overwritten, or a run of the other kind.
        CheckpointError: there is nothing to resume.
        FolderError: the folder cannot be written.
    """
    if resume and not path.is_dir():
        raise CheckpointError(f"There is no {path} to resume: leave out --resume to begin.")
    if rank():  # rank 0 looks after the folder, and has perhaps begun to write by now
        yield RunFolder(path, _newest(path) if resume else None)
        return
    with _lock(path):
        _check_what_it_holds(path, one_per_pair=one_per_pair, go_on=resume or overwrite)
        yield RunFolder(path, _newest(path) if resume else None)


def _check_what_it_holds(path: Path, *, one_per_pair: bool, go_on: bool) -> None:
    """Raise RunError if the folder holds a run of the other kind; or any, unless it is to `go_on`
    or to be replaced.
    """
    # a list of models means one per pair, a model or a checkpoint at the top one for all
    many = (path / MODELS_FILE).exists()
    one = (path / MODEL_FILE).exists() or (path / CHECKPOINT_FILE).exists()

    # the other kind is refused even to --overwrite, which would leave parts of both
    if one_per_pair and one:
        raise RunError(
            f"{path} holds a run of one model for all pairs: choose another folder with --out."
        )
    if many and not one_per_pair:
        raise RunError(
            f"{path} holds a run of one model per pair (--self): choose another folder with --out."
        )

    # of the same kind: only where this is asked for
    if (one or many) and not go_on:
        raise RunError(
            f"{path} already holds a model or a checkpoint: go on with --resume, replace it with "
            "--overwrite, or choose another folder with --out."
        )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Within it, the folder is there and locked against other trainings.

    Raises:
        RunError: another training has locked it.
    """
    is_new = not path.exists()
    make_folder(path)
    try:
        lock = FileLock(path / LOCK_FILE).acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"{path} is in use by another training: wait for its end, or choose another folder."
        ) from None
    except NotImplementedError:  # some clusters' file systems have no locks
        yield
        return
    with lock:
        try:
            yield
        finally:
            # a training that was refused before it wrote anything leaves no folder behind
            if is_new and [place.name for place in path.iterdir()] == [LOCK_FILE]:
                with suppress(OSError):
                    (path / LOCK_FILE).unlink()
                    path.rmdir()


def _newest(path: Path) -> Checkpoint:
    """The checkpoint of a run; of one with a model per pair, that of the first pair begun."""
    places = [path, *(path / folder for folder in listed_models(path).values())]
    begun = [place / CHECKPOINT_FILE for place in places if (place / CHECKPOINT_FILE).is_file()]
    if not begun:
        raise CheckpointError(
            f"{path} holds no checkpoint, so there is nothing to resume: leave out --resume to "
            "begin."
        )
    return Checkpoint.read(begun[0])


def list_models(path: Path, names: Iterable[str], left_out: Mapping[str, str]) -> None:
    """Write the list of a run with one model per pair, each in the sub-folder of its pair's name.

    Raises:
        OSError: the list cannot be written.
    """
    record = {"models": {name: name for name in names}, "left_out": dict(left_out)}
    write_json(path / MODELS_FILE, record)


def listed_models(path: Path) -> dict[str, str]:
    """Pair -> sub-folder of `path` in a run with one model per pair; empty for a run of one model
    for all pairs.

    Raises:
        RunError, RecordError: the list is damaged.
    """
    return _lists(path)["models"] if (path / MODELS_FILE).is_file() else {}


def left_out(path: Path) -> dict[str, str]:
    """Pair -> why it has no model, in a run with one model per pair."""
    return _lists(path)["left_out"]


def _lists(path: Path) -> dict[str, dict[str, str]]:
    record = read_json(path / MODELS_FILE)
    for name in ("models", "left_out"):
        part = record.get(name) if isinstance(record, dict) else None
        if not isinstance(part, dict) or not all(isinstance(text, str) for text in part.values()):
            raise RunError(f"{path / MODELS_FILE} is damaged: it does not list models by pair.")
    return record


def fingerprint(pairs: "Sequence[RegisteredPair]") -> str:
    """SHA-256 over the names and pixels of registered pairs: two runs with the same one saw the
    same data.
    """
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(f"{pair.name} {pair.hr.shape}".encode())
        for image in (pair.lr, pair.hr, pair.mask):
            digest.update(image.tobytes())
    return digest.hexdigest()


def describe_pairs(data: "PairSet", held_back: "Sequence[RegisteredPair]" = ()) -> dict[str, Any]:
    """The data of a training on pairs, as JSON takes it."""
    described = {
        "pairs": [pair.name for pair in data.pairs],
        "held_back": [pair.name for pair in held_back],
        "sha256": fingerprint(data.pairs),
        "refused": data.refused,
    }
    return described | ({"of_scans": True} if data.of_scans else {})


def configuration(recipe: Recipe, model: Network, data: dict[str, Any]) -> dict[str, Any]:
    """What a training is, as JSON takes it: its recipe, network, data, versions and number of
    processes.
    """
    versions = {name: version(name) for name in BINDING_VERSIONS}
    return {
        "recipe": asdict(recipe),
        "model": model.config,
        "data": data,
        "versions": versions | {"python": platform.python_version()},
        "processes": process_count(),
    }


def run_record(configured: dict[str, Any], trained: TrainingResult) -> dict[str, Any]:
    """What `run.json` holds: a `configuration`, all else one needs to repeat the run, and what has
    come of it so far.
    """
    return configured | {
        "command": sys.argv,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "threads": torch.get_num_threads(),
        "magnification": trained.model.magnification,
        "steps_done": trained.steps,
        "interrupted": trained.interrupted,
        "seconds": round(trained.seconds, 1),
        "steps_per_second": _number(trained.steps_per_second),
        "loss": _number(trained.loss),
        "validation": trained.validation,
    }


def save_run(
    folder: Path,
    trained: TrainingResult,
    recipe: Recipe,
    data: "PairSet",
    held_back: "Sequence[RegisteredPair]" = (),
) -> None:
    """Write the model and `run.json` into a run folder.

    Files already there are replaced whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    save_model(trained.model, folder / MODEL_FILE)
    configured = configuration(recipe, trained.model, describe_pairs(data, held_back))
    write_json(folder / RUN_FILE, run_record(configured, trained))


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return round(value, 6) if math.isfinite(value) else None
