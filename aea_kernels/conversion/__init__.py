"""Networks of other people: their attention replaced in place, with the same weights and the same
results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..nn import AugmentedAttention
from . import nonlocal_blocks
from .processors import LinearAttentionProcessor, ReluAttentionProcessor
from .recognising import Conversion, left_alone, looks_like_attention, recognise
from .replacing import Converted, LeftAloneError
from .report import ConversionReport
from .table import RECOGNISERS

__all__ = [
    "Conversion",
    "ConversionReport",
    "LinearAttentionProcessor",
    "ReluAttentionProcessor",
    "convert",
    "from_nonlocal",
    "is_known_attention",
]


def convert(
    model: nn.Module,
    *,
    filter: Callable[[str, nn.Module], bool] | None = None,
    retrain: bool = False,
    strict: bool = True,
) -> ConversionReport:
    """Replace the attention of a network in place by this library's, wherever the result stays the
    same.

    A module is found by its class name and its parts, and its results are compared in float64 on
    random numbers, of a small and of a large input, before it is replaced; the library that it
    comes from is not imported. `report.check` compares them on inputs of yours, of any size. What
    a module stores in these runs is gone afterwards. The network itself may be such a module.

    The objects stay, so do the names in `state_dict`, the parameters in an optimiser, and hooks.
    A module with hooks on its parts is left alone. Hooks that are set on its parts afterwards may
    not run, as not all parts are called; with those of pruning, weight norm and spectral norm, the
    original's forward computes.

    Args:
        model: the network; it is not copied.
        filter: given the name and the module, whether it may be replaced; by default each may.
        retrain: replace softmax attention too, by linear attention that starts with its norm and
            projections. Its results differ, so the network must be trained again.
            `AugmentedAttention` has new parameters: make the optimiser after this. They are frozen
            where those that they replace are. They have other names in `state_dict`; it loads them,
            and the original's too, which it translates.
        strict: raise if nothing was replaced.

    Returns:
        A report of every attention-like module: replaced, or left alone and why. It can check the
        replacements on inputs of yours, and revert them.

    Raises:
        TypeError: model is no torch.nn.Module.
        ValueError: with `strict`, nothing was replaced; the network is then as it was.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a torch.nn.Module")
    entries = _found_in(model, "", set(), filter or (lambda name, module: True), retrain)
    report = ConversionReport(model, entries)
    if strict and not report.replaced:
        message = f"nothing in {type(model).__name__} was replaced"
        if not entries:
            raise ValueError(f"{message}: it has no module that looks like attention.")
        raise ValueError(f"{message}; left alone were:\n{report}")
    report.apply()
    return report


def _found_in(
    module: nn.Module,
    path: str,
    seen: set[nn.Module],
    allowed: Callable[[str, nn.Module], bool],
    retrain: bool,
) -> list[Conversion]:
    """An entry for each attention-like module in `module` that is not in `seen`, the outermost that
    is recognised.
    """
    # a module that the network holds at several places has one entry, under its first path
    if module in seen:
        return []
    seen.add(module)
    if isinstance(module, Converted | AugmentedAttention):
        return [left_alone(path, module, "it is this library's already")]

    # what is recognised is not searched further, whether it is replaced or left alone
    entry = recognise(module, path, RECOGNISERS, retrain=retrain)
    if entry is not None:
        if entry.change is not None and not allowed(path, module):
            entry = left_alone(path, module, "the filter said no")
        return [entry]

    # an unknown module with a name like attention counts only where no part of it does
    inside: list[Conversion] = []
    for name, child in module.named_children():
        inside += _found_in(child, f"{path}.{name}" if path else name, seen, allowed, retrain)
    if looks_like_attention(module) and not inside:
        return [left_alone(path, module, "no known block has this class name and these parts")]
    return inside


def is_known_attention(module: nn.Module) -> bool:
    """Whether `convert` knows this kind of module, converted or not, whatever it then decides."""
    if isinstance(module, Converted):
        return True
    return any(recogniser.answers_to(module) for recogniser in RECOGNISERS)


def from_nonlocal(module: nn.Module) -> AugmentedAttention:
    """A non-local block in mode `dot_product` as an `AugmentedAttention` of its own, with the same
    results.

    It has one head, no references and no norm; BN after the output becomes part of the output
    projection, with its running statistics, as in prediction. `module` stays as it is, and the two
    share no parameters.

    Args:
        module: mmcv's `NonLocal1d`, `2d`, `3d`, SlowFast's, pytorchvideo's or AlexHex7's non-local
            block, converted or not.

    Raises:
        ValueError: another module, another mode, or subsampled keys.
    """
    try:
        # converted already: it passed the checks, and knows its parts
        if isinstance(module, nonlocal_blocks.NonLocal):
            return nonlocal_blocks.as_augmented_attention(module, module.parts())

        # all checks of `convert`, then the parts read off the original as its replacement would
        for recogniser in RECOGNISERS:
            if recogniser.changes in nonlocal_blocks.SWAPS and recogniser.answers_to(module):
                change: Any = recogniser.change_for(module)
                parts = change.replacement.parts(module)
                return nonlocal_blocks.as_augmented_attention(module, parts)
        raise LeftAloneError("it is no non-local block that is known")
    except LeftAloneError as reason:
        raise ValueError(
            f"{type(module).__name__} cannot become AugmentedAttention: {reason}"
        ) from None
