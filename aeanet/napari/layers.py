"""From layers to stacks and back: axes, steps, and where a result lies."""

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from aeanet.errors import UserError
from aeanet.io.stacks import Stack

_LEADING = ("", "Z", "TZ", "TCZ")
"""What axes without a name are taken for."""


class LayerError(UserError):
    """A layer that cannot be restored."""


def stack_of(layer: Image | None, before_plane: Callable[[], None]) -> Stack:
    """The planes of an image layer; of a layer with several resolutions, those of the finest.

    Args:
        layer: (..., Y, X), or (..., Y, X, 3) in colour.
        before_plane: called before a plane is read.

    Raises:
        LayerError: if there is none, or it has too many axes.
    """
    if layer is None:
        raise LayerError("There is no image layer: open an image first.")

    # before Y and X at most T, C and Z; colour is no axis of the layer
    leading = layer.ndim - 2
    if not 0 <= leading < len(_LEADING):
        raise LayerError(
            f"The layer {layer.name} has {layer.ndim} axes, wanted Y and X, and at most "
            f"{len(_LEADING) - 1} before them."
        )

    # Axes keep their names where these are those of a stack.
    names = "".join(layer.axis_labels[:leading]).upper()
    if len(names) != leading or set(names) - set("TZC") or len(set(names)) < leading:
        names = _LEADING[leading]
    values = layer.data[0] if layer.multiscale else layer.data
    stack = Stack.of_array(values, names + ("YXS" if layer.rgb else "YX"))

    def read(number: int) -> NDArray:
        before_plane()
        return stack.plane(number)

    return Stack(stack.contents, read)


def place_of_result(layer: Image, magnification: float) -> dict[str, Any]:
    """Scale, place and units of a result that covers the field of a layer with `magnification`
    times as many pixels along Y and X.

    Positions of pixels are those of their centres, so the first pixel of the result lies a part of
    a pixel outside that of the layer.
    """
    factor = np.ones(layer.ndim)
    factor[-2:] = magnification
    offset = 0.5 / factor - 0.5
    turned = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear).linear_matrix
    return same_place(layer) | {
        "scale": layer.scale / factor,
        "translate": layer.translate + turned @ offset,
    }


def same_place(layer: Image) -> dict[str, Any]:
    """Scale, place and units of what lies on the pixels of a layer."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}
