"""Exact tiles: a network with global attention runs tile by tile, with the result of the whole
image.

A convolution depends on its neighbourhood only, so a tile with a halo of that width has all that it
needs. Attention depends on the whole image, but only through a sum over its positions
(`aea_kernels.Moments`), and sums add over tiles. Each attention block therefore needs one more
pass: the network runs over all tiles up to that block, and the sums are added up. In the last pass
the blocks attend to these sums. At the border of the image a tile ends with the image, and the
network's own padding applies.

Attention blocks are `aea_kernels.AugmentedAttention`, what `aea_kernels.convert` replaces in
networks of other people, and every other `GlobalBlock`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from aea_kernels.conversion import is_known_attention
from aeanet.distributed import agreeing
from aeanet.errors import UserError
from aeanet.imaging.flips import Flip, Flips, Region, flips_of

Read = Callable[[slice, slice], NDArray]
"""Rows and columns of the image -> that region, (rows, columns), floating point."""
Write = Callable[[slice, slice, NDArray], None]
"""Rows, columns, and the result for that region."""
TileProgress = Callable[[int, int], None]
"""The number of tiles done and of all tiles, over all passes."""

PROBE = 64  # px, side of the image on which the reach of a network is found; strides must divide it
_ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Tanh,
)
_REORDERED = (nn.PixelShuffle, nn.PixelUnshuffle)  # the pixels of a position at the other level
POINTWISE = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.BatchNorm2d, *_ACTIVATIONS, *_REORDERED)

SUMMED_UP = (
    nn.Conv2d,
    nn.Linear,
    nn.MaxPool2d,
)  # in an attention block, which answers for them by `reach` and `step`


class TilingError(UserError):
    """A network that has no exact tiles, or a tile that is too small."""


class ResultError(UserError):
    """A result that is no image."""


class GlobalBlock(Protocol):
    """A module (N, C, h, w) -> (N, C', h, w) that depends on all positions of its input through a
    sum, and otherwise
    on each position or its neighbourhood. It may also have:

    - `reach`, how many positions in each direction the neighbourhood has; 0 without;
    - `step`, how many positions in each direction are pooled to one key; 1 without, and 0 says that
    they overlap.
    """

    keys: Any
    """None, or the sum that stands in prediction for that of the input."""

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> Any:
        """The sum over the positions of x, or over the rows and columns `core` of it: a dataclass
        of tensors with `+` and `all_reduce(group)`. In prediction; no derivatives are needed.
        """


def is_global_block(module: nn.Module) -> bool:
    """Whether the module has `summarize` and `keys`."""
    return callable(getattr(module, "summarize", None)) and hasattr(module, "keys")


@dataclass(frozen=True)
class Attention:
    """An attention block of a network, the pixels per position there, and the halo (px) that its
    sum needs.
    """

    block: Any
    """A `GlobalBlock`."""
    stride: int
    halo: int


@dataclass(frozen=True)
class Reach:
    """A network's result depends on `halo` px in each direction, and on all positions through its
    attention blocks.

    `stride` is the number of pixels that one position of its coarsest level stands for.
    """

    halo: int
    stride: int
    blocks: tuple[Attention, ...]


def reach_of(model: nn.Module) -> Reach:
    """The reach of a network (N, 1, H, W) -> (N, 1, H, W): the sum over its layers, found by
    running it once.

    The reach of a layer follows from its kernel, stride, padding and dilation; the pixels per
    position follow from the size of its result. A layer of another kind can state its reach in an
    attribute `reach`, in positions of its input. For parallel branches the sum is an upper bound.
    Only modules are seen: a function in `forward` that depends on the whole image, such as a mean
    over it, is not.

    Raises TilingError for a layer of unknown reach, one that depends on the whole image, or
    attention that runs twice or has not been converted.
    """
    halo, stride = 0, 1
    blocks: list[Attention] = []

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal halo, stride
        before, after = (-(-PROBE // int(x.shape[-2])) for x in (inputs[0], output))  # px per step
        if is_global_block(layer):
            if any(attention.block is layer for attention in blocks):
                raise TilingError(
                    "an attention block runs twice in this network, so there are no exact tiles for it."
                )
            step = getattr(layer, "step", 1)
            if step == 0 or PROBE % (before * step):
                raise TilingError(
                    f"the keys of {type(layer).__name__} are pooled in windows that no tiles fit."
                )
            stride = max(stride, before * step)
            blocks.append(
                Attention(layer, before, _round_up(halo + _steps(layer) * before, stride))
            )
        halo += _steps(layer) * (after if isinstance(layer, nn.ConvTranspose2d) else before)
        stride = max(stride, before, after)

    def check(part: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        if not _is_local(part, inputs[0]):
            raise TilingError(
                f"{type(part).__name__} in an attention block depends on more than one position at a time."
            )

    parameter = next(model.parameters())
    inside = {part for m in model.modules() if is_global_block(m) for part in list(m.modules())[1:]}
    outside = [m for m in model.modules() if m not in inside]
    for m in outside:
        if is_known_attention(m) and not is_global_block(m):
            raise TilingError(
                f"{type(m).__name__} attends to the whole image and is not converted (aea.convert)."
            )
    leaves = [
        m
        for m in outside
        if isinstance(m, POINTWISE) or is_global_block(m) or not list(m.children())
    ]
    hooks = [leaf.register_forward_hook(add) for leaf in leaves]
    parts = [m for m in inside if not (list(m.children()) or isinstance(m, SUMMED_UP))]
    hooks += [part.register_forward_hook(check) for part in parts]
    try:
        # eager: a compiled network would not run the hooks of its layers
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            model.eval()(
                torch.zeros(1, 1, PROBE, PROBE, dtype=parameter.dtype, device=parameter.device)
            )
    finally:
        for hook in hooks:
            hook.remove()
    return Reach(_round_up(halo, stride), stride, tuple(blocks))


def _is_local(part: nn.Module, x: Tensor) -> bool:
    """Whether the result at all other positions stays when x (N, C, h, w) or (N, h, w, C) changes
    at one of them.
    """
    for one in ((0, slice(None), 0, 0), (0, 0, 0, slice(None)))[: 2 if x.dim() == 4 else 0]:
        before = torch.rand_like(x)
        after = before.clone()
        after[one] += 100
        change = part.forward(after) - part.forward(before)
        if change.shape == x.shape:
            change[one] = 0
            if change.abs().max() < 1e-4:
                return True
    return False


def _steps(layer: nn.Module) -> int:
    """The reach of a layer in positions of its input; for a transposed convolution, of its
    output.
    """
    # With circular padding a layer depends on the other end of the image; BN without running
    # statistics, on its mean.
    wraps = getattr(layer, "padding_mode", "zeros") == "circular"
    own_statistics = isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None
    said = getattr(layer, "reach", None)
    if isinstance(said, int):
        return said
    if (
        isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.MaxPool2d | nn.AvgPool2d)
        and not wraps
    ):
        kernel, padding, dilation = (
            _pair(getattr(layer, name, 1)) for name in ("kernel_size", "padding", "dilation")
        )
        return max(
            max(d * (k - 1) - p, p) for k, p, d in zip(kernel, padding, dilation, strict=True)
        )
    if isinstance(layer, nn.Upsample) and not layer.align_corners:
        return {"nearest": 1, "nearest-exact": 1, "bilinear": 1, "bicubic": 2}[layer.mode]
    local = (
        isinstance(layer, POINTWISE) or is_global_block(layer) or isinstance(layer, nn.Sequential)
    )  # an empty one
    if local and not own_statistics:
        return 0
    raise TilingError(
        f"it is not known how far the layer {layer} looks, so there are no exact tiles for this network, only whole "
        "images."
    )


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(
        value, str
    ):  # padding "valid" is 0; with "same" the reach follows from the kernel alone
        return 0, 0
    return (value, value) if isinstance(value, int) else tuple(value)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


@dataclass(frozen=True)
class Tile:
    """The rows and columns whose result a tile gives, `core`, and those that the network is given
    for it, `field`.
    """

    core: Region
    field: Region

    @classmethod
    def around(cls, core: Region, halo: int, stride: int, shape: Sequence[int]) -> "Tile":
        """The tile of a core in an image of `shape`; its field begins and ends at multiples of
        `stride`, or there.
        """
        rows, columns = (
            slice(
                max(part.start // stride * stride - halo, 0),
                min(_round_up(part.stop, stride) + halo, length),
            )
            for part, length in zip(core, shape, strict=True)
        )
        return cls(core, (rows, columns))

    def core_of(self, stride: int) -> tuple[slice, slice]:
        """The rows and columns of the core in a map of the field, `stride` px per position."""
        rows, columns = (
            slice((core.start - field.start) // stride, (core.stop - field.start) // stride)
            for core, field in zip(self.core, self.field, strict=True)
        )
        return rows, columns

    def crop(self, features: Tensor, stride: int) -> Tensor:
        """Features (N, C, h, w) of the field, `stride` px per position -> of the core."""
        return features[(..., *self.core_of(stride))]


def tiles_of(shape: Sequence[int], side: int, halo: int) -> list[Tile]:
    """Tiles of `side` px, smaller at the far edges, that cover (H, W) row by row, each with its
    halo.
    """

    height, width = (
        [slice(start, min(start + side, length)) for start in range(0, length, side)]
        for length in shape
    )
    return [Tile.around((rows, columns), halo, 1, shape) for rows in height for columns in width]


def check_side(side: int, reach: Reach) -> int:
    """The side of a tile, rounded down to a multiple of the stride.

    Raises TilingError if it is no whole number, or less than the halo.
    """
    if not isinstance(side, int):
        raise TilingError(f"the side of a tile is {side!r}, wanted a whole number of pixels.")
    least = max(reach.halo, reach.stride)
    if side < least:
        raise TilingError(
            f"a tile of {side} px is too small: each pixel of the result depends on {reach.halo} px around it, so "
            f"{least} px is the least."
        )
    return side - side % reach.stride


def run_tiles(
    model: nn.Module,
    read: Read,
    write: Write,
    shape: Sequence[int],
    *,
    side: int | None = None,
    exact: bool = True,
    halo: int | None = None,
    flips: Flips = 1,
    group: ProcessGroup | None = None,
    progress: TileProgress | None = None,
) -> None:
    """Run a network over an image tile by tile, in the memory of one tile.

    Args:
        model: a network (N, 1, H, W) -> (N, 1, H, W); it is left in evaluation mode.
        read, write: the image, and where the result goes. Regions written do not overlap and cover
            the image.
        shape: (H, W). If they are no multiples of the network's stride, the last row and column are
            repeated.
        side: of a tile, px. None, or a side of at least the image's, takes the image at once.
        exact: attend to the whole image; False is the usual way, in which each tile attends to
            itself.
        halo: px around a tile that the network is given in the last pass and whose result is
            dropped; by default as many as exactness needs.
        flips: the result is the mean of those for so many flips of the image (`flips.Flips`). It
            takes as many
            times the time, and the memory of one.
        group: the processes that share the tiles; each writes its own.
        progress: told after every tile.

    Raises TilingError: see `reach_of` and `check_side`; or if the processes were not given the same
    tiles. Raises ResultError if the network makes values that are not finite.
    """
    images = flips_of(flips)
    height, width = shape
    whole = side is None or side >= max(shape)
    reach = Reach(0, 1, ()) if whole else reach_of(model)
    padded = _round_up(height, reach.stride), _round_up(width, reach.stride)
    side = max(padded) if side is None or whole else check_side(side, reach)
    _agree(group, side, height, width)
    halo = reach.halo if halo is None else _round_up(halo, reach.stride)
    rank, ranks = (group.rank(), group.size()) if group is not None else (0, 1)
    parameter = next(model.parameters())

    def field_of(tile: Tile, flip: Flip) -> Tensor:
        """The field of a tile of the flipped image."""
        rows, columns = (
            slice(part.start, min(part.stop, n)) for part, n in zip(tile.field, shape, strict=True)
        )
        region = flip.of(read(*flip.place((rows, columns), shape)))
        missing = [
            (0, part.stop - part.start - n)
            for part, n in zip(tile.field, region.shape, strict=True)
        ]
        if any(after for _, after in missing):
            region = np.pad(region, missing, mode="edge")
        # a copy: a flipped view has negative strides, even where it counts as contiguous
        return torch.from_numpy(region.copy())[None, None].to(parameter.device, parameter.dtype)

    tiles = tiles_of(padded, side, halo)
    blocks = reach.blocks if exact and len(tiles) > 1 else ()
    passes = [tiles_of(padded, side, attention.halo)[rank::ranks] for attention in blocks]
    last = tiles[rank::ranks]
    total, done = len(images) * sum(map(len, passes)) + len(last), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    def sums_of(flip: Flip) -> list[Any]:
        """The keys of each block in the flipped image, from one pass for each; they are left in the
        blocks.
        """
        for attention, mine in zip(blocks, passes, strict=True):
            block = attention.block
            # a process without tiles adds the sum over no positions of any tile
            first = tiles_of(padded, side, attention.halo)[0]
            keys: Any = None
            with agreeing(group):
                if not mine:
                    keys = _wide(
                        block.summarize(_features_at(model, block, field_of(first, flip)), EMPTY)
                    )
                for tile in mine:
                    features = _features_at(model, block, field_of(tile, flip))
                    summary = _wide(block.summarize(features, tile.core_of(attention.stride)))
                    keys = summary if keys is None else keys + summary
                    step()
            block.keys = keys if group is None else keys.all_reduce(group)
        return [attention.block.keys for attention in blocks]

    def result_of(core: Region, flip: Flip) -> NDArray:
        """The result for a region, from the flipped image."""
        tile = Tile.around(flip.place(core, shape), halo, reach.stride, padded)
        result = tile.crop(model(field_of(tile, flip)), 1)[0, 0]
        if not torch.isfinite(result).all():
            raise ResultError(
                "the model makes NaN or infinite values of this image, so there is no result."
            )
        return flip.of(result.to(torch.promote_types(result.dtype, torch.float32)).cpu().numpy())

    model.eval()
    with torch.inference_mode():
        keys = []
        for flip in images:
            with _attending_to_themselves(blocks):
                keys.append(sums_of(flip))
        with agreeing(group), _attending_to_themselves(blocks):
            for tile in last:
                rows, columns = (
                    slice(part.start, min(part.stop, n))
                    for part, n in zip(tile.core, shape, strict=True)
                )
                mean: Any = 0
                for flip, own in zip(images, keys, strict=True):
                    for attention, sums in zip(blocks, own, strict=True):
                        attention.block.keys = sums
                    mean = mean + result_of((rows, columns), flip) / len(images)
                write(rows, columns, mean)
                step()


EMPTY = slice(0), slice(0)
"""The rows and columns of no position."""


def _wide(summary: Any) -> Any:
    """A dataclass of tensors in float64, so that the sum over many tiles keeps its digits."""
    return replace(
        summary, **{part.name: getattr(summary, part.name).double() for part in fields(summary)}
    )


def _agree(group: ProcessGroup | None, *numbers: int) -> None:
    """Raise TilingError unless all processes have the same numbers: other tiles would leave gaps
    between them.
    """
    if group is None:
        return
    device = "cuda" if torch.distributed.get_backend(group) == "nccl" else "cpu"
    extremes = torch.tensor([*numbers, *(-number for number in numbers)], device=device)
    torch.distributed.all_reduce(extremes, torch.distributed.ReduceOp.MAX, group=group)
    if extremes.tolist() != [*numbers, *(-number for number in numbers)]:
        raise TilingError("the processes of this run were given different tiles or images.")


@contextmanager
def _attending_to_themselves(blocks: Sequence[Attention]) -> Iterator[None]:
    """After it, the blocks attend to their own images again, whatever keys they were given within
    it.
    """
    try:
        yield
    finally:
        for attention in blocks:
            attention.block.keys = None


class _ReachedError(Exception):
    """Ends a forward pass at the block whose input is wanted."""

    def __init__(self, features: Tensor) -> None:
        self.features = features


def _features_at(model: nn.Module, block: Any, image: Tensor) -> Tensor:
    """The input of `block` when the network runs on `image`."""

    def stop(_block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _ReachedError(inputs[0])

    hook = block.register_forward_pre_hook(stop)
    try:
        model(image)
    except _ReachedError as reached:
        return reached.features
    finally:
        hook.remove()
    raise TilingError(
        "an attention block ran once and then not again: this network has no fixed course."
    )
