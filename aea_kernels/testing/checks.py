"""What callers give, checked before anything is measured: messages of one sentence."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from torch import nn

from .symmetry import Group


def require_group(group: Any) -> None:
    """Raise ValueError where it is no group."""
    if isinstance(group, Group):
        return

    # likely mistakes have a sentence of their own: a call left out, several groups at once
    if callable(group):
        name = getattr(group, "__name__", type(group).__name__)
        raise ValueError(
            f"group is {name} itself, expected what it returns: call it, as translations(4)"
        )
    if isinstance(group, list | tuple):
        raise ValueError(
            f"group is a {type(group).__name__}, expected one group: assert each by itself"
        )
    raise ValueError(
        f"group is {group!r}, expected a group of aea_kernels.testing, as d4 or translations(4)"
    )


def groups_in(groups: Any) -> list[Group]:
    """One group, or several, as a list. Raises ValueError where one is no group."""
    many = isinstance(groups, Iterable) and not isinstance(groups, str)
    several = list(groups) if many else [groups]
    for group in several:
        require_group(group)
    return several


def require_module(model: Any) -> None:
    """Raise ValueError where it has no layers that could be told apart."""
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model is a {type(model).__name__}, expected a torch.nn.Module: a function has no "
            "layers to report, and assert_equivariant takes it"
        )


def require_tolerance(tolerance: Any) -> None:
    """Raise ValueError where it is neither None nor a number of at least 0."""
    if tolerance is None or (isinstance(tolerance, Real) and float(tolerance) >= 0):
        return
    raise ValueError(f"tolerance is {tolerance!r}, expected a number of at least 0")


def sides_in(sizes: Any) -> list[int]:
    """Sides of images, as a list. Raises ValueError where they are none."""
    several = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    whole = all(isinstance(size, Integral) and int(size) > 0 for size in several)
    if not whole or not isinstance(sizes, Iterable):
        raise ValueError(
            f"sizes is {sizes!r}, expected sides of images, whole numbers above 0, as range(16, 32)"
        )
    return [int(size) for size in several]


def require_places(said: Iterable[str], outputs: Iterable[str]) -> None:
    """Raise ValueError where an act is said of what is no output.

    Args:
        said: the places of acts; each is of an output, or of a nest that outputs are in.
        outputs: their places, "" where there is a single one without a name.
    """
    places = list(outputs)
    for name in said:
        within = f"{name}."
        if name and not any(place == name or place.startswith(within) for place in places):
            raise ValueError(
                f"acts names the output {name!r}, and fn returns "
                + ("one tensor without a name" if places == [""] else _listed(places))
            )


def _listed(places: list[str]) -> str:
    return f"the outputs {', '.join(map(repr, places))}" if len(places) > 1 else repr(places[0])


def require_number(value: Any, what: str) -> None:
    """Raise ValueError where it is no finite number; `what` is the start of the sentence."""
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{what} {value!r}, expected a finite number")


def require_place(path: str | os.PathLike[str]) -> None:
    """Raise ValueError where no file can be written."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {folder}")
    if Path(path).is_dir():
        raise ValueError(f"{path} cannot be written: it is a folder")
    existing = Path(path) if Path(path).exists() else folder
    if not os.access(existing, os.W_OK):
        raise ValueError(f"{path} cannot be written: permission is denied")
