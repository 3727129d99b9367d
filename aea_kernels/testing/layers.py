"""The equivariance error layer by layer: each layer's own contribution, and what has accumulated up
to it.

Own: the layer is fed the transformed version of its untransformed input, ``layer(g x)`` against
``g layer(x)``, without what the layers that it calls do; see `isolated`. Accumulated: the layer's
output in a run of the whole network on the transformed image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .acts import Said, input_frame, said
from .network import Network
from .results import Layer
from .symmetry import Group


def layer_errors(
    model: nn.Module, x: Tensor, groups: Sequence[Group], *, acts: Said = None, seed: int = 0
) -> list[list[Layer]]:
    """For each group, what every layer does, in the order in which the layers are called.

    Args:
        model: any network that maps x to tensors, in the mode it is in; it is measured on copies.
        x: (N, C, *spatial), floating point.
        groups: see `groups`; of each, its `generators` are applied.
        acts: how input and output transform, see `equivariance_error`. What is not said is tried,
            as that of the tensors within is.
        seed: of the elements drawn at random.

    Raises:
        UnmeasurableError: the model is not deterministic, or fails; or no layer breaks a symmetry
            and no element changes x, which shows nothing.
        ValueError: x is no feature map, or a group has no element for its shape.
    """
    # of each group a few elements, drawn once for all layers
    inputs, outputs = said(acts)
    given, frame = input_frame(x, inputs.get(""))
    shape = (*given.map(x)[0].shape[:2], *frame.spatial)
    drawn = {
        place: group.generators(shape, torch.Generator().manual_seed(seed))
        for place, group in enumerate(groups)
    }

    # a group that interpolates sees a smooth image
    together = [place for place, group in enumerate(groups) if group.prepared(x) is x]
    alone = [[place] for place in drawn if place not in together]
    found: dict[int, list[Layer]] = {}
    devices = range(torch.cuda.device_count()) if x.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        for places in [*([together] if together else []), *alone]:
            those = [(groups[place], drawn[place]) for place in places]
            image = groups[places[0]].prepared(x)
            every = [*inputs.values(), *outputs.values()]
            network = Network(model, image, given, frame, every, outputs, those)
            found |= dict(zip(places, network.layers(), strict=True))
    return [found[place] for place in range(len(groups))]


def first_fault(model: nn.Module, x: Tensor, group: Group, acts: Said = None) -> str:
    """The first layer that breaks the symmetry by itself and why, in words; "" where none does or
    none can be found.
    """
    try:
        layers = layer_errors(model, x, [group], acts=acts)[0]
    except ValueError:
        return ""
    for layer in layers:
        if layer.own.verdict.fails:
            return f"{'the layer ' if layer.name else ''}{layer.title}: {layer.cause}"
    return ""
