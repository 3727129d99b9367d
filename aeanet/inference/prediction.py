"""Prediction: a raw micrograph in, the restored one at the run's magnification out, as a whole or in exact tiles."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import aea_kernels as aea
from aeanet.errors import UserError
from aeanet.inference.precision import Precision, computing_in
from aeanet.inference.tiling import Progress, run_tiles
from aeanet.inference.upsampling import upsample_region, upsampled_shape
from aeanet.networks.base import Network

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class PredictionError(UserError):
    """What cannot be restored."""


def restore(
    model: Network,
    image: NDArray,
    *,
    tile: int | None = None,
    halo: int | None = None,
    exact: bool = True,
    precision: Precision = "float32",
    group: "ProcessGroup | None" = None,
    progress: Progress | None = None,
) -> NDArray:
    """The network's view of an image that already lies on the grid of the result.

    Args:
        model: any network of `model`, on any device; it is left in evaluation mode.
        image: (H, W) floating point, intensities in [0, 1] but for the overshoot of bicubic interpolation.
        tile: run in tiles of so many px, in the memory of one and with the same result (`tiling.run_tiles`); by default
            the image is taken at once, as in the paper's protocol.
        halo, exact: as in `tiling.run_tiles`.
        precision: of the convolutions; bfloat16 halves the memory, and costs about three digits.
        group: processes that share the tiles; each gets the whole result.
        progress: told after every tile.

    Returns (H, W) float32, clipped to [0, 1].

    Raises ValueError for what is no such image, TilingError for a tile that is too small.
    """
    _check_image(image)
    result = np.zeros(image.shape, np.float32)

    def write(rows: slice, columns: slice, region: NDArray) -> None:
        result[rows, columns] = region.clip(0, 1)

    with computing_in(precision, next(model.parameters()).device):
        run_tiles(
            model,
            lambda rows, columns: image[rows, columns],
            write,
            image.shape,
            side=tile,
            halo=halo,
            exact=exact,
            group=group,
            progress=progress,
        )
    return result if group is None else _joined(result, model, group)


def super_resolve(
    model: Network,
    image: NDArray,
    *,
    magnification: float | None = None,
    tile: int | None = None,
    precision: Precision = "float32",
    group: "ProcessGroup | None" = None,
    progress: Progress | None = None,
) -> NDArray:
    """A raw LR micrograph, upsampled bicubically and then restored by the network.

    Args:
        model: any network of `model`.
        image: (H, W) floating point, intensities in [0, 1].
        magnification: result pixels per pixel of `image`; by default that of the pairs the model was trained on.
        tile, precision, group, progress: as in `restore`; tiles are counted in pixels of the result.

    Returns (round(H * magnification), round(W * magnification)) float32 in [0, 1].

    Raises ValueError, in one sentence, for an image that is not such, or if the magnification is neither given nor
    known; TilingError for a tile that is too small.
    """
    _check_image(image)
    _check_range(image)
    magnification = known_magnification(model, magnification)
    shape = upsampled_shape(image.shape, magnification)
    whole = slice(0, shape[0]), slice(0, shape[1])
    large = upsample_region(lambda r, c: image[r, c], image.shape, magnification, *whole)
    return restore(model, large, tile=tile, precision=precision, group=group, progress=progress)


def known_magnification(model: Network, given: float | None) -> float:
    """The one that is given, else the model's. Raises PredictionError if there is neither, or it is not above 0."""
    magnification = model.magnification if given is None else given
    if magnification is None:
        raise PredictionError("the model does not know its magnification: give one, for instance magnification=2.")
    if not 0 < magnification < math.inf:
        raise PredictionError(f"magnification is {magnification}, wanted a number above 0.")
    return magnification


def compile_parts(model: nn.Module) -> None:
    """Have the parts of a network compiled by `torch.compile` when they first run, for any image size.

    Everything but attention, whose blocks are kernels of their own, and between which tiles are exchanged.
    """
    for part in model.children():
        if not isinstance(part, aea.AugmentedAttention):
            part.compile(dynamic=True)


def _joined(result: NDArray, model: nn.Module, group: "ProcessGroup") -> NDArray:
    """The tiles of all processes: where one has none, it has zeros."""
    device = next(model.parameters()).device  # NCCL's tensors must lie on the GPU
    total = torch.from_numpy(result).to(device)
    torch.distributed.all_reduce(total, group=group)
    joined: NDArray = total.cpu().numpy()
    return joined


def _check_image(image: NDArray) -> None:
    if image.ndim != 2 or 0 in image.shape or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image is {image.dtype} of shape {image.shape}, wanted floating point of shape (H, W).")


def _check_range(image: NDArray) -> None:
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also true of NaN
        raise ValueError(f"intensities run from {low:g} to {high:g}, wanted 0 to 1, the full range of the detector.")
