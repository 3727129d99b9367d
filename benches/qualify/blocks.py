"""The block: whole and launch by launch, beside its floor and beside other ways to compute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch

import aea_kernels as aea

from ..cases import arithmetic, block_case, block_group, operator_case, operator_group
from ..contenders import BLOCKS, COMPILED, COPY, EAGER, OPERATORS, TRITON, backend_of, make_block
from .clock import keep_busy, mark, seconds_between, wait
from .visit import Visit

MODES = [
    (torch.bfloat16, ""),
    (torch.float32, "highest"),
    (torch.float32, "high"),
    (torch.float16, ""),
    (torch.float32, "medium"),
]
"""dtype, and how float32 is multiplied."""
SHAPES = {
    "full grid, 64": (1, 64, 944, 1280),
    "bottom": (1, 128, 236, 320),
    "training": (8, 128, 64, 64),
}
TINY = (1, 16, 8, 8)
OTHERS = ("plain eager", "torch.compile", COPY, COMPILED, EAGER)
PUBLISHED = ("softmax (SDPA)", "flash-bidirectional-linear-attention", "flash-linear-attention")
REPEATS = 10
"""Calls of which each launch is timed."""


class Case(NamedTuple):
    """A block (B, C, H, W) of one arithmetic, forward or with its gradients."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    precision: str
    backward: bool

    def group(self, captured: bool = False) -> str:
        precision = "" if self.precision == "highest" else self.precision
        return block_group(self.name, self.dtype, self.backward, captured, precision)


def cases(tiny: bool) -> list[Case]:
    """By worth: all shapes forward in bfloat16 first."""
    if tiny:
        return [
            Case("tiny", TINY, torch.bfloat16, "", False),
            Case("tiny", TINY, torch.float32, "highest", True),
        ]
    return [
        Case(name, shape, dtype, precision, backward)
        for dtype, precision in MODES
        for backward in (False, True)
        for name, shape in SHAPES.items()
    ]


def ours(visit: Visit) -> None:
    """This library's kernels: calls, CUDA graphs, each launch, and the floor of each."""
    for case in visit.in_time(cases(visit.tiny)):
        measure(visit, case, TRITON)
        visit.put("launches", case.group(), launches(case, visit))


def others(visit: Visit) -> None:
    """The same block otherwise, and the operator beside published kernels."""
    # the arithmetic of every contender: 16 bits, and float32 multiplied exactly
    shown = [case for case in cases(visit.tiny) if case.precision in ("", "highest")]
    if visit.tiny:
        shown = shown[:1]
    for name in OTHERS if not visit.tiny else OTHERS[:1]:
        for case in visit.in_time(shown):
            measure(visit, case, name)

    # of the operator one shape in one arithmetic, forward and with its gradients
    shape = (1, 2, 64, 16) if visit.tiny else (1, 2, 236 * 320, 64)
    for backward in (False, True):
        for name in visit.in_time((TRITON, *PUBLISHED) if not visit.tiny else PUBLISHED[:1]):
            assert name in OPERATORS
            visit.race(
                operator_group("bottom", torch.bfloat16, backward),
                name,
                partial(operator_case, visit.device, name, shape, torch.bfloat16, backward),
            )


def measure(visit: Visit, case: Case, name: str) -> None:
    """A contender, called from Python and as a CUDA graph."""
    assert name in BLOCKS
    prepare = partial(block_case, visit.device, name, case.shape, case.dtype, case.backward)
    with arithmetic(case.precision or "highest", visit.device):
        visit.race(case.group(), name, prepare)
        if visit.device.type == "cuda":
            visit.race(case.group(captured=True), name, prepare, captured=True)


# ---- launch by launch ----------------------------------------------------------------------------


def launches(case: Case, visit: Visit) -> list[dict[str, Any]]:
    """Of each launch of a call: its name, its time, and the time in which its feature maps move at
    the bandwidth of a copy, in microseconds.
    """
    # the same arithmetic and dtype for the call and for its plan
    with (
        arithmetic(case.precision or "highest", visit.device),
        backend_of(TRITON, visit.device),
    ):
        run, inputs = block_case(visit.device, TRITON, case.shape, case.dtype, case.backward)
        calls = 1 if visit.tiny else REPEATS
        timed = _timed_launches(lambda i: run(*inputs[i % len(inputs)]), calls, visit.device)
        block = make_block(case.shape[1]).to(case.dtype)
        plan = aea.explain(
            block,
            case.shape,
            dtype=case.dtype,
            backward=case.backward,
            bandwidth=visit.record["card"]["copy"],
        )

    # a floor only where the plan names the very launches that were timed
    rows = [{"name": name, "us": round(1e6 * seconds, 2)} for name, seconds in timed]
    if [row["name"] for row in rows] == [launch.name for launch in plan.launches]:
        for row, launch in zip(rows, plan.launches, strict=True):
            moved = (launch.reads + launch.writes) * plan.tensor_bytes
            row["floor_us"] = round(1e6 * moved / plan.bandwidth, 2)
    return rows


def _timed_launches(
    call: Callable[[int], object], calls: int, device: torch.device
) -> list[tuple[str, float]]:
    """Name and median time of every launch of a call, which takes its number."""
    call(0)
    wait(device)
    keep_busy(device)
    repeated = []
    with _marked(device) as found:
        for i in range(calls):
            call(i)
            repeated.append(found.copy())
            found.clear()
    wait(device)

    def median(column: tuple[Any, ...]) -> float:
        times = sorted(seconds_between(begin, end) for _, begin, end in column)
        return times[len(times) // 2]

    return [(column[0][0], median(column)) for column in zip(*repeated, strict=True)]


@contextmanager
def _marked(device: torch.device) -> Iterator[list[tuple[str, Any, Any]]]:
    """Within it, name, beginning and end of each launch are collected."""
    from aea_kernels.backends.triton import algebra, launching, primitives, products

    found: list[tuple[str, Any, Any]] = []
    launch = launching.launch

    def marked(kernel: Any, *arguments: Any, **options: Any) -> None:
        begin = mark(device)
        launch(kernel, *arguments, **options)
        found.append((kernel.fn.__name__.removesuffix("_kernel"), begin, mark(device)))

    with pytest.MonkeyPatch.context() as patch:
        for module in (algebra, launching, primitives, products):
            patch.setattr(module, "launch", marked)
        yield found
