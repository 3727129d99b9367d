"""What the public operators accept: one sentence that names the argument, what it got and what is
wanted.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor, nn

from .dtypes import acc_dtype

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def is_tensor(argument: object, axes: int) -> bool:
    return isinstance(argument, Tensor) and argument.dim() == axes


def check_type(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, expected a torch.Tensor")
    if tensor.dtype not in DTYPES:
        raise TypeError(
            f"{name} has dtype {tensor.dtype}, expected one of {', '.join(map(str, DTYPES))}"
        )
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} has layout {tensor.layout}, expected a dense tensor")


def check_size(name: str, size: int, least: int = 1) -> None:
    """One sentence if a size is no whole number, or too small."""
    try:
        number = operator.index(size)
    except TypeError:
        raise TypeError(f"{name} is {size!r}, expected a whole number") from None
    if number < least:
        raise ValueError(
            f"{name} is {size}, expected {f'at least {least}' if least else '0 or more'}"
        )


def check_not_traced() -> None:
    """`torch.jit.trace` keeps the number of images and positions of its example, so its result is
    wrong for others.
    """
    if torch.jit.is_tracing():
        raise RuntimeError(
            "torch.jit.trace records this attention for one size only: "
            "use torch.export.export instead"
        )


def check(name: str, tensor: Tensor, shape: tuple[int, ...], letters: str, *, like: Tensor) -> None:
    """One sentence if `tensor` does not have `shape`, or not the dtype and device of `like`."""
    check_type(name, tensor)
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {letters} = {shape}")
    if tensor.dtype != like.dtype:
        raise TypeError(
            f"{name} has dtype {tensor.dtype}, expected {like.dtype} as the other arguments"
        )
    check_device(name, tensor, like)


def check_device(name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.device != like.device:
        raise ValueError(
            f"{name} is on {tensor.device}, expected {like.device} as the other arguments"
        )


def is_recomputed(module: nn.Module) -> bool:
    """Whether hooks compute the weight or bias of a module before each of its calls, as pruning and
    the older weight and spectral norm do; they do not run where it is read and not called.
    """
    stored = module.__dict__
    return bool(module._forward_pre_hooks) and ("weight" in stored or "bias" in stored)


def check_whole(name: str, parameter: Tensor | None) -> None:
    """One sentence if a parameter of a block is a DTensor: gathered only when its own module is
    called, which a block does not do.
    """
    if hasattr(parameter, "device_mesh"):
        raise TypeError(
            f"{name} is a DTensor that is sharded apart from its block: wrap the whole block as "
            "one unit, fully_shard(block)"
        )


def check_positions(name: str, tensor: Tensor, letters: str) -> None:
    check_type(name, tensor)
    if tensor.dim() != 4:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected four axes {letters}")


def check_key_value(key: Tensor, value: Tensor) -> None:
    check_not_traced()
    check_positions("key", key, "(B, H, L, E)")
    check_positions("value", value, "(B, H, L, D)")
    check("value", value, (*key.shape[:3], value.shape[3]), "(B, H, L, D)", like=key)


def check_query_key_value(query: Tensor, key: Tensor, value: Tensor) -> None:
    check_positions("query", query, "(B, H, N, E)")
    check_key_value(key, value)
    batch, heads, _, width = key.shape
    check("query", query, (batch, heads, query.shape[2], width), "(B, H, N, E)", like=key)


def check_features(x: Tensor) -> None:
    check_not_traced()
    check_type("x", x)
    if not 3 <= x.dim() <= 5:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (N, C, *spatial) with 1, 2 or 3 spatial axes"
        )


def check_scale(scale: float | Tensor) -> None:
    """One sentence if the scale of an operator is not one number."""
    if isinstance(scale, Tensor) and scale.dim():
        raise ValueError(
            f"scale has shape {tuple(scale.shape)}, expected one number: multiply the query by "
            "what differs between heads or images"
        )


def check_query(
    query: Tensor, sums: Tensor, field: str, letters: str, *, name: str = "query"
) -> None:
    """One sentence if queries (B, H, N, E) do not fit the `field` of a summary, (1 or B, H, E,
    any).
    """
    check_not_traced()
    check_positions(name, query, "(B, H, N, E)")
    batch, heads, _, width = query.shape
    fits = sums.dim() == 4 and sums.shape[0] in (1, batch)
    if not fits or tuple(sums.shape[1:3]) != (heads, width):
        raise ValueError(
            f"summary.{field} has shape {tuple(sums.shape)}, expected {letters} "
            f"with B = 1 or {batch}, H = {heads}, E = {width} as in {name}"
        )
    check_summary_tensor(sums, field, query, name)


def check_summary(summary: object, kind: type) -> None:
    """One sentence if `summary` is not of that class."""
    if not isinstance(summary, kind):
        raise TypeError(f"summary is a {type(summary).__name__}, expected a {kind.__name__}")


def check_summary_tensor(sums: Tensor, field: str, query: Tensor, name: str) -> None:
    """One sentence if the `field` of a summary is not in the accumulation dtype of a query, or
    elsewhere.
    """
    if sums.dtype != acc_dtype(query.dtype):
        raise TypeError(
            f"summary.{field} has dtype {sums.dtype}, "
            f"expected {acc_dtype(query.dtype)} for {name} in {query.dtype}"
        )
    check_device(f"summary.{field}", sums, query)
