"""What `aea.convert` did to each module, to print, to check and to take back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.figures import bars
from ..core.tables import html_table, table
from .comparing import deviation, in_mode, parameters_and_buffers, wide
from .recognising import TOLERANCE, Conversion
from .replacing import Become, Change

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a module."""
_HEAD = ("module", "class", "result", "why")
_COLOURS = {"exact": "#0072b2", "retrain": "#e69f00", "left alone": "#a0a0a0"}


class ConversionReport:
    """Every attention-like module of a network and what became of it. Prints as a table, which a
    notebook shows.

    Attributes:
        modules: a `Conversion` for each, in the order of the network.
    """

    def __init__(self, model: nn.Module, modules: list[Conversion]) -> None:
        self._model = model
        self.modules = tuple(modules)
        self._changes = [entry.change for entry in modules if entry.change is not None]
        self._active = False

    @property
    def replaced(self) -> tuple[Conversion, ...]:
        """The modules that were replaced, exact or to be trained again."""
        return tuple(entry for entry in self.modules if entry.change is not None)

    def __str__(self) -> str:
        note = self._note()
        if not self.modules:
            return note
        return table([_HEAD, *self._rows()]) + (f"\n{note}" if note else "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._rows(), _HEAD if self.modules else (), self._note())

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (entry.path or "(root)", entry.class_name, entry.result, entry.why)
            for entry in self.modules
        ]

    def _note(self) -> str:
        if not self.modules:
            return f"{type(self._model).__name__} has no module that looks like attention."
        if self.replaced and not self._active:
            return "All of this is reverted; apply() replaces the modules again."
        if any(isinstance(change, Become) for change in self._changes):
            return "Retrained modules have new parameters: make the optimiser after this."
        return ""

    def plot(self) -> Figure:
        """A bar for each module: how many parameters it has, in the colour of what became of it.

        Raises:
            ImportError: matplotlib is not installed.
        """
        numbers = [
            sum(parameter.numel() for parameter in entry.module.parameters())
            for entry in self.modules
        ]
        return bars(
            [row[0] for row in self._rows()],
            numbers,
            title=f"{type(self._model).__name__}: {len(self.replaced)} of {len(numbers)} replaced",
            label="parameters",
            kinds=[entry.result for entry in self.modules],
            colours=_COLOURS,
        )

    def apply(self) -> None:
        """Replace the modules again after `revert`."""
        if not self._active:
            for change in self._changes:
                change.apply()
            self._active = True

    def revert(self) -> None:
        """Give every module back what it was. Exact ones keep what was trained since; retrained
        ones lose it.
        """
        if self._active:
            for change in reversed(self._changes):
                change.revert()
            self._active = False

    def check(self, inputs: Any, *, tolerance: float = TOLERANCE) -> float:
        """Compare each exact replacement with its original, on what it is given when the network
        runs on `inputs`.

        Both compute in float64 on the CPU, with the weights that they have now, in prediction and
        in training, on copies of what they store. The network itself runs once, in prediction.
        Afterwards it is as it was, but for what its modules store in a call.

        Args:
            inputs: a tensor, a tuple of positional or a mapping of keyword arguments of the
                network.
            tolerance: on the largest deviation relative to the largest number of the original's
                result.

        Returns:
            The worst deviation.

        Raises:
            ValueError: a deviation beyond the tolerance (the message names the worst module), a
                replaced module that did not run, or nothing replaced exactly to check.
        """
        # those that are to be trained again have no results to agree with
        exact = {
            entry.path: entry.change
            for entry in self.replaced
            if entry.result == "exact" and entry.change is not None
        }
        if not self._active or not exact:
            raise ValueError(
                "no module of this network is replaced exactly now, so there is nothing to check"
            )

        # one run shows what each module is given; one that does not run would pass unchecked
        calls = self._calls(exact, inputs)
        for path in exact:
            if not calls[path]:
                raise ValueError(
                    f"{path or 'the network'} did not run on these inputs, so it was not checked"
                )

        # each against its original by itself, so errors of one do not reach the next
        deviations = {path: _deviation(change, calls[path]) for path, change in exact.items()}
        path = max(deviations, key=lambda path: deviations[path])
        if deviations[path] > tolerance:
            raise ValueError(
                f"{path or 'the network'} deviates by {deviations[path]:.1e} from its original, "
                f"more than {tolerance:.0e}: the worst of the replaced modules"
            )
        return deviations[path]

    def _calls(self, changes: Mapping[str, Change], inputs: Any) -> dict[str, list[Call]]:
        """The arguments of every call of each module when the network runs on `inputs`."""

        def keep(path: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
            calls[path].append((wide(args), wide(kwargs)))

        # inputs are kept before the call, which may change them in place
        calls: dict[str, list[Call]] = {path: [] for path in changes}
        hooks = [
            change.module.register_forward_pre_hook(partial(keep, path), with_kwargs=True)
            for path, change in changes.items()
        ]

        # in prediction, so that the run changes no running statistics
        try:
            with (
                torch.no_grad(),
                torch.compiler.set_stance("force_eager"),  # compiled, it would not run the hooks
                in_mode(self._model, training=False),
            ):
                if isinstance(inputs, Mapping):
                    self._model(**inputs)
                else:
                    self._model(*((inputs,) if isinstance(inputs, Tensor) else inputs))
        finally:
            for hook in hooks:
                hook.remove()
        return calls


def _deviation(change: Change, calls: list[Call]) -> float:
    """The largest deviation over the calls of a replaced module, with the weights it has now."""
    change.revert()
    try:
        parameters = parameters_and_buffers(change.module)
        return max(deviation(change, parameters, *call) for call in calls)
    finally:
        change.apply()
