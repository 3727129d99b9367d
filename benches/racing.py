"""How a contender is run: checked first, timed over rotating inputs, its memory measured; a failure
is a result too.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .contenders import BACKENDS, Unavailable, backend_of
from .watching import named, watched

LARGE = 1 << 28
"""Bytes beyond which an input alone is larger than any cache."""


class Wrong(Exception):
    """The result is not the oracle's."""


class Benchmark(Protocol):
    """What of pytest-benchmark's fixture is used: it times a call and keeps what is said of it."""

    group: str
    extra_info: dict[str, Any]

    def pedantic(self, target: Callable[[], Any], *, rounds: int) -> Any: ...


class Race:
    """Runs one contender of one group."""

    def __init__(self, benchmark: Benchmark, device: str, seconds: float) -> None:
        self.benchmark, self.device, self.seconds = benchmark, torch.device(device), seconds

    def run(
        self,
        group: str,
        name: str,
        prepare: Callable[[], tuple[Callable[..., Any], Sequence[Any]]],
        captured: bool = False,
    ) -> None:
        """`prepare` checks the contender and returns its function and a list of arguments to rotate
        over.

        `captured`: it runs as a CUDA graph, and the GPU's time is measured, without the host's.
        """
        # named before anything can fail, so that a failure is filed under its contender
        self.benchmark.group = group
        self.benchmark.extra_info["name"] = name

        # whatever stops a contender is its result, and the others go on
        try:
            with backend_of(name, self.device):
                function, inputs = prepare()
                once = self._in_turn(function, inputs)
                with watched() as seen:
                    graphs = capture(function, inputs) if captured else []
                    rounds = 0 if captured else self._warm_up(once)
                self._note(name, named(seen))
                if captured:
                    self._measure_graphs(graphs)
                else:
                    self._measure(once, rounds)
        except Unavailable as reason:
            self._give_up(str(reason))
        except Wrong as reason:
            self._give_up(f"wrong: {reason}")
        except (MemoryError, torch.OutOfMemoryError):
            self._give_up("out of memory")
        except RuntimeError as error:
            self._give_up(f"failed: {str(error).splitlines()[0][:80]}")
        finally:
            gc.collect()

    def record(self, group: str, name: str, backend: str = "", **values: Any) -> None:
        """Numbers that were measured elsewhere, and who computed; a list under "seconds" is of
        repeated times.
        """
        # a number that is not finite is no result, nor is one of another backend
        numbers: list[float] = []
        for value in values.values():
            numbers += value if isinstance(value, list) else [value]
        try:
            if not all(map(math.isfinite, numbers)):
                raise Wrong("not finite")
            self._note(name, backend)
        except Wrong as reason:
            self.give_up(group, name, f"wrong: {reason}")
            return

        # pytest-benchmark keeps only what was timed, so an empty call is timed
        self.benchmark.group = group
        self.benchmark.extra_info.update(name=name, **values)
        self.benchmark.pedantic(lambda: None, rounds=1)

    def give_up(self, group: str, name: str, status: str) -> None:
        """There is no number, and why."""
        self.benchmark.group = group
        self.benchmark.extra_info["name"] = name
        self._give_up(status)

    def _note(self, name: str, backend: str) -> None:
        """Record who computed. Raises Wrong where it is not the backend that the name states."""
        if backend != BACKENDS.get(name, backend):
            raise Wrong(f"computed by {backend or 'no backend'}")
        if backend:
            self.benchmark.extra_info["backend"] = backend

    def _in_turn(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Callable[[], None]:
        """A call of the function, on the next of the inputs each time."""
        turn = 0

        def once() -> None:
            nonlocal turn
            turn += 1
            function(*inputs[turn % len(inputs)])
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return once

    def _warm_up(self, once: Callable[[], None]) -> int:
        """Returns how many rounds to time."""
        for _ in range(2):  # the first call may compile, unless it is slow anyway
            start = time.perf_counter()
            once()
            elapsed = time.perf_counter() - start
            if elapsed > 5 * self.seconds:
                break
        return min(25, max(2, int(self.seconds / elapsed)))

    def _measure(self, once: Callable[[], None], rounds: int) -> None:
        # on a CPU memory is measured in processes of their own (`memory.py`)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            once()
            peak = torch.cuda.max_memory_allocated(self.device)
            self.benchmark.extra_info["bytes"] = peak - before
        self.benchmark.pedantic(once, rounds=rounds)

    def _measure_graphs(self, graphs: Sequence[Any]) -> None:
        """The GPU's time of one graph, where it replays all of them back to back."""

        def milliseconds() -> float:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for graph in graphs:
                graph.replay()
            end.record()
            end.synchronize()
            return float(begin.elapsed_time(end)) / len(graphs)

        milliseconds()  # the first replay loads the graph
        rounds = min(25, max(5, int(self.seconds / (1e-3 * milliseconds() * len(graphs)))))
        self.benchmark.extra_info["seconds"] = [1e-3 * milliseconds() for _ in range(rounds)]
        self.benchmark.pedantic(lambda: None, rounds=1)

    def _give_up(self, status: str) -> None:
        self.benchmark.extra_info["status"] = status
        self.benchmark.pedantic(lambda: None, rounds=1)


def normal(*shape: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(device, dtype)


def capture(function: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
    """The same calls as CUDA graphs, one for each input."""
    graphs = []
    for arguments in inputs:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        # whatever compiles or chooses an algorithm does so before the capture
        with torch.cuda.stream(stream):
            function(*arguments)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function(*arguments)
        graphs.append(graph)
    return graphs


def copies(nbytes: int) -> int:
    """How many inputs to rotate over, so that none is still in the cache when its turn comes."""
    return 1 if nbytes >= LARGE else min(64, -(-LARGE // max(1, nbytes)))


def check(got: Tensor, exact: Tensor) -> None:
    """Raises Wrong where the relative error in the root mean square is beyond a few roundings of
    got's dtype.
    """
    error = float((got.double() - exact).norm() / exact.norm())
    if not error < 30 * torch.finfo(got.dtype).eps:
        raise Wrong(f"error {error:.1e}")
