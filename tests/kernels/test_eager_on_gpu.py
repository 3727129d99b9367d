"""The eager backend where tensors are not on a CPU: few calls, each over the whole map."""

from __future__ import annotations

import pytest
import torch
from oracle import block_as_function, oracle
from strategies import normal
from torch.utils._python_dispatch import TorchDispatchMode

import aea_kernels as aea
from aea_kernels import backends, testing
from aea_kernels.backends.eager import walking

pytestmark = pytest.mark.parametrize("backend", ["eager"], indirect=True, scope="module")

SHAPES = [(1, 64, 944, 1280), (1, 128, 236, 320), (8, 128, 64, 64)]


class Calls(TorchDispatchMode):
    """Counts the operations of ATen that compute or move something; those inside ``aea::``
    operators run on the eager backend, as on a GPU.
    """

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "aea":
            primitive = getattr(backends.eager, function._opname)
            with self:
                return primitive(*args[:-1])
        result = function(*args, **kwargs or {})
        moves = not function.is_view or (function.name() == "aten::to" and result is not args[0])
        self.number += moves and "empty" not in function.name()
        return result


@pytest.mark.parametrize(
    ("norm", "forward_calls", "step_calls"),
    [("batch", 40, 120), (None, 40, 120), ("group", 65, 190), ("layer", 60, 160), ("rms", 50, 140)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_one_forward_and_of_a_training_step(
    shape, dtype, norm, forward_calls, step_calls, backend
):
    """Tensors of the meta device hold nothing, and are not on a CPU.

    Maps of 16 bits are copied into float32 and back, at most once in each of a step's nine walks.
    """
    copies = (3, 9) if dtype == torch.bfloat16 else (0, 0)
    if shape[0] > 1:  # sums over the groups of images
        copies = copies[0] + 1, copies[1] + 5
    block = aea.AugmentedAttention(shape[1], norm=norm).to("meta")
    x = torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)
    with torch.no_grad(), Calls() as forward:
        block.eval()(x)
    with Calls() as step:
        block.train()(x).backward(torch.empty_like(x))
    assert forward.number <= forward_calls + copies[0]
    assert step.number <= step_calls + copies[1]


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_one_chunk_and_split_products_give_the_same(norm, monkeypatch, backend):
    monkeypatch.setattr(walking, "stays_in_cache", lambda device: False)
    monkeypatch.setattr(walking, "SPLIT_POSITIONS", 32)
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3, norm=norm, groups=2).double().train()
    x = normal(5, 6, 20, 30, dtype=torch.float64)[:, :, ::2, 1:].requires_grad_()
    testing.assert_parity(
        block_as_function(block, "eager"), oracle(block), x, *block.parameters(), tolerance=1e-10
    )


@pytest.mark.parametrize("operator", ["relu_linear_attention", "efficient_attention"])
def test_the_other_families_in_one_chunk(operator, monkeypatch, backend):
    monkeypatch.setattr(walking, "stays_in_cache", lambda device: False)
    monkeypatch.setattr(walking, "SPLIT_POSITIONS", 32)
    inputs = [normal(2, 3, 150, 4, dtype=torch.float64, seed=i).requires_grad_() for i in range(3)]
    ours, theirs = (getattr(module, operator) for module in (aea, aea.reference))
    testing.assert_parity(ours, theirs, *inputs, tolerance=1e-10)
