"""Which modules are attention that can be replaced: by class name, by structure, and by their
results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..nn import AugmentedAttention
from .comparing import deviation, random_numbers
from .replacing import Change, Converted, LeftAloneError, OtherKindError, no_hooks_inside

TOLERANCE = 1e-9
"""Largest deviation of an exact replacement in float64, relative to the largest number of the
result.
"""
_ATTENTION = re.compile(r"attention|attn|non_?local|mla$|xca|mdta|sablock", re.IGNORECASE)


@dataclass(frozen=True)
class Recogniser:
    """One kind of block that other libraries have, and what replaces it.

    `changes` looks at the structure and returns the replacements that come into question, in the
    order in which they are tried, or raises LeftAloneError. `probe` returns arguments on which an
    exact one is tried.
    """

    package: str
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    """Attributes that tell this block from others of the same class name."""
    changes: Callable[[Any], Sequence[Change]]
    probe: Callable[[Any], tuple[Any, ...]]
    operators: str
    exact: bool = True
    only: str = ""
    """Which of these blocks, in words."""

    def answers_to(self, module: nn.Module) -> bool:
        names = {cls.__name__ for cls in type(module).__mro__}
        return not names.isdisjoint(self.classes) and all(
            hasattr(module, part) for part in self.parts
        )

    def change_for(self, module: nn.Module) -> Change:
        """The replacement of this module.

        Raises:
            LeftAloneError: there is none.
        """
        if "forward" in module.__dict__:
            raise LeftAloneError("its forward was replaced on the object")
        if any(p.is_meta for p in module.parameters()):
            raise LeftAloneError("its parameters are on the meta device, so nothing can be tried")
        no_hooks_inside(module)
        try:
            candidates = self.changes(module)
            return self._first_equal(module, candidates) if self.exact else candidates[0]
        except LeftAloneError:
            raise
        except Exception as error:  # of another version, or of a module that nobody knows
            raise LeftAloneError(
                f"its parts are not those of {self.package}'s block: {error}"
            ) from error

    def _first_equal(self, module: nn.Module, candidates: Sequence[Change]) -> Change:
        """The first that gives what the original gives, with random numbers in place of its
        parameters.

        Class names and parts do not show a softmax over another axis, or any other difference in
        `forward`.
        """
        numbers = random_numbers(module)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # where they are compared
            torch.default_generator.manual_seed(0)
            args = self.probe(module)
        errors = []
        for change in candidates:
            try:
                modes = (False, True)
                errors.append(
                    max(deviation(change, numbers, args, {}, training=mode) for mode in modes)
                )
            except Exception as error:  # of a module that nobody knows
                raise LeftAloneError(f"it does not run on {_shapes(args)}: {error}") from error
            if errors[-1] <= TOLERANCE:
                return change
        raise LeftAloneError(
            f"it computes something else: on random numbers its results differ by {min(errors):.0e} from "
            f"{self.operators}"
        )


def looks_like_attention(module: nn.Module) -> bool:
    """By the name of its class."""
    return _ATTENTION.search(type(module).__name__) is not None and not isinstance(
        module, AugmentedAttention
    )


def recognise(
    module: nn.Module, recognisers: Iterable[Recogniser], *, retrain: bool
) -> tuple[Change | None, str, str] | None:
    """The replacement of a module that one of the recognisers answers to, "exact" or "retrain", and
    how it computes; or None, "left alone" and the reason. None alone if none answers to it.
    """
    answering = [recogniser for recogniser in recognisers if recogniser.answers_to(module)]
    if not answering:
        return None
    reasons: list[str] = []
    others: list[str] = []
    for recogniser in answering:
        try:
            change = recogniser.change_for(module)
        except LeftAloneError as reason:
            (others if isinstance(reason, OtherKindError) else reasons).append(str(reason))
            continue
        if recogniser.exact:
            return change, "exact", recogniser.operators
        if retrain:
            return change, "retrain", recogniser.operators
        reasons.append(
            "softmax over positions is no sum over the keys; retrain=True replaces it, to be trained again"
        )
    return None, "left alone", "; ".join(dict.fromkeys(reasons or others))


def is_converted(module: nn.Module) -> bool:
    return isinstance(module, Converted)


def _shapes(args: tuple[Any, ...]) -> str:
    return ", ".join(str(tuple(a.shape)) if isinstance(a, Tensor) else repr(a) for a in args)
