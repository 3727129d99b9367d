"""Checkpoints of a block from before its conversion to `AugmentedAttention`, whose parameters have
other names.

The conversion takes the parameters over by the same description, so that both give the same
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .replacing import LeftAloneError


@dataclass(frozen=True)
class Rows:
    """The rows of one layer of the original that a layer of the block takes.

    The layer's rows are `groups` times `parts` equal parts; of each group it is the part number
    `part`.
    """

    layer: str
    part: int = 0
    parts: int = 1
    groups: int = 1

    def of(self, parameter: Tensor) -> Tensor:
        """(groups * parts * n, in, 1, ...) -> (groups * n, in), or without the other axes, as of a
        bias.
        """
        rows = parameter.flatten(1) if parameter.dim() > 1 else parameter
        return rows.unflatten(0, (self.groups, self.parts, -1))[:, self.part].flatten(0, 1)


Sources = dict[str, Rows | None]
"""What each layer of the block takes; `output` may be None, which is the identity of the values."""


@dataclass(frozen=True)
class Origin:
    """Which of the original's parameters the block takes: called as a pre-hook of
    `load_state_dict`.

    It translates where all parameters that the block takes have their original names; what else the
    original had in its checkpoint is dropped. Other checkpoints stay as they are, so PyTorch
    reports the names that they lack.

    Attributes:
        sources: what each layer of the block takes.
        shapes: of the original's parameters that the block takes, by name.
        names: all of the original's checkpoint.
        layers: of the block, by name; None in pickles of earlier versions.
    """

    sources: Sources
    shapes: dict[str, tuple[int, ...]]
    names: tuple[str, ...]
    layers: dict[str, Any] | None = None

    def __call__(
        self,
        state: dict[str, Any],
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        # other names than the original's: no checkpoint from before the conversion
        if any(prefix + name not in state for name in self.shapes):
            return

        # none of the original's names may stay, or PyTorch reports it as unexpected
        parameters = {name: state[prefix + name] for name in self.shapes}
        for name in self.names:
            state.pop(prefix + name, None)

        # what does not fit changes nothing: the block is given its own parameters, which would
        # otherwise be reported as missing
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        fits = shapes == self.shapes
        given = self.translated(parameters) if fits else nn.ModuleDict(self.layers).state_dict()
        state.update({prefix + name: parameter for name, parameter in given.items()})

        # sizes that differ are told by the original's names, which the block no longer has
        errors += [
            f"size mismatch for {prefix}{name}: it is {shape} in the checkpoint, but was "
            f"{self.shapes[name]} in the network before its conversion."
            for name, shape in shapes.items()
            if shape != self.shapes[name]
        ]

    @torch.no_grad()
    def translated(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The original's parameters under the names of the block and in its shapes, copied.

        A bias that the original has not is zero.
        """
        found: dict[str, Tensor] = {}
        for layer, rows in self.sources.items():
            if rows is None:  # the identity
                value = found["value.weight"]
                weight, bias = torch.eye(len(value), dtype=value.dtype, device=value.device), None
            else:
                weight = rows.of(parameters[f"{rows.layer}.weight"])
                bias = parameters.get(f"{rows.layer}.bias")
                bias = None if bias is None else rows.of(bias)
            found[f"{layer}.weight"] = weight.clone()
            found[f"{layer}.bias"] = weight.new_zeros(len(weight)) if bias is None else bias.clone()
        return found


def origin_of(module: nn.Module, sources: Sources) -> tuple[Origin, dict[str, Tensor]]:
    """What a block takes from this module, and those parameters.

    Raises:
        LeftAloneError: one of the layers is no linear layer, convolution or GroupNorm.
    """
    parameters = {}
    parts: dict[str, Any] = dict(module.named_modules(remove_duplicate=False))
    for layer in dict.fromkeys(rows.layer for rows in sources.values() if rows is not None):
        part = parts.get(layer)
        if not isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.GroupNorm):
            raise LeftAloneError(f"{type(part).__name__} is not a projection")
        parameters[f"{layer}.weight"] = part.weight.detach()
        if part.bias is not None:
            parameters[f"{layer}.bias"] = part.bias.detach()
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    names = tuple(dict.fromkeys([*parameters, *module.state_dict()]))
    return Origin(sources, shapes, names), parameters
