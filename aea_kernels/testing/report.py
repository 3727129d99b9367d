"""Which layer of a network breaks which symmetry, and by how much: a table, a JSON file, a plot."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.figures import name_rows, new_figure, shortened
from ..core.tables import html_table, table
from .acts import Said, image, invariant
from .checks import groups_in, require_module, sides_in
from .errors import Difference, Verdict, dtype_name
from .layers import layer_errors
from .results import ElementError, Errors, Layer, show
from .sizes import Sizes, legal_sizes
from .symmetry import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1
SMALLEST_DRAWN = 1e-17
"""An error of 0 has no place on a logarithmic axis and is drawn here, below every rounding error.
"""


@dataclass(frozen=True)
class Report:
    """The symmetries of a network, layer by layer; `str` gives the tables, which a notebook shows.

    Attributes:
        model: the network's class.
        training: whether it was in training mode.
        shape, dtype: of the input.
        layers: by the name of the group, in the order in which the layers are called.
        sizes: what the search for legal image sizes found, by the name of the group.
    """

    model: str
    training: bool
    shape: tuple[int, ...]
    dtype: torch.dtype
    layers: dict[str, list[Layer]]
    sizes: dict[str, Sizes] = field(default_factory=dict)

    def culprits(self, group: Group | str) -> list[Layer]:
        """The layers that break the symmetry by themselves."""
        return [layer for layer in self._of(group) if layer.own.verdict.fails]

    def layer(self, group: Group | str, layer: str) -> Layer:
        """A layer by its name. Raises KeyError."""
        return {found.name: found for found in self._of(group)}[layer]

    def __str__(self) -> str:
        parts = [self._title()]
        for group, layers in self.layers.items():
            parts.append(f"{group}\n{table([_HEAD, *map(_row, layers)])}")
            faults = [f"  {layer.title}: {layer.cause}" for layer in self.culprits(group)]
            if faults:
                parts.append("\n".join(["layers that break it by themselves:", *faults]))
            else:
                parts.append("no layer breaks it by itself")
            if group in self.sizes:
                parts.append(str(self.sizes[group]))
        return "\n\n".join(parts)

    def _title(self) -> str:
        mode = "training" if self.training else "evaluation"
        shape = "x".join(map(str, self.shape))
        return f"{self.model} on {dtype_name(self.dtype)} {shape}, {mode} mode"

    def against(self, before: Report) -> str:
        """A table of each layer's own and accumulated error before and after, say, a training."""
        # a layer keeps its name through a training
        head = ["layer", "own before", "own after", "accumulated before", "after", "own error is"]
        parts = []
        for group, layers in self.layers.items():
            layers_before = {layer.name: layer for layer in before.layers.get(group, [])}
            rows = [head]
            for layer in layers:
                old = layers_before.get(layer.name)
                own, accumulated = getattr(old, "own", None), getattr(old, "accumulated", None)

                # "rounding, now broken", where the training changed it
                verdict = str(layer.own.verdict)
                if own is not None and own.verdict != verdict:
                    verdict = f"{own.verdict}, now {verdict}"
                pairs = (own, layer.own, accumulated, layer.accumulated)
                rows.append([layer.name or "(network)", *map(_decisive, pairs), verdict])
            parts.append(f"{group}\n{table(rows)}")
        return "\n\n".join(parts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON, which `load` reads."""
        Path(path).write_text(
            json.dumps(self.to_dict(), indent=1, allow_nan=False), encoding="utf-8"
        )

    def to_dict(self) -> dict[str, Any]:
        """Numbers and strings only; None for what is infinite or not a number."""
        # keys are strings in JSON, sizes too
        groups = {group: [*map(_layer_to_dict, found)] for group, found in self.layers.items()}
        sizes = {
            group: {str(size): verdict.value for size, verdict in found.verdicts.items()}
            for group, found in self.sizes.items()
        }

        return {
            "format": FORMAT,
            "torch": torch.__version__,
            "model": self.model,
            "training": self.training,
            "shape": list(self.shape),
            "dtype": dtype_name(self.dtype),
            "groups": groups,
            "sizes": sizes,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """The report in a file of `save`. Raises ValueError where it is none."""
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            if saved["format"] != FORMAT:
                raise ValueError(f"format {saved['format']}, expected {FORMAT}")
            dtype, shape = getattr(torch, saved["dtype"]), tuple(saved["shape"])

            # sizes are strings in JSON, whose keys cannot be numbers
            layers, sizes = {}, {}
            for group, rows in saved["groups"].items():
                layers[group] = [_layer_from_dict(row, group, dtype) for row in rows]
            for group, found in saved["sizes"].items():
                sizes[group] = Sizes(group, {int(s): Verdict(v) for s, v in found.items()})
            return cls(saved["model"], saved["training"], shape, dtype, layers, sizes)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is no report of equivariance_report: {error}") from error

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self._title())}</p>"]
        for group, layers in self.layers.items():
            parts.append(html_table([_row(layer) for layer in layers], _HEAD, group))
            faults = [(layer.title, layer.cause) for layer in self.culprits(group)]
            if faults:
                head = ("layers that break it by themselves", "likely cause")
                parts.append(html_table(faults, head))
            if group in self.sizes:
                parts.append(f"<pre>{escape(str(self.sizes[group]))}</pre>")
        return "\n".join(parts)

    def plot(self) -> Figure:
        """Error in float64 of each layer, one panel a group: dots are a layer's own error, the line
        has accumulated.

        Raises:
            ImportError: matplotlib is not installed.
        """
        # as wide as the longest name and the panels need
        names = [[layer.name or "(network)" for layer in found] for found in self.layers.values()]
        longest = max(len(shortened(name)) for found in names for name in found)
        figure = new_figure(0.5 + 0.06 * longest + 2.6 * len(names), max(map(len, names)))
        panels = figure.subplots(1, len(names), sharex=True, squeeze=False)[0]

        # a row for each layer; its own error is a dot, as it does not follow from the one before
        for axes, found, (group, layers) in zip(panels, names, self.layers.items(), strict=True):
            places = range(len(layers))
            accumulated = [_drawn(layer.accumulated) for layer in layers]
            axes.plot(accumulated, places, color="0.4", label="accumulated")
            own = [_drawn(layer.own) for layer in layers]
            axes.plot(own, places, "o", markersize=4, label="own")
            axes.set_xscale("log")
            axes.set_xlabel("relative error")
            axes.set_title(group, fontsize="small", wrap=True)
            axes.grid(alpha=0.3)
            name_rows(axes, found)
            # names once, where all panels have the same
            axes.tick_params(labelleft=axes is panels[0] or found != names[0])
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return figure

    def _of(self, group: Group | str) -> list[Layer]:
        return self.layers[group if isinstance(group, str) else group.name]


_HEAD = [
    "layer",
    "class",
    "output",
    "own",
    "own f64",
    "own error is",
    "accum.",
    "accum. f64",
    "dB",
    "accumulated is",
]


def equivariance_report(
    model: nn.Module,
    x: Tensor,
    groups: Group | Sequence[Group],
    *,
    acts: Said = None,
    sizes: Iterable[int] = (),
    seed: int = 0,
) -> Report:
    """Measure every layer under every group, in the dtype of x and in float64, in the mode that the
    model is in.

    A layer's own error is that of the layer fed the transformed version of its untransformed input;
    the accumulated error is that of its output in a run on the transformed image. Decibels are of
    the accumulated error, in float64. For a comparison before and after a training, keep the report
    from before: ``print(after.against(before))``.

    Args:
        model: any network that maps x to a tensor, or to a tuple, list, dictionary or dataclass of
            tensors; it is measured on copies.
        x: (N, C, *spatial), floating point.
        groups: see `groups`; of each, its `generators` are applied: one shift, one permutation, or
            the rotations and flips that make up all others.
        acts: how input and output transform, see `equivariance_error`; what is not said is tried.
        sizes: sides of images to search for those at which the geometry allows the symmetry, see
            `legal_sizes`.
        seed: of the elements drawn at random.

    Raises:
        UnmeasurableError: the model is not deterministic, fails, or returns no tensor; or no
            element of a group changes x, and no layer breaks its symmetry.
        ValueError: model is no module, x no feature map, a group none or without an element for
            the shape of x, or `acts` names what is no output.
    """
    require_module(model)
    groups, sizes = groups_in(groups), sides_in(sizes)
    measured = layer_errors(model, x, groups, acts=acts, seed=seed)
    layers = {group.name: found for group, found in zip(groups, measured, strict=True)}
    searched = (
        {group.name: legal_sizes(model, x, group, sizes) for group in groups} if sizes else {}
    )
    return Report(type(model).__name__, model.training, tuple(x.shape), x.dtype, layers, searched)


def _row(layer: Layer) -> list[str]:
    # decibels are infinite where nothing differs, or nothing was measured: an empty cell
    own, accumulated = layer.own.worst, layer.accumulated.worst
    decibels = math.inf if accumulated.decisive is None else accumulated.decisive.decibels
    return [
        layer.name or "(network)",
        layer.kind,
        "x".join(map(str, layer.shape)) + _transforming(layer),
        show(own.working),
        show(own.double),
        own.verdict,
        show(accumulated.working),
        show(accumulated.double),
        "" if math.isinf(decibels) else f"{decibels:.0f}",
        accumulated.verdict,
    ]


def _transforming(layer: Layer) -> str:
    """How its output transforms, where it is neither an image nor invariant, or there are
    several.
    """
    acts = layer.own.acts
    if len(acts) < 2:
        named = [act for act in acts.values() if act not in (image.name, invariant.name)]
    else:
        named = [f"{place}: {act}" for place, act in acts.items()]
    return " " + ", ".join(named) if named else ""


def _decisive(errors: Errors | None) -> str:
    return "" if errors is None else show(errors.worst.decisive) or str(errors.verdict)


def _drawn(errors: Errors) -> float:
    return math.nan if math.isnan(errors.error) else max(errors.error, SMALLEST_DRAWN)


# ---- JSON, which has no infinity and nothing that is not a number --------------------------------


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "class": layer.kind,
        "shape": list(layer.shape),
        "cause": layer.cause,
        "eps": layer.own.eps,
        "acts": layer.own.acts,
        "own": [_error_to_dict(e) for e in layer.own.elements],
        "accumulated": [_error_to_dict(e) for e in layer.accumulated.elements],
    }


def _layer_from_dict(saved: dict[str, Any], group: str, dtype: torch.dtype) -> Layer:
    own, accumulated = (
        Errors(
            group,
            dtype,
            saved["eps"],
            tuple(_error_from_dict(e) for e in saved[kind]),
            saved.get("acts", {}),
        )
        for kind in ("own", "accumulated")
    )
    shape = tuple(saved["shape"])
    return Layer(saved["name"], saved["class"], shape, own, accumulated, saved["cause"])


def _error_to_dict(error: ElementError) -> dict[str, Any]:
    return {
        "element": error.element,
        "working": _difference_to_dict(error.working),
        "float64": _difference_to_dict(error.double),
        "verdict": error.verdict.value,
        "reason": error.reason,
    }


def _error_from_dict(saved: dict[str, Any]) -> ElementError:
    working, double = (_difference_from_dict(saved[name]) for name in ("working", "float64"))
    verdict = Verdict(saved["verdict"])
    return ElementError(saved["element"], working, double, verdict, saved["reason"])


def _difference_to_dict(d: Difference | None) -> dict[str, Any] | None:
    if d is None:
        return None
    values = asdict(d).items()
    return {name: None if v is None or not math.isfinite(v) else v for name, v in values}


def _difference_from_dict(saved: dict[str, Any] | None) -> Difference | None:
    if saved is None:
        return None
    relative, decibels = saved["relative"], saved["decibels"]
    if decibels is None:
        decibels = math.inf if relative == 0 else math.nan
    relative = math.nan if relative is None else relative
    return Difference(relative, decibels, saved["at_border"], saved.get("floor"))
