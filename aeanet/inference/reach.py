"""How far a network looks: the pixels around a pixel on which its result depends.

A convolution depends on its neighbourhood only. Attention depends on the whole image, but only
through a sum over its positions (`aea_kernels.Moments`). `reach_of` finds both by running the
network once. Attention blocks are `aea_kernels.AugmentedAttention`, what `aea_kernels.convert`
replaces in networks of other people, and every other `GlobalBlock`.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from aea_kernels.conversion import is_known_attention
from aeanet.errors import UserError

PROBE = 64  # px, side of the image that the network runs on; its strides must divide it

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
WINDOWED = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d)

INSIDE_BLOCKS = (nn.Conv2d, nn.Linear, nn.MaxPool2d)
"""Layers of an attention block for which the block answers by its `reach` and `step`."""


class TilingError(UserError):
    """A network that has no exact tiles, or a tile that is too small."""


class GlobalBlock(Protocol):
    """A module (N, C, h, w) -> (N, C', h, w) whose result at a position depends on the positions
    around it, and on all positions of its input through a sum.

    It may also have these attributes:

    - `reach`: how many positions in each direction count as around it; 0 if it is missing;
    - `step`: how many positions in each direction are pooled to one key; 1 if it is missing. 0
      says that the windows of the pooling overlap.
    """

    keys: Any
    """None, or the sum that takes the place of the input's in prediction."""

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> Any:
        """The sum over the positions of x, or over the rows and columns `core` of it: a dataclass
        of tensors with `+` and `all_reduce(group)`. In prediction; no derivatives are needed.
        """


def is_global_block(module: nn.Module) -> bool:
    """Whether the module has `summarize` and `keys`."""
    return callable(getattr(module, "summarize", None)) and hasattr(module, "keys")


@dataclass(frozen=True)
class Attention:
    """An attention block of a network.

    Attributes:
        block: a `GlobalBlock`.
        stride: pixels per position of its input, in each direction.
        halo: px around a tile that the sum over the tile depends on.
    """

    block: Any
    stride: int
    halo: int


@dataclass(frozen=True)
class Reach:
    """What the result of a network depends on, besides the sums of its attention blocks.

    Attributes:
        halo: px in each direction.
        stride: pixels that one position of the coarsest level stands for, in each direction.
        blocks: the attention blocks, in the order in which they run.
    """

    halo: int
    stride: int
    blocks: tuple[Attention, ...]


def reach_of(model: nn.Module) -> Reach:
    """The reach of a network (N, 1, H, W) -> (N, 1, H, W): the sum over its layers.

    The reach of a layer follows from its kernel, stride, padding and dilation; the pixels per
    position follow from the size of its result. A layer of another kind can state its reach in an
    attribute `reach`, in positions of its input. For parallel branches the sum is an upper bound.
    Only modules are seen: a function in `forward` that depends on the whole image, such as a mean
    over it, is not.

    Args:
        model: the network; it is left in evaluation mode.

    Raises:
        TilingError: for a layer of unknown reach or one that depends on the whole image, and for
            attention that runs twice or has not been converted.
    """
    meter = _Meter()
    parameter = next(model.parameters())
    image = torch.zeros(1, 1, PROBE, PROBE, dtype=parameter.dtype, device=parameter.device)
    hooks = _observe(model, meter)
    try:
        # a compiled network would not run the hooks of its layers
        with torch.inference_mode(), uncompiled():
            model.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
    return Reach(round_up(meter.halo, meter.stride), meter.stride, tuple(meter.blocks))


def uncompiled() -> AbstractContextManager[Any]:
    """Within it, what was compiled runs uncompiled. To ask for that imports `torch._dynamo`, which
    takes seconds; where it is not imported, nothing was compiled.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def _observe(model: nn.Module, meter: "_Meter") -> list[RemovableHandle]:
    """Hooks that give the meter every layer outside attention blocks, and check the parts of those
    blocks.
    """
    # a block counts as a whole, by what it states; its parts are only checked
    blocks = [module for module in model.modules() if is_global_block(module)]
    inside = {part for block in blocks for part in block.modules() if part is not block}
    outside = [module for module in model.modules() if module not in inside]

    # without a sum that tiles can add up, attention is that of the tile alone
    for module in outside:
        if is_known_attention(module) and not is_global_block(module):
            raise TilingError(
                f"{type(module).__name__} attends to the whole image and is not converted "
                "(aea.convert)."
            )

    # what holds other modules does not count itself: its leaves do, and blocks as a whole
    hooks = []
    for module in outside:
        if is_global_block(module) or isinstance(module, POINTWISE) or not list(module.children()):
            hooks.append(module.register_forward_hook(meter.add))
    for part in inside:
        if not list(part.children()) and not isinstance(part, INSIDE_BLOCKS):
            hooks.append(part.register_forward_hook(_check_local))
    return hooks


class _Meter:
    """Adds up the reach of a network while its layers run.

    Attributes:
        halo, stride, blocks: as in `Reach`, of the layers that have run.
    """

    def __init__(self) -> None:
        self.halo = 0
        self.stride = 1
        self.blocks: list[Attention] = []

    def add(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """The forward hook of a layer."""
        stride_before = _stride_of(inputs[0])
        stride_after = _stride_of(output)
        if is_global_block(layer):
            self._add_block(layer, stride_before)
        # The kernel of a transposed convolution counts positions of its output.
        stride = stride_after if isinstance(layer, nn.ConvTranspose2d) else stride_before
        self.halo += _reach_in_positions(layer) * stride
        self.stride = max(self.stride, stride_before, stride_after)

    def _add_block(self, block: nn.Module, stride: int) -> None:
        if any(attention.block is block for attention in self.blocks):
            raise TilingError(
                "an attention block runs twice in this network, so there are no exact tiles for it."
            )
        step = getattr(block, "step", 1)
        if step == 0 or PROBE % (stride * step):
            raise TilingError(
                f"the keys of {type(block).__name__} are pooled in windows that no tiles fit."
            )
        self.stride = max(self.stride, stride * step)
        halo = self.halo + _reach_in_positions(block) * stride
        self.blocks.append(Attention(block, stride, round_up(halo, self.stride)))


def _stride_of(features: Tensor) -> int:
    """Pixels per position of a map (N, C, h, w) of the probe, in each direction."""
    return -(-PROBE // int(features.shape[-2]))


def _check_local(part: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
    """The forward hook of a part of an attention block, which may work on maps (N, C, h, w) or
    (N, h, w, C).

    Raises:
        TilingError: unless the result at all other positions stays when the input changes at one.
    """
    # The part may ignore where the channels are: it is local if it is so for either order.
    x = inputs[0]
    channels_first = (0, slice(None), 0, 0)
    channels_last = (0, 0, 0, slice(None))

    # changed at one position, the result may change there and nowhere else
    for position in (channels_first, channels_last) if x.dim() == 4 else ():
        before = torch.rand_like(x)
        after = before.clone()
        after[position] += 100
        change = part.forward(after) - part.forward(before)
        if change.shape == x.shape:
            change[position] = 0
            if change.abs().max() < 1e-4:
                return
    raise TilingError(
        f"{type(part).__name__} in an attention block depends on more than one position at a time."
    )


def _reach_in_positions(layer: nn.Module) -> int:
    """The reach of a layer in positions of its input; for a transposed convolution, of its output.

    Raises:
        TilingError: if it is not known.
    """
    # what a layer states counts before what its type says
    stated = getattr(layer, "reach", None)
    if isinstance(stated, int):
        return stated

    # With circular padding a layer depends on the other end of the image.
    wraps = getattr(layer, "padding_mode", "zeros") == "circular"
    if isinstance(layer, WINDOWED) and not wraps:
        return _reach_of_window(layer)
    if isinstance(layer, nn.Upsample) and not layer.align_corners:
        return {"nearest": 1, "nearest-exact": 1, "bilinear": 1, "bicubic": 2}[layer.mode]

    # Without running statistics, BN depends on the mean of the image.
    over_image = isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None
    local = isinstance(layer, (*POINTWISE, nn.Sequential)) or is_global_block(layer)
    if local and not over_image:
        return 0
    raise TilingError(
        f"it is not known how far the layer {layer} looks, so there are no exact tiles for this "
        "network, only whole images."
    )


def _reach_of_window(layer: nn.Module) -> int:
    """The reach of a convolution or a pooling: that of the axis in which it is larger."""
    names = ("kernel_size", "padding", "dilation")
    kernel, padding, dilation = (_pair(getattr(layer, name, 1)) for name in names)
    axes = zip(kernel, padding, dilation, strict=True)
    return max(max(d * (k - 1) - p, p) for k, p, d in axes)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        # "valid" is 0; with "same" the reach follows from the kernel alone
        return 0, 0
    return (value, value) if isinstance(value, int) else tuple(value)


def round_up(number: int, step: int) -> int:
    """The least multiple of `step` that is at least `number`."""
    return -(-number // step) * step
