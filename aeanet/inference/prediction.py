"""Restoration of images in memory, at once or in exact tiles."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import TypedDict, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributed import ProcessGroup

from aea_kernels.core.dtypes import multiplies_bfloat16
from aeanet.errors import UserError
from aeanet.imaging.exposure import Exposure, Outliers, whole, within
from aeanet.imaging.flips import Flips
from aeanet.imaging.given import as_image, check_range
from aeanet.imaging.precision import Precision, PrecisionChoice, computing_in
from aeanet.imaging.upsampling import upsample
from aeanet.inference.exposure import find_exposure
from aeanet.inference.noise import telling
from aeanet.inference.tiling import Keys, Read, TileProgress, Write, run_tiles
from aeanet.networks.base import MAGNIFICATIONS, Network
from aeanet.networks.registry import given_model

_MOST_LOST = 0.01  # dB of PSNR that bfloat16 may cost without being asked for


class PredictionError(UserError):
    """An image, a magnification or a precision with which nothing can be restored."""


class RunOptions(TypedDict, total=False):
    """How a network runs over an image: keyword arguments that all functions here share.

    Attributes:
        tile: side of the tiles in px of the result. The result does not depend on it, the memory
            does. By default the image is taken at once.
        flips: 1, 2 or 4: the result is the mean of those for so many flips of the image, in as many
            times the time; by default `model.flips`.
        precision: of the convolutions: "float32"; "bfloat16", which halves the memory and costs
            about three digits of what is added to the image; or "auto" (`chosen_precision`).
        keys: what the attention blocks attend to (`tiling.run_tiles`); by default this image.
        group: processes that share the tiles; each gets the whole result.
        progress: called with (done, total) after every tile.
    """

    tile: int | None
    flips: Flips | None
    precision: PrecisionChoice
    keys: Keys | None
    group: ProcessGroup | None
    progress: TileProgress | None


def super_resolve(
    model: Network | str | os.PathLike[str],
    image: NDArray,
    *,
    magnification: float | None = None,
    outliers: Outliers = "keep",
    **options: Unpack[RunOptions],
) -> NDArray:
    """Upsample a raw LR micrograph bicubically and restore it by a network.

    The shipped model is shown the range that the image uses, without outliers such as hot pixels
    (`exposure.find_exposure`); a model that was trained on pairs is shown the image as it is.

    Args:
        model: any network, on any device, or the name of a shipped model, such as "sem", or
            the path of a model or run.
        image: (H, W) floating point, intensities in [0, 1]: 0 is black and 1 white of the
            detector's range. It may be a tensor or a list of rows.
        magnification: result pixels per pixel of `image`; by default that of the pairs the model
            was trained on.
        outliers: for the shipped model: "keep" gives outliers their own values in the result,
            "replace" those that the model makes of the median around them.
        options: any of these.
            tile: side of the tiles in px of the result. The result does not depend on it, the
            memory does. By default the image is taken at once.
            flips: 1, 2 or 4: the result is the mean of those for so many flips of the image, in
            as many times the time; by default `model.flips`.
            precision: of the convolutions: "float32"; "bfloat16", which halves the memory and costs
            about three digits of what is added to the image; or "auto", the default: bfloat16 where
            the machine multiplies it natively and the model loses at most 0.01 dB by it.
            group: processes that share the tiles; each gets the whole result.
            progress: called with (done, total) after every tile.

    Returns:
        (round(H * magnification), round(W * magnification)) float32 in [0, 1].

    Raises:
        ValueError: for any other image.
        PredictionError: if the magnification is neither given nor known; for another choice of
            outliers or an unknown precision.
        TilingError: for a tile that is too small.
        ModelError: for an unknown name.
    """
    model = given_model(model)
    enlarged, exposure, magnification = made_ready(model, image, magnification)
    return super_resolve_enlarged(model, enlarged, exposure, magnification, outliers, **options)


def made_ready(
    model: Network, image: NDArray, magnification: float | None
) -> tuple[NDArray[np.float32], Exposure, float]:
    """An image of `super_resolve` on the grid of the result, in the units of the network; what the
    model is shown of it; and the magnification. Errors are those of `super_resolve`.
    """
    image = as_image(image)
    check_range(image)
    magnification = known_magnification(model, magnification)
    exposure = exposure_for(model, reader(image), image.shape)
    return enlarged_as_shown(image, exposure, magnification), exposure, magnification


def exposure_for(model: Network, read: Read, shape: Sequence[int]) -> Exposure:
    """What a model is shown of an image: all of it unless `model.fits_range`."""
    return find_exposure(read, shape) if model.fits_range else Exposure()


def super_resolve_enlarged(
    model: Network,
    enlarged: NDArray,
    exposure: Exposure,
    magnification: float,
    outliers: Outliers,
    **options: Unpack[RunOptions],
) -> NDArray:
    """`super_resolve` of an image (H, W) that lies on the grid of the result already, in the units
    of the network (`Exposure.scaled_region`).
    """
    write, result = _collector(enlarged.shape)
    run_exposed(
        model, reader(enlarged), write, enlarged.shape, exposure, magnification, outliers, **options
    )
    return joined(result, model, options.get("group"))


def enlarged_as_shown(
    image: NDArray, exposure: Exposure, magnification: float
) -> NDArray[np.float32]:
    """An image on the grid of the result, in the units of the network, its outliers replaced."""
    shown = exposure.scaled_region(reader(image), *whole(image.shape))
    return upsample(shown, magnification)


def run_exposed(
    model: Network,
    scaled: Read,
    write: Write,
    shape: Sequence[int],
    exposure: Exposure,
    magnification: float,
    outliers: Outliers,
    **options: Unpack[RunOptions],
) -> None:
    """`run_network` for an image whose range is not that of the network.

    Args:
        model: the network.
        scaled: gives any region of the enlarged image in the units of the network
            (`Exposure.scaled_region`).
        write: takes the result in the units of the image.
        shape: (H, W) of the result.
        exposure: of the image.
        magnification: of the result.
        outliers: as in `super_resolve`.
        options: as in `super_resolve`.

    Raises:
        PredictionError: for another choice of outliers or an unknown precision.
    """
    if outliers not in get_args(Outliers):
        raise PredictionError(f"outliers is {outliers!r}, wanted keep or replace.")

    def read(rows: slice, columns: slice) -> NDArray:
        return within(scaled(rows, columns))

    def finish(rows: slice, columns: slice, region: NDArray) -> None:
        # What the network was not shown is added to what it makes of the rest.
        source = scaled(rows, columns)
        result = exposure.unscale(region + (source - within(source)))
        if outliers == "keep":
            result = exposure.put(exposure.values, result, (rows, columns), magnification)
        write(rows, columns, result)

    options["precision"] = chosen_precision(model, options.get("precision", "auto"))
    with at_magnification(model, magnification):
        run_network(model, read, finish, shape, **options)


def restore(
    model: Network,
    image: NDArray,
    *,
    halo: int | None = None,
    exact: bool = True,
    **options: Unpack[RunOptions],
) -> NDArray:
    """Run a network on an image that already lies on the grid of the result.

    Args:
        model: any network, on any device; it is left in evaluation mode.
        image: (H, W) floating point, intensities in [0, 1]; bicubic interpolation may overshoot
            that.
        halo: px around each tile, as in `tiling.run_tiles`.
        exact: whether tiles attend to the whole image, as in `tiling.run_tiles`.
        options: of `RunOptions`. Without a tile the image is taken at once, as in the paper's
            protocol. The precision is float32 by default.

    Returns:
        (H, W) float32, clipped to [0, 1].

    Raises:
        ValueError: for any other image.
        TilingError: for a tile that is too small.
    """
    image = as_image(image)
    write, result = _collector(image.shape)
    run_network(model, reader(image), write, image.shape, halo=halo, exact=exact, **options)
    return joined(result, model, options.get("group"))


def reader(image: NDArray) -> Read:
    """A function that gives any region of an image in memory."""
    return lambda rows, columns: image[rows, columns]


def _collector(shape: Sequence[int]) -> tuple[Write, NDArray[np.float32]]:
    """A function that takes any region of a result, and the array that it fills, clipped to
    [0, 1].
    """
    result = np.zeros(shape, np.float32)

    def write(rows: slice, columns: slice, region: NDArray) -> None:
        result[rows, columns] = region.clip(0, 1)

    return write, result


def run_network(
    model: Network,
    read: Read,
    write: Write,
    shape: Sequence[int],
    *,
    halo: int | None = None,
    exact: bool = True,
    **options: Unpack[RunOptions],
) -> None:
    """`tiling.run_tiles` with the flips of the model and in the precision asked for, float32 by
    default; a network that is told the noise is told that of the image.

    Raises:
        TypeError: for an option that is not one of `RunOptions`.
        PredictionError, TilingError: as in `restore`.
    """
    known = RunOptions.__annotations__
    for name in options.keys() - known.keys():
        raise TypeError(f"there is no argument {name!r}, wanted one of {', '.join(known)}.")

    # noise and precision hold for all passes and tiles of the image, so they are set around them
    flips = options.get("flips")
    precision = chosen_precision(model, options.get("precision", "float32"))
    device = next(model.parameters()).device
    with telling(model, read, shape), computing_in(precision, device):
        run_tiles(
            model,
            read,
            write,
            shape,
            side=options.get("tile"),
            halo=halo,
            exact=exact,
            flips=model.flips if flips is None else flips,
            keys=options.get("keys"),
            group=options.get("group"),
            progress=options.get("progress"),
        )


def chosen_precision(model: Network, precision: PrecisionChoice) -> Precision:
    """The precision given, or what "auto" stands for: bfloat16 where the device multiplies it
    natively and the model lost at most 0.01 dB by it where it was scored, else float32.

    A model that makes the image itself, and not what is added to it, computes in float32: in
    bfloat16 the image would have eight bits.

    Raises:
        PredictionError: for an unknown precision.
    """
    if precision not in get_args(PrecisionChoice):
        raise PredictionError(f"precision is {precision!r}, wanted auto, float32 or bfloat16.")
    if precision != "auto":
        return precision
    cost = model.bfloat16_cost
    suits = model.residual and cost is not None and cost <= _MOST_LOST
    device = next(model.parameters()).device
    return "bfloat16" if suits and multiplies_bfloat16(device) else "float32"


@contextmanager
def at_magnification(model: Network, magnification: float) -> Iterator[None]:
    """Within it, this is the magnification of a network that depends on it."""
    before, model.magnification = model.magnification, magnification
    try:
        yield
    finally:
        model.magnification = before


def known_magnification(model: Network, given: float | None) -> float:
    """The magnification given, else the model's.

    Raises:
        PredictionError: if there is neither, or it is out of range.
    """
    magnification = model.magnification if given is None else given
    if magnification is None:
        raise PredictionError(
            "the model does not know its magnification: give one, for instance magnification=2."
        )
    least, most = MAGNIFICATIONS
    if not isinstance(magnification, Real) or not least <= magnification <= most:
        raise PredictionError(
            f"magnification is {magnification}, wanted a number from {least:g} to {most:g}."
        )
    return float(magnification)


def joined(result: NDArray, model: nn.Module, group: ProcessGroup | None) -> NDArray:
    """The sum over the processes, each of which has zeros in the tiles of the others."""
    if group is None:
        return result
    device = next(model.parameters()).device  # NCCL's tensors must lie on the GPU
    total = torch.from_numpy(result).to(device)
    torch.distributed.all_reduce(total, group=group)
    return total.cpu().numpy()
