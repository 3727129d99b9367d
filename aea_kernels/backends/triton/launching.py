"""How a kernel is launched, or its launch written down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from ...core import tracer
from ...core.precision import multiplication
from . import tiles, versions
from .operands import FeatureMap, math_of
from .tiles import LaunchPlan


class _Recording(threading.local):
    """What `recording` holds, in the thread that records: others go on launching."""

    launches: list[tuple[str, LaunchPlan | None, int]] | None = None
    device: tuple[int, int] | None = None


_recording = _Recording()


def device_of(device: torch.device) -> tuple[int, int]:
    """Architecture (90 for sm_90) and number of multiprocessors; an H100's where there is no
    GPU.
    """
    return _properties(device) if device.type == "cuda" else _recording.device or tiles.H100


@lru_cache
def _properties(device: torch.device) -> tuple[int, int]:
    """Of a GPU, asked once; NVIDIA's compilers have known faults for some."""
    properties = torch.cuda.get_device_properties(device)
    architecture = 10 * properties.major + properties.minor
    if torch.version.hip is None:
        versions.check(architecture)
    return architecture, properties.multi_processor_count


def launch(
    kernel: Any,
    programs: int,
    device: torch.device,
    *,
    warps: int = 8,
    stages: int = 1,
    plan: LaunchPlan | None = None,
    workspace: int = 0,
    **arguments: Any,
) -> None:
    """`programs` programs of a kernel on grid x, the only axis without a small limit.

    `plan` and `workspace`, the bytes of partial sums and C x C matrices that the kernel writes, are
    for `recording`.
    """
    recorded = _recording.launches
    if recorded is not None:
        recorded.append((kernel.fn.__name__.removesuffix("_kernel"), plan, workspace))
    elif programs:
        run = partial(kernel[(programs,)], num_warps=warps, num_stages=stages)
        # Triton launches on the current device, which may be another one
        elsewhere = device.type == "cuda" and device.index != torch.cuda.current_device()
        recorder = tracer.recorder()
        with torch.cuda.device(device) if elsewhere else nullcontext():
            if recorder is None:
                run(**arguments)
            else:
                recorder.launch(kernel, programs, run, arguments)


def plan_over_positions(
    kernel: str,
    rows: int,
    columns: int,
    images: int,
    positions: int,
    x: Tensor,
    *maps: FeatureMap,
    same: bool = False,
) -> LaunchPlan:
    """`tiles.plan_launch` for feature maps like x."""
    aligned = all(x_map.aligned for x_map in maps)
    device = device_of(x.device)
    mode = multiplication(x.dtype, device[0])
    return tiles.plan_launch(kernel, rows, columns, images, positions, mode, aligned, device, same)


def launch_over_positions(
    kernel: Any, plan: LaunchPlan, like: Tensor, written: Tensor | None, **arguments: Any
) -> None:
    """Launch a kernel as planned for feature maps like `like`; `written` (and `maxima`): workspaces
    that it fills.
    """
    # how the positions are split among programs, and how much of them a tile holds
    tiles = plan.tiles
    arguments |= {
        "splits": plan.splits,
        "steps": plan.steps,
        "MATH": math_of(like.dtype, plan.precision),
        "BLOCK_A": tiles.block_a,
        "BLOCK_K": tiles.block_k,
        "BLOCK_S": tiles.block_s,
    }

    # for `recording`: the bytes of partial sums, and of the maxima that they are relative to
    workspace = sum(t.nbytes for t in (written, arguments.get("maxima")) if t is not None)
    launch(
        kernel,
        plan.programs,
        like.device,
        warps=tiles.warps,
        stages=tiles.stages,
        plan=plan,
        workspace=workspace,
        **arguments,
    )


@contextmanager
def recording(
    device: tuple[int, int] | None = None,
) -> Iterator[list[tuple[str, LaunchPlan | None, int]]]:
    """(name, plan, workspace) of every launch inside, as on `device`; nothing runs."""
    before = _recording.launches, _recording.device
    recorded: list[tuple[str, LaunchPlan | None, int]] = []
    _recording.launches, _recording.device = recorded, device
    try:
        yield recorded
    finally:
        _recording.launches, _recording.device = before
