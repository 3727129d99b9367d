"""The dock that trains a network on pairs of layers or of files."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, FloatSpinBox
from matplotlib import rc_context
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.layers import Image
from napari.utils.theme import get_theme
from napari.viewer import Viewer
from superqt.utils import ensure_main_thread

from aeanet.data.pairs import PairSet, load_pairs, register_all
from aeanet.errors import PairError
from aeanet.figures.style import COLOURS
from aeanet.inference.brightness import micrograph_of
from aeanet.napari.dock import Advance, Dock, chosen_folder, folder_choice, layer_choice
from aeanet.napari.layers import stack_of
from aeanet.networks.registry import MODEL_FILE, SHIPPED, load_model, short_options
from aeanet.training import (
    Recipe,
    RunError,
    TrainingProgress,
    TrainingResult,
    open_run,
    save_run,
    train,
)

_LAYERS, _FOLDERS = "two layers", "folders"
_SHORT = "new weights"
_DRAWN_EVERY = 0.5  # seconds between two drawings of the curve
_CURVE_HEIGHT = 180  # px


def train_run(
    advance: Advance,
    *,
    pairs: Callable[[Advance], PairSet],
    begin_with: str | None,
    minutes: float,
    run: Path | None,
    on_loss: Callable[[int, float], None],
) -> str:
    """Train, and keep the model in the run folder, also if it was cancelled.

    Args:
        advance: shows how far it is. Cancelled work ends after the step in hand.
        pairs: reads and registers them, and is given how far that is.
        begin_with: the name of the model to begin with; None for new weights and the short recipe.
        minutes: at most.
        run: the folder for the model.
        on_loss: called with the step and its smoothed loss.

    Returns:
        What came of it.

    Raises:
        RunError: if there is no folder, or it holds a run.
        PairError: if no pair can be used.
    """
    # nothing is read, or overwritten, before the folder is known to be free
    if run is None:
        raise RunError("No run folder is chosen: choose one for the model.")
    if (run / MODEL_FILE).exists():
        raise RunError(f"{run} already holds a model: choose another folder.")

    # new weights take the short recipe with its options, a trained model takes smaller steps
    data = pairs(advance)
    limit = 60 * minutes
    if begin_with is None:
        recipe, network = Recipe.short(max_seconds=limit), short_options("aeanet")
        start = None
    else:
        recipe, network = Recipe.fine_tuning(max_seconds=limit), {}
        start = load_model(begin_with)

    def on_step(now: TrainingProgress) -> None:
        on_loss(now.step, now.loss)
        advance.show(now.used, f"Training, step {now.step:,}, loss {now.loss:.4f}")

    # cancelled work ends without an error: the model as it is then is kept as any other
    with open_run(run) as opened:
        trained = train(
            data,
            recipe,
            start=start,
            run=opened,
            on_step=on_step,
            stop=advance.cancelled,
            **network,
        )
        save_run(run, trained, recipe, data)
    return _summary(trained, data, run)


def _summary(trained: TrainingResult, data: PairSet, run: Path) -> str:
    lines = [
        f"{trained.steps:,} steps in {trained.seconds:.0f} s, loss {trained.loss:.4f}.",
        f"The model is in {run}: choose it under Restore as a run folder.",
    ]
    if trained.interrupted:
        lines.insert(0, "Cancelled. The model is kept as it was then.")
    lines += [f"Left out: {name}: {reason}" for name, reason in data.refused.items()]
    return "\n".join(lines)


def pairs_of_layers(lr: Image | None, hr: Image | None, advance: Advance) -> PairSet:
    """Register two layers, or two stacks plane by plane.

    Raises:
        LayerError: as `stack_of`.
        PairError: if both are the same layer, if they have not equally many planes, or if no pair
            registers.
    """
    # a layer that is missing or has too many axes is told before how the two fit
    coarse, fine = stack_of(lr, advance.check), stack_of(hr, advance.check)
    if lr is hr:
        raise PairError("LR and HR are the same layer: choose another one for HR.")
    if coarse.planes != fine.planes:
        raise PairError(f"LR has {coarse.planes} planes and HR {fine.planes}, wanted as many.")

    # plane by plane, as if each plane were a pair of files
    triples = [
        (
            f"plane-{number + 1}",
            micrograph_of(coarse, number).pixels,
            micrograph_of(fine, number).pixels,
        )
        for number in range(coarse.planes)
    ]
    data = register_all(triples, progress=_registering(advance))
    if not data.pairs:
        raise PairError(f"The layers cannot be used as pairs: {next(iter(data.refused.values()))}")
    return data


def _registering(advance: Advance) -> Callable[[int, int, str], None]:
    return lambda done, total, _: advance(done / total, f"Registering pair {done} of {total}")


def pairs_of_folders(lr: Path | None, hr: Path | None, advance: Advance) -> PairSet:
    """The pairs of one folder, or of two (`data.pairs.load_pairs`).

    Raises:
        PairError: if there is no folder, or no pair can be used.
    """
    if lr is None:
        raise PairError("No folder of pairs is chosen.")
    return load_pairs(lr, hr, progress=_registering(advance))


def _look(theme: str) -> Any:
    """The colours of the viewer for Matplotlib."""
    colours = get_theme(theme)
    ink, paper = colours.text.as_hex(), colours.background.as_hex()
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return dict.fromkeys(inked, ink) | {
        "figure.facecolor": paper,
        "axes.facecolor": paper,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 8,
    }


class TrainDock(Dock):
    """Trains on pairs of layers or of files, and shows the loss.

    Args:
        viewer: whose layers may be pairs.
    """

    def __init__(self, viewer: Viewer) -> None:
        # fields of both sources, of which those of the chosen one are shown
        fields = [
            ComboBox(name="source", label="Pairs", choices=[_LAYERS, _FOLDERS]),
            layer_choice("lr", "LR image"),
            layer_choice("hr", "HR image"),
            folder_choice("lr_folder", "LR folder"),
            folder_choice(
                "hr_folder",
                "HR folder",
                "With the same names; empty if the first folder holds lr and hr.",
            ),
            ComboBox(name="begin_with", label="Begin with", choices=[*SHIPPED, _SHORT]),
            FloatSpinBox(name="minutes", label="Minutes", value=5.0, min=0.1, max=1e4, step=1.0),
            folder_choice("run_folder", "Run folder", "A new or empty folder for the model."),
        ]
        super().__init__(fields, "Train")

        # the loss so far, in the colours of the viewer, above the stretch that ends the dock
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.drawn = 0.0
        with rc_context(_look(viewer.theme)):
            figure = Figure(figsize=(3, 2), layout="constrained")
            self.axes = figure.subplots()
            (self.curve,) = self.axes.plot([], [], color=COLOURS[5])
            self.axes.set(xlabel="step", ylabel="loss")
        self.canvas = FigureCanvasQTAgg(figure)
        self.canvas.setMinimumHeight(_CURVE_HEIGHT)
        self.native.layout().insertWidget(self.native.layout().count() - 1, self.canvas)

        self.fields.source.changed.connect(self._on_source)
        self._on_source()

    def _on_source(self) -> None:
        """Show the fields of the chosen source."""
        layers = self.fields.source.value == _LAYERS
        self.fields.lr.visible = self.fields.hr.visible = layers
        self.fields.lr_folder.visible = self.fields.hr_folder.visible = not layers

    def begin(self) -> None:
        # what is chosen is read here: fields belong to the main thread
        fields = self.fields
        if fields.source.value == _LAYERS:
            pairs = partial(pairs_of_layers, fields.lr.value, fields.hr.value)
        else:
            folders = chosen_folder(fields.lr_folder), chosen_folder(fields.hr_folder)
            pairs = partial(pairs_of_folders, *folders)
        begin_with = fields.begin_with.value
        work = partial(
            train_run,
            pairs=pairs,
            begin_with=None if begin_with == _SHORT else begin_with,
            minutes=fields.minutes.value,
            run=chosen_folder(fields.run_folder),
            on_loss=self._on_loss,
        )

        # each training has a curve of its own
        self.steps, self.losses = [], []
        self.run(work, self._on_result)

    @ensure_main_thread
    def _on_loss(self, step: int, loss: float) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        if time.monotonic() - self.drawn > _DRAWN_EVERY:
            self._draw()

    def _on_result(self, summary: str) -> None:
        self.say(summary)
        self._draw()

    def _draw(self) -> None:
        self.drawn = time.monotonic()
        self.curve.set_data(self.steps, self.losses)
        self.axes.relim()
        self.axes.autoscale_view()
        self.canvas.draw_idle()
