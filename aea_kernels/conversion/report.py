"""What `aea.convert` did to each module, to print, to check and to take back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .comparing import deviation, own_numbers, wide
from .recognising import TOLERANCE
from .replacing import Change


@dataclass(frozen=True)
class Conversion:
    """One attention-like module of the network.

    Attributes:
        path: its name in the network, "" for the network itself.
        class_name: of the original.
        result: "exact" (same weights, same results), "retrain" (its weights as a start) or "left
            alone".
        why: what computes now, or why the module was left alone.
        module: the module itself.
        change: the replacement; None for a module left alone.
    """

    path: str
    class_name: str
    result: str
    why: str
    module: nn.Module = field(repr=False)
    change: Change | None = field(default=None, repr=False)


class ConversionReport:
    """Every attention-like module of a network and what became of it. Prints as a table.

    Attributes:
        modules: a `Conversion` for each, in the order of the network.
    """

    def __init__(self, model: nn.Module, modules: list[Conversion]) -> None:
        self._model = model
        self.modules = tuple(modules)
        self._active = False

    @property
    def replaced(self) -> tuple[Conversion, ...]:
        """The modules that were replaced, exact or to be trained again."""
        return tuple(entry for entry in self.modules if entry.change is not None)

    def __str__(self) -> str:
        rows = [("module", "class", "result", "why")]
        rows += [
            (entry.path or "(root)", entry.class_name, entry.result, entry.why)
            for entry in self.modules
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]])
            for row in rows
        ]
        if self.replaced and not self._active:
            lines.append("All of this is reverted; apply() replaces the modules again.")
        return "\n".join(lines)

    __repr__ = __str__

    def apply(self) -> None:
        """Replace the modules again after `revert`."""
        if not self._active:
            for entry in self.replaced:
                if entry.change is not None:
                    entry.change.apply()
            self._active = True

    def revert(self) -> None:
        """Give every module back what it was. Exact ones keep what was trained since; retrained
        ones lose it.
        """
        if self._active:
            for entry in reversed(self.replaced):
                if entry.change is not None:
                    entry.change.revert()
            self._active = False

    def check(self, inputs: Any, *, tolerance: float = TOLERANCE) -> float:
        """Compare each exact replacement with its original, on what it is given when the network
        runs on `inputs`.

        Both compute in float64 on the CPU, with the weights that they have now, in prediction and
        in training. The network itself runs once in prediction. Afterwards it is as it was.

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
        exact = [entry for entry in self.replaced if entry.result == "exact"]
        if not self._active or not exact:
            raise ValueError(
                "no module of this network is replaced exactly now, so there is nothing to check"
            )
        worst = {}
        for entry, calls in zip(exact, self._calls(exact, inputs), strict=True):
            if not calls:
                raise ValueError(
                    f"{entry.path or 'the network'} did not run on these inputs, so it was not checked"
                )
            worst[entry.path] = max(self._deviation(entry, *call) for call in calls)
        path = max(worst, key=lambda path: worst[path])
        if worst[path] > tolerance:
            raise ValueError(
                f"{path or 'the network'} deviates by {worst[path]:.1e} from its original, more than {tolerance:.0e}: "
                "the worst of the replaced modules"
            )
        return worst[path]

    def _calls(self, entries: list[Conversion], inputs: Any) -> list[list[tuple[Any, Any]]]:
        """The arguments of every call of each module when the network runs on `inputs`."""
        calls: list[list[tuple[Any, Any]]] = [[] for _ in entries]

        def watch(seen: list[tuple[Any, Any]]) -> Any:
            def keep(_module: nn.Module, args: Any, kwargs: Any) -> None:
                seen.append((wide(args), wide(kwargs)))

            return keep

        hooks = [
            entry.module.register_forward_pre_hook(watch(seen), with_kwargs=True)
            for entry, seen in zip(entries, calls, strict=True)
        ]
        modes = [(part, part.training) for part in self._model.modules()]
        try:
            # eager: a compiled network would not run the hooks
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                self._model.eval()
                if isinstance(inputs, Mapping):
                    self._model(**inputs)
                else:
                    self._model(*((inputs,) if isinstance(inputs, Tensor) else inputs))
        finally:
            for hook in hooks:
                hook.remove()
            for part, mode in modes:
                part.training = mode
        return calls

    def _deviation(self, entry: Conversion, args: Any, kwargs: Any) -> float:
        change = entry.change
        if change is None:
            return 0.0
        change.revert()
        try:
            numbers = own_numbers(entry.module)
            return max(
                deviation(change, numbers, args, kwargs, training=mode) for mode in (False, True)
            )
        finally:
            change.apply()
