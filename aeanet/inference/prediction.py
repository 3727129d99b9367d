"""Restoration of images in memory, at once or in exact tiles."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributed import ProcessGroup

import aea_kernels as aea
from aeanet.errors import UserError
from aeanet.imaging.flips import Flips
from aeanet.imaging.precision import Precision, computing_in
from aeanet.imaging.upsampling import upsample
from aeanet.inference.tiling import Read, TileProgress, Write, run_tiles
from aeanet.networks.base import MAGNIFICATIONS, Network
from aeanet.networks.registry import load_model


class PredictionError(UserError):
    """An image or a magnification with which nothing can be restored."""


class RunOptions(TypedDict, total=False):
    """How a network runs over an image: keyword arguments that all functions here share.

    Attributes:
        tile: side of the tiles in px of the result. The result does not depend on it, the memory
            does. By default the image is taken at once.
        flips: 1, 2 or 4: the result is the mean of those for so many flips of the image, in as many
            times the time; by default `model.flips`.
        precision: of the convolutions: "float32", or "bfloat16", which halves the memory and costs
            about three digits.
        group: processes that share the tiles; each gets the whole result.
        progress: called with (done, total) after every tile.
    """

    tile: int | None
    flips: Flips | None
    precision: Precision
    group: ProcessGroup | None
    progress: TileProgress | None


def super_resolve(
    model: Network | str,
    image: NDArray,
    *,
    magnification: float | None = None,
    **options: Unpack[RunOptions],
) -> NDArray:
    """Upsample a raw LR micrograph bicubically and restore it by a network.

    Args:
        model: any network, on any device, or the name of a shipped model, such as "sem".
        image: (H, W) floating point, intensities in [0, 1]: 0 is black and 1 white of the
            detector's range.
        magnification: result pixels per pixel of `image`; by default that of the pairs the model
            was trained on.
        options: any of these.
            tile: side of the tiles in px of the result. The result does not depend on it, the
            memory does. By default the image is taken at once.
            flips: 1, 2 or 4: the result is the mean of those for so many flips of the image, in
            as many times the time; by default `model.flips`.
            precision: of the convolutions: "float32", or "bfloat16", which halves the memory and
            costs about three digits.
            group: processes that share the tiles; each gets the whole result.
            progress: called with (done, total) after every tile.

    Returns:
        (round(H * magnification), round(W * magnification)) float32 in [0, 1].

    Raises:
        ValueError: for any other image.
        PredictionError: if the magnification is neither given nor known.
        TilingError: for a tile that is too small.
        ModelError: for an unknown name.
    """
    model = load_model(model) if isinstance(model, str) else model
    _check_image(image)
    _check_range(image)
    magnification = known_magnification(model, magnification)
    with at_magnification(model, magnification):
        return restore(model, upsample(image, magnification), **options)


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
            protocol.

    Returns:
        (H, W) float32, clipped to [0, 1].

    Raises:
        ValueError: for any other image.
        TilingError: for a tile that is too small.
    """
    _check_image(image)
    result = np.zeros(image.shape, np.float32)

    def write(rows: slice, columns: slice, region: NDArray) -> None:
        result[rows, columns] = region.clip(0, 1)

    run_network(
        model, lambda *region: image[region], write, image.shape, halo=halo, exact=exact, **options
    )
    group = options.get("group")
    return result if group is None else _joined(result, model, group)


def run_network(
    model: Network,
    read: Read,
    write: Write,
    shape: Sequence[int],
    *,
    halo: int | None = None,
    exact: bool = True,
    tile: int | None = None,
    flips: Flips | None = None,
    precision: Precision = "float32",
    group: ProcessGroup | None = None,
    progress: TileProgress | None = None,
) -> None:
    """`tiling.run_tiles` with the flips of the model and in a given precision."""
    with computing_in(precision, next(model.parameters()).device):
        run_tiles(
            model,
            read,
            write,
            shape,
            side=tile,
            halo=halo,
            exact=exact,
            flips=model.flips if flips is None else flips,
            group=group,
            progress=progress,
        )


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


def compile_parts(model: nn.Module) -> None:
    """Have `torch.compile` compile the parts of a network when they first run, for any image size.

    Attention blocks are left as they are: they are kernels already, and tiles exchange their sums
    between them.
    """
    for part in model.children():
        if not isinstance(part, aea.AugmentedAttention):
            part.compile(dynamic=True)


def _joined(result: NDArray, model: nn.Module, group: ProcessGroup) -> NDArray:
    """The sum over the processes, each of which has zeros in the tiles of the others."""
    device = next(model.parameters()).device  # NCCL's tensors must lie on the GPU
    total = torch.from_numpy(result).to(device)
    torch.distributed.all_reduce(total, group=group)
    joined: NDArray = total.cpu().numpy()
    return joined


def _check_image(image: NDArray) -> None:
    if image.ndim != 2 or 0 in image.shape or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(
            f"image is {image.dtype} of shape {image.shape}, wanted floating point of shape (H, W)."
        )


def _check_range(image: NDArray) -> None:
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also true of NaN
        raise ValueError(
            f"intensities run from {low:g} to {high:g}, wanted 0 to 1, the full range of the "
            "detector."
        )
