"""How long a part of a network takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass
class Timing:
    """Seconds of the latest forward pass of a module, and the shape of its input."""

    seconds: float = 0.0
    shape: tuple[int, ...] = ()


@contextmanager
def timed(module: nn.Module) -> Iterator[Timing]:
    """Within it, each forward pass of a module is timed; on a GPU, its pending work is waited for
    at both ends.
    """
    timing = Timing()

    def now(device: torch.device) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def start(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        timing.shape = inputs[0].shape
        timing.seconds = -now(inputs[0].device)

    def stop(_module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        timing.seconds += now(inputs[0].device)

    hooks = [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
    try:
        yield timing
    finally:
        for hook in hooks:
            hook.remove()
