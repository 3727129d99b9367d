"""What is timed: the operator, the block and whole networks, each checked first, with inputs that
no cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from aea_kernels import reference
from aeanet.networks.registry import SHIPPED, build_model, load_model

from .contenders import BLOCKS, OPERATORS, OTHER_FUNCTIONS, PlainBlock, make_block, runner
from .racing import check, copies, normal

Prepared = tuple[Callable[..., Any], list[tuple[Any, ...]]]
"""A function, and the arguments to rotate over."""


PRECISIONS = {"float32": "highest", "tf32": "medium", "bfloat16": "highest"}
"""Of `torch.set_float32_matmul_precision`, by the names that records have for the arithmetic."""


def operator_case(
    device: torch.device, name: str, shape: tuple[int, ...], dtype: torch.dtype, backward: bool
) -> Prepared:
    """A contender of the operator on query, key and value (B, H, N, E)."""
    # held to the reference in float64 on 100 positions, which takes no time
    q = torch.empty(shape, dtype=dtype, device=device)
    function = OPERATORS[name](q)
    if name not in OTHER_FUNCTIONS:
        small = [
            normal(*shape[:2], 100, shape[3], dtype=dtype, device=device, seed=i) for i in range(3)
        ]
        check(function(*small), reference.linear_attention(*(t.double() for t in small)))

    # inputs to rotate over, so that none is still in a cache when its turn comes
    sets = []
    for i in range(copies(3 * q.nbytes)):
        tensors = [normal(*shape, dtype=dtype, device=device, seed=3 * i + j) for j in range(3)]
        sets.append(tuple(t.requires_grad_(backward) for t in tensors))
    if not backward:
        return function, sets

    # gradients of all three; one that a contender does not use is None
    dy = normal(*shape, dtype=dtype, device=device)
    return lambda *tensors: torch.autograd.grad(
        function(*tensors), tensors, dy, allow_unused=True
    ), sets


def block_case(
    device: torch.device, name: str, shape: tuple[int, ...], dtype: torch.dtype, backward: bool
) -> Prepared:
    """A contender of the block on x (B, C, H, W)."""
    # every contender gets the same weights; the oracle is the plain block in float64
    module = BLOCKS[name](make_block(shape[1])).to(device, dtype)
    if name not in OTHER_FUNCTIONS:
        small = normal(shape[0], shape[1], 12, 10, dtype=dtype, device=device)
        exact = PlainBlock(make_block(shape[1]).to(device, dtype)).double()
        with torch.no_grad():
            check(module(small), exact(small.double()))

    # as many inputs as no cache holds
    nbytes = torch.Size(shape).numel() * dtype.itemsize
    inputs = [
        normal(*shape, dtype=dtype, device=device, seed=i).requires_grad_(backward)
        for i in range(copies(nbytes))
    ]
    dy = normal(*shape, dtype=dtype, device=device, seed=99)
    return runner(module, backward), [(x, dy) for x in inputs]


def model_case(
    device: torch.device, name: str, shape: tuple[int, ...], training: bool
) -> tuple[torch.nn.Module, Prepared]:
    """A network, and its prediction or training step on x (B, 1, H, W)."""
    torch.manual_seed(0)
    model = load_model(name) if name in SHIPPED else build_model(name)
    model = model.to(device).train(training)
    x = normal(*shape, dtype=torch.float32, device=device)

    def infer(x: torch.Tensor) -> Any:
        with torch.inference_mode():
            return model(x)

    def step(x: torch.Tensor) -> Any:
        model.zero_grad()
        torch.nn.functional.mse_loss(model(x), x).backward()

    return model, (step if training else infer, [(x,)])


def block_group(
    case: str, dtype: torch.dtype, backward: bool, captured: bool = False, precision: str = ""
) -> str:
    """The name of the group in which the contenders of a block are compared."""
    arithmetic = str(dtype).removeprefix("torch.") + f" {precision}" * bool(precision)
    return _group("block", case, arithmetic, captured, backward)


def operator_group(case: str, dtype: torch.dtype, backward: bool) -> str:
    return _group("operator", case, str(dtype).removeprefix("torch."), False, backward)


def _group(suite: str, case: str, arithmetic: str, captured: bool, backward: bool) -> str:
    parts = [suite, case, arithmetic, *["CUDA graph"] * captured]
    return " | ".join([*parts, "forward + backward" if backward else "forward"])


def model_group(arithmetic: str, training: bool, captured: bool) -> str:
    case = ["training step, 8 of 128 x 128" if training else "inference, 1280 x 944"]
    case += [arithmetic] * (arithmetic != "float32") + ["CUDA graph"] * captured
    return f"model | {', '.join(case)}"


MODEL_SHAPES = {False: (1, 1, 944, 1280), True: (8, 1, 128, 128)}
"""Of prediction and of a training step."""


@contextmanager
def arithmetic(name: str, device: torch.device) -> Iterator[None]:
    """Within it float32 is multiplied as `PRECISIONS` says, in convolutions too, and autocast
    computes in bfloat16 if that is the name.
    """
    autocast = name == "bfloat16"
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(PRECISIONS.get(name, name))
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast, cache_enabled=False):
        yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
