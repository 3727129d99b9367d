"""The standard error of each pixel of a restoration."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from aeanet.imaging.exposure import Exposure, whole, within
from aeanet.inference.memory import largest_tile
from aeanet.inference.prediction import (
    RunOptions,
    at_magnification,
    enlarged_as_shown,
    joined,
    made_ready,
    reader,
    run_network,
)
from aeanet.inference.restored import Restored
from aeanet.networks.error import ErrorNetwork, load_error_network
from aeanet.trust.places import Place


def estimate_error(
    model: ErrorNetwork | str | Path,
    image: NDArray,
    *,
    magnification: float | None = None,
    **options: Unpack[RunOptions],
) -> NDArray[np.float32]:
    """How far `super_resolve` may be from the truth at each pixel: the standard error.

    It was learned from simulated micrographs, so it covers noise, blur and sampling as the
    simulator knows them (the card of the model says how well), and nothing else: no distortion or
    charging of the specimen, and no image unlike those of the training.

    Args:
        model: the name of a shipped model, such as "sem", or `networks.error.load_error_network`.
        image: (H, W) floating point, intensities in [0, 1], as for `super_resolve`.
        magnification: result pixels per pixel of `image`; by default 2.
        options: tile, precision, group and progress, as in `super_resolve`.

    Returns:
        (round(H * magnification), round(W * magnification)) float32, in the units of `image`. The
        true value lies within one standard error of the result in 68 % of the pixels, and within
        `model.wider` (about 2) in 95 %. It is NaN at outliers, which a result keeps as they are.

    Raises:
        ValueError: for any other image.
        ModelError: there is no such network for this model.
        PredictionError, TilingError: as `super_resolve`.
    """
    network = model if isinstance(model, ErrorNetwork) else load_error_network(model)
    enlarged, exposure, magnification = made_ready(network, image, magnification)
    return error_of_enlarged(network, enlarged, exposure, magnification, **options)


def with_error(
    restored: Restored, network: ErrorNetwork, **options: Unpack[RunOptions]
) -> Restored:
    """An image that was restored, with the standard error of each pixel. One that was read by
    regions stays without.

    Args:
        restored: with its LR micrograph in memory.
        network: on its device.
        options: group and progress, as in `super_resolve`. The tiles are the largest that fit into
            the free memory.
    """
    if restored.source is None:
        return restored
    exposure, magnification = restored.exposure, restored.magnification
    enlarged = enlarged_as_shown(restored.source.pixels, exposure, magnification)
    height, width = enlarged.shape
    options["tile"] = largest_tile(network, (height, width), "float32", options.get("group"))
    error = error_of_enlarged(network, enlarged, exposure, magnification, **options)
    return replace(restored, error=error)


def unknown_at(restored: Restored, places: Iterable[Place]) -> Restored:
    """With NaN as the standard error at these places of the LR micrograph, such as those that are
    warned of: what was learned from usual images says nothing there.
    """
    if restored.error is None:
        return restored
    error, scale = restored.error.copy(), restored.magnification
    for place in places:
        top, left = int(place.top * scale), int(place.left * scale)
        bottom = math.ceil((place.top + place.height) * scale)
        right = math.ceil((place.left + place.width) * scale)
        error[top:bottom, left:right] = math.nan
    return replace(restored, error=error)


def error_of_enlarged(
    network: ErrorNetwork,
    enlarged: NDArray,
    exposure: Exposure,
    magnification: float,
    **options: Unpack[RunOptions],
) -> NDArray[np.float32]:
    """`estimate_error` of an image (H, W) that lies on the grid of the result already, in the units
    of the network (`Exposure.scaled_region`).
    """
    error = np.zeros(enlarged.shape, np.float32)

    def write(rows: slice, columns: slice, region: NDArray) -> None:
        error[rows, columns] = (exposure.high - exposure.low) * region

    # One pass: the mean over flips is hardly nearer to the truth than one of them.
    options["flips"] = 1
    with at_magnification(network, magnification):
        run_network(network, reader(within(enlarged)), write, enlarged.shape, **options)
    error = joined(error, network, options.get("group"))
    unknown = np.full(exposure.rows.shape, -1.0)
    put = exposure.put(unknown, error, whole(error.shape), magnification)
    return np.where(put < 0, np.float32(np.nan), error)
