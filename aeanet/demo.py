"""The demonstration `aeanet demo`: from simulated pairs to a restored image that the network has
not seen.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table

import aea_kernels as aea
from aeanet.data.pairs import PairSet, register_all
from aeanet.data.synthetic import simulate_pair
from aeanet.errors import PairError
from aeanet.figures import draw_comparison
from aeanet.inference.prediction import restore
from aeanet.io.images import write_image
from aeanet.io.text import write_json
from aeanet.networks.registry import MODEL_FILE, short_options
from aeanet.networks.unet import AEANet
from aeanet.scoring.evaluation import Score, score_region
from aeanet.training import RUN_FILE, Recipe, TrainingProgress, save_run, train

TRAINING_PAIRS = 5
RECORD, RUN = "demo.json", "run"
PICTURES = ("lr.png", "lr_bicubic.png", "super_resolved.png", "hr.png", "comparison.png")
FILES = (RECORD, *PICTURES, f"{RUN}/{MODEL_FILE}", f"{RUN}/{RUN_FILE}")
# Two cores do these steps in about two minutes. Slower machines end by the time.
RECIPE = Recipe.short(steps=1000, crop=48, max_seconds=130)


def run_demo(
    folder: Path,
    show: Callable[[str, float], None],
    *,
    recipe: Recipe = RECIPE,
    shape: tuple[int, int] = (944, 1280),
) -> RenderableType:
    """Simulate, register, train, restore and score. Pictures and model go to `folder`.

    Args:
        folder: exists already.
        show: called with what is being done, and the share of it that is done, 0 to 1.
        recipe: of the training.
        shape: of HR.

    Returns:
        What to print at the end.

    Raises:
        PairError: if the simulated pairs do not register.
        OSError, ImageError: if the folder cannot be written.
        KeyboardInterrupt: if Ctrl-C ended the training, after the model is saved.
    """
    # another seed of the recipe gives other pairs throughout
    total = TRAINING_PAIRS + 1
    show(f"Simulating {total} pairs", 0.0)
    simulated = []
    for index in range(total):
        simulated.append(simulate_pair(recipe.seed * total + index, shape=shape))
        show(f"Simulating {total} pairs", (index + 1) / total)

    # registered as real pairs are, without the displacement that is known here
    data = register_all(
        [(pair.name, pair.lr, pair.hr) for pair in simulated],
        progress=lambda done, of, name: show(f"Registering {of} pairs", done / of),
    )
    if data.refused:
        raise PairError("; ".join(f"{name}: {reason}" for name, reason in data.refused.items()))

    # the score is to be that of a pair which the network does not learn from
    *seen, unseen = data.pairs

    def on_step(now: TrainingProgress) -> None:
        show(f"Training, step {now.step:,}, loss {now.loss:.4f}", now.used)

    # Ctrl-C ends the training alone, so that the model is saved first
    trained = train(seen, recipe, on_step=on_step, **short_options("aeanet"))
    save_run(folder / RUN, trained, recipe, PairSet(seen, {}))
    if trained.interrupted:
        raise KeyboardInterrupt

    # the score over all of the image, since the network has seen none of it
    show("Restoring the unseen image", 0.0)
    assert isinstance(trained.model, AEANet)
    restored, features, seconds = _restore_timed(trained.model, unseen.lr)
    score = score_region(unseen.name, unseen, restored)
    if score is None:
        raise PairError(f"{unseen.name}: LR and HR do not overlap.")

    # in the order of PICTURES: LR as recorded, then all on the grid of HR
    show("Writing the pictures", 0.7)
    pictures = (simulated[-1].lr, unseen.lr, restored, unseen.hr)
    *files, comparison = (folder / name for name in PICTURES)
    for path, pixels in zip(files, pictures, strict=True):
        write_image(path, pixels)
    draw_comparison(comparison, unseen, restored, score)

    # what was measured, and beside it what the attention map would have needed
    plan = aea.explain(trained.model.bottom, features)
    record = score.record() | {
        "steps": trained.steps,
        "training_seconds": trained.seconds,
        "positions": math.prod(features[2:]),
        "map_bytes": plan.map_bytes,
    }
    write_json(folder / RECORD, record | seconds)
    show("Done", 1.0)
    return Group(
        _gain(score),
        _cost(trained.model.bottom, plan, math.prod(features[2:]), **seconds),
        f"The pictures are in {folder}: see comparison.png.",
    )


def _restore_timed(
    model: AEANet, image: NDArray
) -> tuple[NDArray, tuple[int, ...], dict[str, float]]:
    """The result, the shape of the attention's input, and the seconds of both."""
    # the input of the attention is kept from the run of the network
    inputs: list[torch.Tensor] = []
    hook = model.bottom.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    start = time.perf_counter()
    restored = restore(model, image)
    network_seconds = time.perf_counter() - start
    hook.remove()

    # the block again, alone: within the network its time is not told apart
    start = time.perf_counter()
    with torch.inference_mode():
        model.bottom(inputs[0]).cpu()  # which waits for a GPU
    seconds = {
        "attention_seconds": time.perf_counter() - start,
        "network_seconds": network_seconds,
    }
    return restored, tuple(inputs[0].shape), seconds


def _gain(score: Score) -> Table:
    table = Table(title=f"Unseen image {score.name}, against HR")
    for title in ("", "PSNR (dB)", "SSIM"):
        table.add_column(title, justify="right" if title else "left")
    table.add_row("LR, bicubic", f"{score.psnr_bicubic:.2f}", f"{score.ssim_bicubic:.4f}")
    table.add_row("super-resolved", f"{score.psnr:.2f}", f"{score.ssim:.4f}")
    table.add_section()
    table.add_row("gain", f"{score.delta_psnr:+.2f}", f"{score.delta_ssim:+.4f}", style="bold")
    return table


def _cost(
    block: aea.AugmentedAttention,
    plan: aea.Plan,
    positions: int,
    *,
    attention_seconds: float,
    network_seconds: float,
) -> Table:
    """What the attention needed, and what its map would have needed. Seconds are measured, the rest
    is counted.
    """
    # a product of query and key, and one with the value, for each position and key
    keys = positions + (0 if block.references is None else len(block.references))
    map_flops = 2 * positions * keys * (block.key.out_features + block.value.out_features)
    share = attention_seconds / network_seconds

    # how long the map would take is not known: it is not formed
    table = Table(
        title=f"Attention over {positions:,} positions and {keys:,} keys, {block.heads} heads"
    )
    for title in ("", "this run", "with the map formed"):
        table.add_column(title, justify="right" if title else "left")
    table.add_row("time", f"{attention_seconds:.3f} s, {share:.0%} of the network", "-")
    table.add_row(
        "working memory", f"{plan.workspace_bytes / 1e6:,.1f} MB", f"{plan.map_bytes / 1e9:,.1f} GB"
    )
    table.add_row("arithmetic", f"{plan.flops / 1e9:,.1f} GFLOP", f"{map_flops / 1e9:,.0f} GFLOP")
    return table
