"""At which image sizes the geometry of a network allows a symmetry: its strides, padding and crops,
not its weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .axis_groups import AxisGroup
from .checks import require_group, require_module, sides_in
from .errors import Verdict
from .measure import equivariance_error
from .precision import call_in_float64, copied
from .symmetry import Element, Group

LONGEST_PERIOD = 64


@dataclass(frozen=True)
class Sizes:
    """The verdict at each size that was tried, "not measured" where the network does not take it.

    Attributes:
        group: its name.
        verdicts: by the side of a square or cubic image.
    """

    group: str
    verdicts: dict[int, Verdict]

    @property
    def legal(self) -> list[int]:
        """The sizes at which the symmetry holds."""
        return [size for size, verdict in self.verdicts.items() if verdict.holds]

    @property
    def rule(self) -> str:
        """The legal sizes as "4 k + 1", where they are all tried sizes of one remainder, at least
        two; else "".
        """
        legal = set(self.legal)
        for period in range(1, LONGEST_PERIOD if len(legal) > 1 else 0):
            rest = min(legal) % period
            if legal == {size for size in self.verdicts if size % period == rest}:
                return f"{period} k + {rest}" if rest else f"{period} k"
        return ""

    def __str__(self) -> str:
        if not self.verdicts:
            return f"{self.group}: no size was tried"
        tried = (
            f"of the {len(self.verdicts)} sizes from {min(self.verdicts)} to {max(self.verdicts)}"
        )
        if not self.legal:
            return f"{self.group}: none {tried} is legal"
        if len(self.legal) == len(self.verdicts):
            return f"{self.group}: every one {tried} is legal"
        if self.rule:
            return f"{self.group}: the legal sizes are {self.rule}, {tried}"
        return f"{self.group}: the legal sizes are {', '.join(str(s) for s in self.legal)}, {tried}"


def legal_sizes(
    model: nn.Module, x: Tensor, group: Group, sizes: Iterable[int], *, average: bool = True
) -> Sizes:
    """Try the symmetry at every size.

    Args:
        model: a network; it is measured on copies.
        x: (N, C, *spatial), of which images, channels, axes and dtype are taken; values are drawn.
        group: see `groups`.
        sizes: sides of a square or cubic image.
        average: average the kernels over the group first (`averaged_kernels`), so that the geometry
            alone decides. A convolution with any other kernel breaks rotations and flips at every
            size.

    Raises:
        ValueError: model is no module, group is no group, or sizes are no sides.
    """
    # in float64 where the network takes it: there rounding is far below any broken symmetry
    require_module(model)
    require_group(group)
    sizes = sides_in(sizes)
    fixed = averaged_kernels(model, group) if average else model
    takes_float64 = call_in_float64(copied(fixed, torch.float64), x.to(torch.float64)) is not None
    dtype = torch.float64 if takes_float64 else x.dtype
    fixed = copy.deepcopy(fixed).to(dtype)

    verdicts = {}
    for size in sizes:
        # the same image at the same size, on every device
        shape = (*x.shape[:2], *[size] * (x.dim() - 2))
        generator = torch.Generator().manual_seed(size)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")

        # a size that the network does not take is no fault
        try:
            verdicts[size] = equivariance_error(fixed, drawn.to(x.device, dtype), group).verdict
        except ValueError:
            verdicts[size] = Verdict.UNMEASURED
    return Sizes(group.name, verdicts)


def averaged_kernels(model: nn.Module, group: Group) -> nn.Module:
    """A copy with convolution kernels averaged over a group of rotations and flips, so that these
    are symmetric.

    What breaks the symmetry of the copy is not the weights. Other groups, which do not act on
    kernels, change nothing.
    """
    twin = copy.deepcopy(model)
    convolutions = [m for m in twin.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    for module in convolutions if isinstance(group, AxisGroup) else ():
        weight = module.weight
        try:
            elements = group.elements(weight.shape, torch.Generator())
        except ValueError:
            continue

        def everywhere(kernel: Tensor, elements: list[Element] = elements) -> Tensor:
            moved = [e.act(kernel, ()) for e in elements]
            return torch.stack([kernel, *(m for m in moved if m.shape == kernel.shape)])

        with torch.no_grad():
            mean = everywhere(weight).mean(dim=0)
            # equal but for rounding; the largest of them makes them equal to the last bit
            weight.copy_(everywhere(mean).amax(dim=0))
    return twin
