"""Networks, inputs, groups and acts by what one writes on a command line."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import acts, groups
from .symmetry import Group

NUMBERS = re.compile(r"\d+(,\d+)+")
GROUPS: dict[str, Any] = {
    "batch_order": groups.batch_order,
    "d4": groups.d4,
    "flips": groups.flips,
    "permutations": groups.permutations,
    "permutations_of_patches": groups.permutations_of_patches,
    "rotations": groups.rotations,
    "rotations_by": groups.rotations_by,
    "scale": groups.scale,
    "translations": groups.translations,
}
ACTS: dict[str, Any] = {
    "channels": acts.channels,
    "image": acts.image,
    "invariant": acts.invariant,
    "points": acts.points,
    "regular": acts.regular,
    "vector": acts.vector,
}


def network_of(text: str) -> nn.Module:
    """The network that `text` names, in evaluation mode; random weights are the same every time.

    Args:
        text: `MODULE:FACTORY`, `MODULE:FACTORY(ARGUMENTS)` or `MODULE:NETWORK`, where arguments are
            Python literals and modules of the current folder count too; `timm:NAME`, `monai:NAME`,
            `torchvision:NAME` or `hf:NAME`, arguments likewise; or a file, *.pt2 or *.onnx.

    Raises:
        ValueError: there is no such network, or a package is missing.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            network = _built(text)
        except (ImportError, AttributeError, OSError, TypeError, RuntimeError) as error:
            raise ValueError(f"no network {text!r}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{text!r} is {type(network).__name__}, expected a torch.nn.Module")
    return network.eval()


def _built(text: str) -> Any:
    # files; onnx and its runtime are imported only for theirs
    if text.endswith(".pt2"):
        return torch.export.unflatten(torch.export.load(Path(text)))
    if text.endswith(".onnx"):
        from .onnx_network import OnnxNetwork

        return OnnxNetwork(text)

    # a place, then a dotted name, with or without arguments
    place, _, rest = text.partition(":")
    found = re.fullmatch(r"([^()]+)(\(.*\))?", rest)
    if not place or found is None:
        raise ValueError(
            f"a network is {text!r}, expected MODULE:FACTORY, MODULE:FACTORY(ARGUMENTS), "
            "timm:NAME, monai:NAME, torchvision:NAME, hf:NAME, FILE.pt2 or FILE.onnx"
        )
    name, arguments = found.groups()
    args, options = _arguments(arguments or "()", text)
    if place in LIBRARIES:
        return LIBRARIES[place](name, *args, **options)

    # modules of the current folder count, as they do for `python -m`
    if "" not in sys.path:
        sys.path.insert(0, "")

    # a dotted name leads through attributes; what is a network already is not called
    network: Any = importlib.import_module(place)
    for part in name.split("."):
        network = getattr(network, part)
    is_network = isinstance(network, nn.Module) and arguments is None
    return network if is_network else network(*args, **options)


def _timm(name: str, **options: Any) -> nn.Module:
    return importlib.import_module("timm").create_model(name, **options)


def _monai(name: str, *args: Any, **options: Any) -> nn.Module:
    return getattr(importlib.import_module("monai.networks.nets"), name)(*args, **options)


def _torchvision(name: str, **options: Any) -> nn.Module:
    return importlib.import_module("torchvision.models").get_model(name, **options)


def _hf(name: str, **options: Any) -> nn.Module:
    """A folder or a name on the hub with its weights, or a kind of network, as resnet, without."""
    transformers = importlib.import_module("transformers")
    if name in transformers.CONFIG_MAPPING:
        config = transformers.AutoConfig.for_model(name, **options)
        return transformers.AutoModel.from_config(config)
    return transformers.AutoModel.from_pretrained(name, **options)


LIBRARIES: dict[str, Callable[..., nn.Module]] = {
    "timm": _timm,
    "monai": _monai,
    "torchvision": _torchvision,
    "hf": _hf,
}


def input_of(text: str, seed: int = 0) -> Tensor:
    """Standard normal values of the shape that `text` names, as "1,3,64,64".

    Raises:
        ValueError: it names no shape.
    """
    if not NUMBERS.fullmatch(text):
        raise ValueError(f"an input is {text!r}, expected its shape, as 1,3,64,64")
    shape = [int(n) for n in text.split(",")]
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), device="cpu")


def groups_of(text: str) -> list[Group]:
    """The groups in a list as "d4,translations(4)". Raises ValueError."""
    value = _value(text, GROUPS, "a group")
    found = value if isinstance(value, tuple) else (value,)
    if not found:
        raise ValueError(f"{text!r} names no groups, expected some, as d4,translations(4)")
    for group in found:
        if not isinstance(group, Group):
            raise ValueError(f"{text!r} names no groups: one needs arguments, as translations(4)")
    return [*found]


def acts_of(text: str) -> Any:
    """Acts as "vector", "regular(d4)", or of a nest "{'flow': vector, 'score': invariant}"; a pair,
    "(vector, vector)", is of input and output. Raises ValueError.
    """
    found = _filled(_value(text, ACTS | GROUPS | DIRECTIONS, "an act"))
    acts.said(found)
    return found


DIRECTIONS = {name: name for name in acts.DIRECTIONS}


def _filled(value: Any) -> Any:
    """With `vector` and `points` for their defaults, `vector()` and `points()`."""
    if isinstance(value, dict):
        return {key: _filled(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_filled(part) for part in value)
    return value() if value in (acts.vector, acts.points) else value


def _value(text: str, names: Mapping[str, Any], what: str) -> Any:
    """The expression of names, calls, tuples, lists, dictionaries and literals."""
    try:
        return _evaluated(ast.parse(text, mode="eval").body, names)
    except (SyntaxError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(
            f"{what} is {text!r}: {error}; there are {', '.join(sorted(names))}"
        ) from error


def _evaluated(node: ast.expr, names: Mapping[str, Any]) -> Any:
    # names of the list, and calls of these: no other code can run
    inside = partial(_evaluated, names=names)
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise KeyError(f"{node.id} is unknown")
        return names[node.id]
    if isinstance(node, ast.Call):
        options = {keyword.arg or "": inside(keyword.value) for keyword in node.keywords}
        return inside(node.func)(*map(inside, node.args), **options)

    # nests, whose parts may be names and calls, which no literal has
    if isinstance(node, ast.Tuple):
        return tuple(map(inside, node.elts))
    if isinstance(node, ast.List):
        return list(map(inside, node.elts))
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(inside, node.values), strict=True))
    return ast.literal_eval(node)


def _arguments(text: str, whole: str) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments, literals all."""
    try:
        call = ast.parse(f"f{text}", mode="eval").body
        assert isinstance(call, ast.Call)
        options = {k.arg or "": ast.literal_eval(k.value) for k in call.keywords}
        return [ast.literal_eval(a) for a in call.args], options
    except (SyntaxError, ValueError, AssertionError) as error:
        raise ValueError(f"the arguments of {whole!r} are no Python literals: {error}") from error
