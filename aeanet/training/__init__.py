"""Training: the paper's recipe, a short one for laptops, and the run folder a training leaves behind."""

from aeanet.training.checkpoint import CHECKPOINT_FILE, CheckpointError
from aeanet.training.each import train_each
from aeanet.training.loop import train
from aeanet.training.progress import TrainingProgress
from aeanet.training.recipe import Interval, Recipe, RecipeError
from aeanet.training.run import (
    MODELS_FILE,
    RUN_FILE,
    RunError,
    RunFolder,
    TrainingResult,
    fingerprint,
    left_out,
    listed_models,
    open_run,
    save_run,
)

__all__ = [
    "CHECKPOINT_FILE",
    "MODELS_FILE",
    "RUN_FILE",
    "CheckpointError",
    "Interval",
    "Recipe",
    "RecipeError",
    "RunError",
    "RunFolder",
    "TrainingProgress",
    "TrainingResult",
    "fingerprint",
    "left_out",
    "listed_models",
    "open_run",
    "save_run",
    "train",
    "train_each",
]
