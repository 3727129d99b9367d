"""The eager backend where tensors are not on a CPU: few calls, each over the whole map."""

from __future__ import annotations

import pytest
import torch
from oracle import block_as_function, oracle
from strategies import normal
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import aea_kernels as aea
from aea_kernels import backends, testing
from aea_kernels.backends.eager import walking

pytestmark = pytest.mark.parametrize("backend", ["eager"], indirect=True, scope="module")

KINDS = ["batch", None, "group", "layer", "rms"]
SHAPES = [(1, 64, 944, 1280), (1, 128, 236, 320), (8, 128, 64, 64)]


class OnGpu(TorchDispatchMode):
    """Runs ``aea::`` operators on the eager backend, as on a GPU without the kernels."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "aea":
            primitive = getattr(backends.eager, function._opname)
            with self:
                return primitive(*args[:-1])
        result = function(*args, **kwargs or {})
        self.after(function, args, result)
        return result


class Calls(OnGpu):
    """Counts the operations of ATen that compute or move something."""

    number = 0

    def after(self, function, args, result):
        a_view = function.is_view and torch._C._is_alias_of(args[0], tree_leaves(result)[0])
        self.number += not a_view and "empty" not in function.name()


class Memory(OnGpu):
    """The most bytes that are alive at once of what is allocated inside."""

    most = 0

    def __init__(self):
        super().__init__()
        self.alive = {}

    def after(self, function, args, result):
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage()
            self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {k: entry for k, entry in self.alive.items() if not entry[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.alive.values()))


def on_gpu(shape, dtype, norm):
    """A block and a feature map that hold nothing, on a device that is no CPU."""
    block = aea.AugmentedAttention(shape[1], norm=norm).to("meta")
    return block, torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)


@pytest.mark.parametrize(
    ("norm", "forward_calls", "step_calls"),
    [("batch", 36, 120), (None, 20, 65), ("group", 40, 118), ("layer", 39, 120), ("rms", 40, 119)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_one_forward_and_of_a_training_step(
    shape, dtype, norm, forward_calls, step_calls, backend
):
    block, x = on_gpu(shape, dtype, norm)
    with torch.no_grad(), Calls() as forward:
        block.eval()(x)
    with Calls() as step:
        block.train()(x).backward(torch.empty_like(x))
    assert forward.number <= forward_calls
    assert step.number <= step_calls


def as_one_writes_it(block, x):
    """The block in prediction in a few lines of PyTorch."""
    channels, positions = x.shape[1], x.flatten(2).mT
    if block.norm is None:
        z = positions
    elif isinstance(block.norm, torch.nn.LayerNorm | torch.nn.RMSNorm):
        z = block.norm(positions)
    else:
        z = block.norm(x).flatten(2).mT
    if isinstance(block.norm, torch.nn.BatchNorm2d):
        z = torch.nn.functional.relu6(z)
    query, key, value = (
        project(z).unflatten(2, (block.heads, -1)).transpose(1, 2)
        for project in (block.query, block.key, block.value)
    )
    summary = key.mT @ value * (block.scale / positions.shape[1])
    attended = (query @ summary).transpose(1, 2).reshape(-1, positions.shape[1], channels)
    return x + block.output(attended).mT.reshape(x.shape)


@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True])
def test_memory_is_at_most_that_of_plain_pytorch(dtype, norm, training, backend):
    def most(run):
        block, x = on_gpu(SHAPES[1], dtype, norm)
        with torch.set_grad_enabled(training), Memory() as memory:
            y = run(block.train(training), x)
            if training:
                y.backward(torch.empty_like(x))
        return memory.most / x.nbytes

    ours = most(lambda block, x: block(x))
    plain = most(lambda block, x: as_one_writes_it(block.to(x.dtype), x))
    assert ours <= 1.005 * plain  # matrices of C x C are not counted


@pytest.mark.parametrize("norm", KINDS)
def test_one_chunk_and_split_products_give_the_same(norm, monkeypatch, backend):
    monkeypatch.setattr(walking, "stays_in_cache", lambda device: False)
    monkeypatch.setattr(walking, "SPLIT_POSITIONS", 32)
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3, norm=norm, groups=2).double().train()
    x = normal(5, 6, 20, 30, dtype=torch.float64)[:, :, ::2, 1:].requires_grad_()
    testing.assert_parity(
        block_as_function(block, "eager"), oracle(block), x, *block.parameters(), tolerance=1e-10
    )


@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_error_budget_of_16_bits_in_one_chunk(norm, layout, monkeypatch, backend):
    monkeypatch.setattr(walking, "stays_in_cache", lambda device: False)
    torch.manual_seed(0)
    block = aea.AugmentedAttention(16, references=3, norm=norm, groups=4).bfloat16().train()
    x = (3 + normal(3, 16, 9, 11, seed=2)).to(torch.bfloat16, memory_format=layout)
    testing.assert_within_error_budget(
        block_as_function(block, "eager"), oracle(block), x.requires_grad_(), *block.parameters()
    )


@pytest.mark.parametrize("operator", ["relu_linear_attention", "efficient_attention"])
def test_the_other_families_in_one_chunk(operator, monkeypatch, backend):
    monkeypatch.setattr(walking, "stays_in_cache", lambda device: False)
    monkeypatch.setattr(walking, "SPLIT_POSITIONS", 32)
    inputs = [normal(2, 3, 150, 4, dtype=torch.float64, seed=i).requires_grad_() for i in range(3)]
    ours, theirs = (getattr(module, operator) for module in (aea, aea.reference))
    testing.assert_parity(ours, theirs, *inputs, tolerance=1e-10)
