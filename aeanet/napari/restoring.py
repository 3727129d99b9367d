"""The dock that restores an image layer."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox
from napari.layers import Image
from napari.viewer import Viewer
from numpy.typing import NDArray

from aeanet.errors import ModelError
from aeanet.inference.error import unknown_at, with_error
from aeanet.inference.memory import largest_tile
from aeanet.inference.reach import TilingError, reach_of
from aeanet.inference.stacks import StackRestorer, specimen_rows, values_of
from aeanet.io.stacks import Contents, Stack
from aeanet.napari.dock import Advance, Dock, chosen_folder, folder_choice, layer_choice
from aeanet.napari.judging import Verdict, boxes_in_layer, judge, text_of
from aeanet.napari.layers import place_of_result, same_place, stack_of
from aeanet.networks.base import MAGNIFICATIONS, Network
from aeanet.networks.error import ErrorNetwork, load_error_network, load_restoring
from aeanet.networks.registry import MODEL_FILE, SHIPPED, to_device

_RUN = "a run folder"
_SHIPPED_MOST = 4.0  # the greatest magnification that the shipped model was trained for
_TILE = 1024  # px of the result: progress is shown after each tile
_COLOUR = "#ffb000"  # of boxes: visible on any grey, also for the colour-blind
_EDGES = 250  # that fit into a side of the image


@dataclass(frozen=True)
class Result:
    """A restored stack, in the type and range of its layer, and what is said of its planes; the
    standard error of each pixel, if it was asked for.
    """

    values: NDArray
    contents: Contents
    verdicts: list[Verdict]
    bar: int
    errors: NDArray | None = None


def restore_planes(
    model: Network,
    stack: Stack,
    magnification: float,
    advance: Advance,
    *,
    keep_bar: bool = False,
    error: ErrorNetwork | None = None,
) -> Result:
    """Restore a stack plane by plane, with one brightness for all planes of a channel.

    Args:
        model: any network, on its device.
        stack: the planes.
        magnification: result pixels per pixel along Y and X.
        advance: called after each tile. What it raises ends the work.
        keep_bar: keep an information bar as part of each plane.
        error: estimates the standard error of each pixel, on its device.

    Raises:
        ImageError: for a plane that cannot be read, or has values that are not finite.
        PredictionError: for a magnification that is out of range.
        MemoryError: if not even the smallest tile fits into the memory.
    """
    # without the bar from here on: its letters would count for brightness and noise
    rows = stack.contents.plane_shape[0]
    specimen = rows if keep_bar else specimen_rows(stack)
    stack = stack.cropped(specimen)
    restorer = StackRestorer(model, stack, magnification=magnification)
    contents = restorer.contents()
    tile = _tile(model, contents.plane_shape)

    # all results are held in memory; each plane is judged while its own is there
    values = np.empty((stack.planes, *contents.plane_shape), contents.dtype)
    verdicts, errors = [], []
    for number in range(stack.planes):

        def on_tile(done: int, total: int, number: int = number) -> None:
            doing = f"Restoring plane {number + 1} of {stack.planes}"
            advance((number + done / total) / stack.planes, doing)

        restored = restorer.restore(number, tile=tile, progress=on_tile)
        values[number] = values_of(restored)
        verdicts.append(judge(model, restored))

        # in the values of the layer; at places that are warned of the errors are not known
        if error is not None:
            estimated = unknown_at(with_error(restored, error), verdicts[-1].places)
            assert estimated.error is not None
            errors.append((estimated.error * restored.unit).astype(np.float32))

    # one plane after the other becomes the axes of the stack again
    in_shape = np.stack(errors).reshape(contents.shape) if errors else None
    values = values.reshape(contents.shape)
    return Result(values, stack.contents, verdicts, rows - specimen, in_shape)


def _tile(model: Network, shape: tuple[int, int]) -> int | None:
    """The side of the tiles; None for networks that take whole images only."""
    tile = largest_tile(model, shape) or max(shape)
    if tile <= _TILE:
        return tile
    try:
        reach_of(model)
    except TilingError:
        return None
    return _TILE


class RestoreDock(Dock):
    """Restores the chosen image layer into a new one.

    Args:
        viewer: whose layers it restores.
    """

    def __init__(self, viewer: Viewer) -> None:
        # in the order of use: what, by which model, how much larger, and what else is wanted
        fields = [
            layer_choice("layer", "Image"),
            ComboBox(
                name="model",
                label="Model",
                choices=[*SHIPPED, _RUN],
                tooltip="sem comes with aeanet; a run folder is what a training leaves.",
            ),
            folder_choice("folder", "Run folder"),
            FloatSpinBox(
                name="magnification",
                label="Magnification",
                value=2.0,
                min=1.0,
                max=_SHIPPED_MOST,
                step=0.5,
                tooltip="Result pixels per pixel; 1 takes the noise away and keeps the size.",
            ),
            CheckBox(
                name="keep_bar",
                label="",
                text="Keep the information bar",
                tooltip="Otherwise a bar at the bottom is found and left out.",
            ),
            CheckBox(
                name="error",
                label="",
                text="Show the standard error of each pixel",
                tooltip="68 % of the true values lie within it, for images like those of the "
                "training.",
            ),
        ]
        super().__init__(fields, "Restore")

        # a choice changes other fields: a run needs a folder, and may magnify more
        self.viewer = viewer
        self.fields.model.changed.connect(self._on_model)
        self._on_model(self.fields.model.value)
        self.fields.folder.changed.connect(self._on_folder)

        # the selected layer is the choice, also when the dock comes after it
        viewer.layers.selection.events.active.connect(self._on_active)
        self.native_parent_changed.connect(self._on_active)

    def _on_active(self, *_: object) -> None:
        """The layer that is selected in the viewer is the one to restore."""
        active = self.viewer.layers.selection.active
        if active in self.fields.layer.choices:
            self.fields.layer.value = active

    def _on_model(self, name: str) -> None:
        self.fields.folder.visible = name == _RUN
        self.fields.magnification.max = MAGNIFICATIONS[1] if name == _RUN else _SHIPPED_MOST

    def _on_folder(self) -> None:
        """A run knows the magnification of the pairs that it was trained on."""
        folder = chosen_folder(self.fields.folder)
        if folder is None or not (folder / MODEL_FILE).is_file():
            return
        with suppress(ModelError):  # said when the user asks for a result
            self.fields.magnification.value = load_restoring(folder).magnification or 2.0

    def begin(self) -> None:
        fields = self.fields
        layer, magnification = fields.layer.value, fields.magnification.value
        keep_bar, with_errors = fields.keep_bar.value, fields.error.value
        name = chosen_folder(fields.folder) if fields.model.value == _RUN else fields.model.value

        def work(advance: Advance) -> Result:
            stack = stack_of(layer, advance.check)
            if name is None:
                raise ModelError("No run folder is chosen: choose one, or a shipped model.")
            model = to_device(load_restoring(name))
            for part in model.modules():  # a large image takes long; each layer can be the last
                part.register_forward_pre_hook(lambda *_: advance.check())
            error = to_device(load_error_network(name)) if with_errors else None
            return restore_planes(
                model, stack, magnification, advance, keep_bar=keep_bar, error=error
            )

        self.run(work, partial(self._show_result, layer, name, magnification))

    def _show_result(
        self, layer: Image, name: str | Path | None, magnification: float, result: Result
    ) -> None:
        """Add the result above its layer, and boxes where it is to be looked at."""
        # what was said stays with the result, beside the model that made it
        self.say(text_of(result.verdicts, result.bar))
        title = f"{layer.name} restored {magnification:g}x"
        record = {"model": str(name), "magnification": magnification, "trust": self.said.value}
        self.viewer.add_image(
            result.values,
            name=title,
            colormap=layer.colormap,
            contrast_limits=layer.contrast_limits,
            gamma=layer.gamma,
            metadata=layer.metadata | {"aeanet": record},
            **place_of_result(layer, magnification),
        )

        # hidden at first, since it lies exactly over the result
        if result.errors is not None:
            self.viewer.add_image(
                result.errors,
                name=f"{title}: standard error",
                colormap="inferno",
                visible=False,
                metadata={"aeanet": record},
                **place_of_result(layer, magnification),
            )

        # boxes are in px of the layer, so they lie where it lies, at its scale
        boxes = boxes_in_layer(result.verdicts, result.contents)
        if boxes:
            reasons = [box.sentence for verdict in result.verdicts for box in verdict.boxes]
            self.viewer.add_shapes(
                boxes,
                name=f"{title}: look here",
                shape_type="polygon",
                edge_color=_COLOUR,
                face_color="transparent",
                edge_width=max(result.contents.plane_shape) / _EDGES,
                features={"reason": reasons},
                **same_place(layer),
            )
        self.fields.layer.value = layer  # and not the result, which the viewer selects
