"""CUDA graphs: all launches of a call at once, where the host is slower than the GPU."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from .backends import backend_name
from .core.checks import check_type
from .core.precision import multiplication, tf32_allowed

WARM_UP = 3
"""Calls before a graph is captured: kernels are built, checked and chosen in them."""


def graphed(network: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Callable[..., Any]:
    """A callable in place of `network`, which replays a CUDA graph for inputs like `example`.

    In prediction, after ``network.eval()``, it returns copies of what the graph computes, without
    derivatives. In training, after ``network.train()``, forward and backward pass are a graph each
    (`torch.cuda.make_graphed_callables`); loss and optimizer stay as they are, and what is returned
    holds until the next call.

    Inputs of another shape, dtype or device, another mode of the network, inputs whose gradient is
    asked for in prediction, and another autocast, `use_backend` or precision of products of float32
    than at the capture take the ordinary call; a warning says so, once for each. The network may be
    trained further and load weights, which the graph reads where they lie. Where they are moved, as
    by ``network.to``, the ordinary call is taken too. A parameter that is set to a new object is
    not noticed: call `graphed` again.

    All calls share the memory of the graph. Call it from one CUDA stream at a time, and in training
    from one thread too; in prediction, threads wait for one another. For several streams, make one
    for each.

    Args:
        network: an `AugmentedAttention`, or a network that holds some.
        example: its input, or a tuple of its inputs. They are called with a few times; buffers,
            such as running statistics, are left as they were.

    Returns:
        The callable; on a CPU the network itself.

    Raises:
        TypeError: the network is not a module, or the example not a tensor or a tuple of tensors.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network is a {type(network).__name__}, expected a torch.nn.Module")
    inputs = example if isinstance(example, tuple) else (example,)
    for number, given in enumerate(inputs):
        check_type(f"example[{number}]" if isinstance(example, tuple) else "example", given)
    if not inputs or not all(_on_gpu(given) for given in inputs):
        return network
    with torch.cuda.device(inputs[0].get_device()):
        return Graphed(network, inputs)


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


class Graphed:
    """What `graphed` returns."""

    def __init__(self, network: nn.Module, example: tuple[Tensor, ...]) -> None:
        self.network = network
        self.training = network.training

        # what is captured holds for this alone, and every call is compared with it
        self._example = self._likeness(example)
        self._autocast = _autocast()
        self._backend = backend_name()
        self._products_now = _question_of_products()
        self._products = self._products_now()
        self._parameters = list(network.parameters())
        self._weights = [*self._parameters, *network.buffers()]
        self._places = [t.data_ptr() for t in self._weights]
        self._told: set[str] = set()

        with _to_be_kept():
            capture = _step if self.training else _prediction
            self._replay = capture(network, example)

    def __call__(self, *inputs: Tensor) -> Any:
        reason = self._reason_against(inputs)
        if not reason:
            if self.training:
                self._keep_gradients()
            return self._replay(*inputs)
        if reason not in self._told:
            self._told.add(reason)
            warnings.warn(f"The CUDA graph is not used: {reason}", RuntimeWarning, stacklevel=2)
        return self.network(*inputs)

    def _reason_against(self, inputs: tuple[Tensor, ...]) -> str:
        """Why the graph does not compute this call; empty where it does."""
        # a graph replays for the sizes, dtypes and devices that it was captured with
        given = self._likeness(inputs)
        if given != self._example:
            return f"the input is {_named(given)}, and the example was {_named(self._example)}"

        # training captures a backward pass, prediction none
        if self.network.training != self.training:
            captured = "training" if self.training else "prediction"
            return f"it was captured for {captured}, and the network is now in the other mode"
        wanted = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        if wanted and not self.training:
            return "a gradient is asked for, and it was captured for prediction"

        # the launches of a graph are those of one rounding of factors, of one backend
        if _autocast() != self._autocast:
            return "autocast is not as it was when it was captured"
        if self._products_now() != self._products:
            return "the precision of products of float32 is not as it was when it was captured"
        if backend_name() != self._backend:
            return f"it was captured with the backend {self._backend!r}, and another is chosen now"

        # and of weights that lie where they lay
        if [t.data_ptr() for t in self._weights] != self._places:
            return "weights of the network were moved: call aea.graphed again"
        return ""

    def _likeness(self, inputs: tuple[Tensor, ...]) -> list[tuple[Any, ...]]:
        """What has to be as in the example; in training also whose gradient is asked for."""
        found = []
        for t in inputs:
            gradient = "with a gradient" if self.training and t.requires_grad else ""
            found.append((tuple(t.shape), t.dtype, t.device, gradient))
        return found

    def _keep_gradients(self) -> None:
        """Gradients that were not set to None lie where the graph writes the next ones."""
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad.clone()


def _named(likenesses: list[tuple[Any, ...]]) -> str:
    return ", ".join(" ".join(map(str, likeness)).rstrip() for likeness in likenesses)


def _autocast() -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")


def _question_of_products() -> Callable[[], object]:
    """What tells at once how float32 is multiplied; asked before every replay."""
    try:
        torch.get_float32_matmul_precision()
    except RuntimeError:  # it raises once the newer switch was used, which takes far longer
        return tf32_allowed
    return lambda: multiplication(torch.float32)


@contextmanager
def _to_be_kept() -> Iterator[None]:
    """What is computed within it may be used and changed at any later time.

    Tensors of inference mode may not be changed outside it. Autocast keeps casts of weights until
    it ends: a graph must neither read these, nor leave its own there, which hold no values before a
    replay.
    """
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.inference_mode(False):
            yield
    finally:
        torch.set_autocast_cache_enabled(cached)
        torch.clear_autocast_cache()


def _prediction(network: nn.Module, example: tuple[Tensor, ...]) -> Callable[..., Any]:
    """Captured on a stream of its own, after calls that build and check the kernels."""
    inputs = [given.detach().clone() for given in example]
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                network(*inputs)
        torch.cuda.current_stream().wait_stream(side)

        # a network with an autocast of its own may have kept casts all the same
        torch.clear_autocast_cache()

        # PyTorch's own stream for captures is of the device of the process's first one. On a new
        # one the workspace of cuBLAS is memory of the graph, which nobody else frees.
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
            result = network(*inputs)

    lock = threading.Lock()

    def replay(*given: Tensor) -> Any:
        with lock, torch.no_grad():  # a call of another thread writes to the same memory
            for held, new in zip(inputs, given, strict=True):
                held.copy_(new)
            graph.replay()
            return tree_map_only(Tensor, torch.clone, result)  # the next replay overwrites it

    return replay


class _Step(nn.Module):
    """Stands around a network whose `forward` is to stay its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        torch.clear_autocast_cache()  # as in `_prediction`; a replay does not come here
        return self.network(*inputs)


def _step(network: nn.Module, example: tuple[Tensor, ...]) -> Callable[..., Any]:
    """Forward and backward pass; what the calls before the capture did to buffers is undone."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in network.buffers()]
    inputs = tuple(given.detach().clone().requires_grad_(given.requires_grad) for given in example)

    # PyTorch captures on this stream, which else is of the device of the process's first capture
    capture = torch.cuda.graph
    stream = capture.default_capture_stream
    capture.default_capture_stream = torch.cuda.Stream()
    try:
        step: Callable[..., Any] = torch.cuda.make_graphed_callables(
            _Step(network), inputs, num_warmup_iters=WARM_UP, allow_unused_input=True
        )
    finally:
        capture.default_capture_stream = stream
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return step
