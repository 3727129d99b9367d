"""A training step as a CUDA graph: replayed, it is the same step. Without a GPU, an emulation
records and replays.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toys import toy_pair

from aeanet.data.pairs import PairSet
from aeanet.networks.registry import build_model
from aeanet.training import Recipe, RecipeError, TrainingProgress, train
from aeanet.training.sources import PairSource
from aeanet.training.step import TrainingStep

PAIRS = [toy_pair(0), toy_pair(1)]
RECIPE = Recipe.short(steps=6, batch=4, crop=16, freeze=0.5)


class Emulated(TorchDispatchMode):
    """A CUDA graph on the CPU: the operations of a pass, replayed on the tensors it was recorded
    with.

    As with the real one, whatever Python decides is decided once, and no operation may hand a value
    to Python.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value was read on the CPU"
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, recorded in self.calls:
            results = tree_leaves(func(*args, **kwargs))
            for tensor, result in zip(tree_leaves(recorded), results, strict=True):
                if isinstance(tensor, torch.Tensor) and tensor is not result:
                    tensor.copy_(result)


@contextmanager
def emulated_graphs() -> Iterator[list[Emulated]]:
    """Within it, `torch.cuda` records with `Emulated`; the list is of the graphs."""
    graphs: list[Emulated] = []

    def new() -> Emulated:
        graphs.append(Emulated())
        return graphs[-1]

    def stream_of(device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(device=device, wait_stream=lambda _: None)

    # without a stream it would be one of the device of the process's first recording
    def record(graph: Emulated, *, stream: SimpleNamespace) -> Emulated:
        assert stream.device == torch.device("cpu")  # where the batches are
        return graph

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "Stream", stream_of)
        patch.setattr(torch.cuda, "current_stream", stream_of)
        patch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        patch.setattr(torch.cuda, "CUDAGraph", new)
        patch.setattr(torch.cuda, "graph", record)
        yield graphs


def steps(
    name: str, recipe: Recipe, *, captured: bool
) -> tuple[list[float], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = build_model(name).train()
    step = TrainingStep(model, recipe)
    step.cuda_graph = captured
    losses = []
    batches = PairSource(PairSet(PAIRS, {}), recipe).batches(0)
    for number, (lr, hr, _, _) in enumerate(batches):
        now = TrainingProgress(step=number, used=number / recipe.steps)
        losses.append(float(step(lr, hr, now)))
    assert len(losses) == recipe.steps
    return losses, model.state_dict()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["aeanet", "unet"])
def test_replayed_passes_are_the_same_training(name: str, precision: str) -> None:
    recipe = replace(RECIPE, precision=precision)
    losses, expected = steps(name, recipe, captured=False)
    with emulated_graphs() as graphs:
        replayed, found = steps(name, recipe, captured=True)
    assert len(graphs) == 2  # a second one for the frozen statistics
    assert replayed == losses
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_graphs_are_the_same_training() -> None:
    recipe = replace(RECIPE, deterministic=True)
    expected, found = (
        train(PAIRS, recipe, cuda_graph=graph).model.state_dict() for graph in (False, True)
    )
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_a_graph_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs one process on a CUDA device"):
        train(PAIRS, RECIPE, cuda_graph=True)
