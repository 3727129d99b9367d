"""What converted blocks on feature maps share, whatever their kind of attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .replacing import Converted, as_map

Scale = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values of a map: (N, H, E, *spatial) each, or (N, H, positions, E)."""


class MapBlock(Converted):
    """A block on feature maps (N, C, *spatial), whose sums over positions also add over the tiles
    of an image.

    Some blocks project the map at several scales, each with heads of its own. They are read where
    they are: joined, the maps would be copied. A block defines these methods:

        projected(x) -> list[Scale]             queries, keys and values, (N, H, E, *spatial) each
        summary(query, key, value) -> keys      the summary of one scale, (N, H, positions, E) each
        attend(query, value, keys) -> attended  the result at one scale, (N, H, positions, D)
        finish(attended, x) -> result           what follows, from (N, H * D, *spatial)
    """

    def compute(self, x: Tensor) -> Tensor:
        scales = self._tokens(x)
        given = self.given_keys(scales[0][0])
        if given is None:
            keys = [self.summary(*scale) for scale in scales]
        else:
            keys = self.split(given, len(scales))

        attended = [
            as_map(self.attend(query, value, summary), x)
            for (query, _, value), summary in zip(scales, keys, strict=True)
        ]
        return self.finish(attended[0] if len(attended) == 1 else torch.cat(attended, 1), x)

    def summarize(self, x: Tensor, core: tuple[slice, slice] | None = None) -> Any:
        """The keys of x (N, C, *spatial), or of the rows and columns `core` of it: what adds over
        tiles.
        """
        return self.joined([self.summary(*scale) for scale in self._tokens(x, core)])

    def _tokens(self, x: Tensor, core: tuple[slice, slice] | None = None) -> list[Scale]:
        """Queries, keys and values of each scale, (N, H, positions, E), of x or its part `core`."""
        inside = (...,) if core is None else (..., *core)
        scales = []
        for query, key, value in self.projected(x):
            query, key, value = (part[inside].flatten(3).mT for part in (query, key, value))
            scales.append((query, key, value))
        return scales

    @property
    def reach(self) -> int:
        """How many positions in each direction its convolutions look.

        It is the sum over all convolutions without stride: of parallel ones an upper bound.
        """
        kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d
        convs = [part for part in self.modules() if isinstance(part, kinds)]
        return sum(conv.dilation[-1] * (conv.kernel_size[-1] - 1) // 2 for conv in convs)

    def joined(self, summaries: list[Any]) -> Any:
        """One summary for those of all scales."""
        (summary,) = summaries
        return summary

    def split(self, summary: Any, scales: int) -> list[Any]:
        """The summaries of which `joined` made one."""
        return [summary]
