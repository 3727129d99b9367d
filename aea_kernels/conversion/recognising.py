"""Which modules are attention that can be replaced: by class name, by structure, and by their
results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .comparing import SoftmaxDivides, deviation, random_parameters
from .replacing import Change, LeftAloneError, OtherKindError, no_hooks_inside

TOLERANCE = 1e-9
"""Largest deviation of an exact replacement in float64, relative to the largest number of the
result.
"""
LARGE = 30.0
"""Standard deviation of the numbers in the large input on which a block is tried."""
SOFTMAX = "softmax over positions is no sum over the keys"
_ATTENTION = re.compile(r"attention|attn|non_?local|mla$|xca|mdta|sablock", re.IGNORECASE)


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


def left_alone(path: str, module: nn.Module, why: str) -> Conversion:
    """The entry of a module that stays what it is."""
    return Conversion(path, type(module).__name__, "left alone", why, module)


@dataclass(frozen=True)
class Recogniser:
    """One kind of block that other libraries have, and what replaces it.

    Attributes:
        package: the library.
        classes: names that the block's class has there.
        parts: attributes that tell this block from others of the same class name.
        changes: looks at the structure and returns the replacements that come into question, in the
            order in which they are tried, or raises LeftAloneError.
        operators: what computes after the replacement.
        probe: given the module and whether the input is to be large, returns an input on which an
            exact replacement is tried; None for one whose results differ, so that the network must
            be trained again.
        only: which of these blocks, in words.
    """

    package: str
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    changes: Callable[[Any], Sequence[Change]]
    operators: str
    probe: Callable[[Any, bool], Tensor] | None = None
    only: str = ""

    @property
    def exact(self) -> bool:
        """Whether the results stay the same."""
        return self.probe is not None

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
        # what rules a module out, of whatever kind it is
        if "forward" in module.__dict__:
            raise LeftAloneError("its forward was replaced on the object")
        if any(p.is_meta for p in module.parameters()):
            raise LeftAloneError("its parameters are on the meta device, so nothing can be tried")
        no_hooks_inside(module)

        # without a probe the results differ anyway, so the first candidate is taken untried
        try:
            candidates = self.changes(module)
            if self.probe is None:
                return candidates[0]
            return self._first_equal(module, candidates, self.probe)
        except LeftAloneError:
            raise
        except Exception as error:  # of another version, or of a module that nobody knows
            raise LeftAloneError(
                f"its parts are not those of {self.package}'s block: {error}"
            ) from error

    def _first_equal(
        self,
        module: nn.Module,
        candidates: Sequence[Change],
        probe: Callable[[Any, bool], Tensor],
    ) -> Change:
        """The first that gives what the original gives for a small input, if it does so for a large
        one too, with random numbers in place of its parameters.

        Class names and parts do not show a softmax over another axis, windows, or any other
        difference in `forward`.
        """
        # the small input chooses the candidate; the large one confirms or refuses it
        parameters = random_parameters(module)
        small, large = (_drawn(probe, module, large=large) for large in (False, True))
        errors = []
        for change in candidates:
            errors.append(_tried(change, parameters, small))
            if errors[-1] <= TOLERANCE:
                # in one mode, as the large input takes most of the time
                error = _tried(change, parameters, large, modes=(False,))
                if error <= TOLERANCE:
                    return change
                raise self._other_results(large, error)

        # the reason in words: nothing but a softmax, or something else altogether
        if any(_differs_by_softmax(change, parameters, small) for change in candidates):
            raise LeftAloneError(SOFTMAX)
        raise self._other_results(small, min(errors))

    def _other_results(self, x: Tensor, error: float) -> LeftAloneError:
        return LeftAloneError(
            f"it computes something else: on random numbers of shape {tuple(x.shape)} its results "
            f"differ by {error:.0e} from {self.operators}"
        )


def _tried(change: Change, parameters: dict[str, Tensor], x: Tensor, **options: Any) -> float:
    """The deviation on x; raises LeftAloneError if the module does not run on it."""
    try:
        return deviation(change, parameters, (x,), {}, **options)
    except Exception as error:  # of a module that nobody knows
        raise LeftAloneError(f"it does not run on {tuple(x.shape)}: {error}") from error


def _differs_by_softmax(change: Change, parameters: dict[str, Tensor], x: Tensor) -> bool:
    """Whether the original would give the same if its softmax were a division."""
    try:
        options: Any = {"modes": (False,), "of_original": SoftmaxDivides()}
        error = deviation(change, parameters, (x,), {}, **options)
    except Exception:  # a softmax called in another way
        return False
    return error <= TOLERANCE


def _drawn(probe: Callable[[Any, bool], Tensor], module: nn.Module, *, large: bool) -> Tensor:
    """The same probe each time, on the CPU, where results are compared.

    The large one has large numbers too, on which limits of a block show.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(0)
        x = probe(module, large)
    return x * LARGE if large else x


def looks_like_attention(module: nn.Module) -> bool:
    """By the name of its class."""
    return _ATTENTION.search(type(module).__name__) is not None


def recognise(
    module: nn.Module, path: str, recognisers: Iterable[Recogniser], *, retrain: bool
) -> Conversion | None:
    """What becomes of a module at `path` of the network; None if no recogniser answers to it.

    Args:
        retrain: take replacements whose results differ, too.
    """
    # several may answer: diffusers has one class for many kinds of attention
    answering = [recogniser for recogniser in recognisers if recogniser.answers_to(module)]
    if not answering:
        return None

    # reasons of recognisers of another kind say nothing where one of its kind answers
    reasons: list[str] = []
    of_other_kinds: list[str] = []
    for recogniser in answering:
        try:
            change = recogniser.change_for(module)
        except OtherKindError as reason:
            of_other_kinds.append(str(reason))
        except LeftAloneError as reason:
            reasons.append(str(reason))
        else:
            if recogniser.exact or retrain:
                result = "exact" if recogniser.exact else "retrain"
                name, why = type(module).__name__, recogniser.operators
                return Conversion(path, name, result, why, module, change)
            reasons.append(f"{SOFTMAX}; retrain=True replaces it, to be trained again")
    return left_alone(path, module, "; ".join(dict.fromkeys(reasons or of_other_kinds)))
