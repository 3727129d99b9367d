"""torch.compile, torch.export, opcheck and autocast: the library as the rest of PyTorch sees it."""

from __future__ import annotations

import copy
import shutil
import warnings
from functools import partial

import pytest
import strategies
import torch
from rounding import assert_same_but_for_rounding
from torch import library
from torch._dynamo.testing import CompileCounterWithBackend

import aea_kernels as aea
from aea_kernels.backends.samples import samples
from aea_kernels.block.route import route


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


normal = partial(strategies.normal, dtype=torch.float32)


def output_and_gradients(module, x):
    y = module(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])]


# one graph in the slow interpreter is enough: what is compiled does not depend on the backend
@pytest.mark.parametrize(
    ("backend", "norm_frozen"),
    [("eager", False), ("eager", True), ("triton", False)],
    indirect=["backend"],
)
def test_one_graph_for_every_size_forward_and_backward(backend, norm_frozen):
    """fullgraph, and neither a new image size nor a new batch compiles again."""
    torch.manual_seed(0)
    block = aea.AugmentedAttention(8, references=3).train()
    block.norm.train(not norm_frozen)
    plain = copy.deepcopy(block)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend=counter)
    graphs = set()
    for seed, (batch, height, width) in enumerate([(4, 5, 6), (3, 7, 4), (6, 5, 9)]):
        x = normal(batch, 8, height, width, seed=seed).requires_grad_()
        for ours, expected in zip(
            output_and_gradients(compiled, x), output_and_gradients(plain, x), strict=True
        ):
            assert_same_but_for_rounding(ours, expected)
        graphs.add(counter.frame_count)
    assert len(graphs) == 1
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(block.get_buffer(name), buffer)


NORMS = ("batch", "group", "layer", "rms", None)


@pytest.mark.parametrize("backend", ["eager"], indirect=True)  # what is compiled does not depend
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_one_graph_from_a_batch_of_two_on_with_every_norm(backend, norm, training):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(8, references=3, norm=norm, groups=4).train(training)
    plain = copy.deepcopy(block)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend=counter)
    graphs = set()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for batch, height, width in [(2, 5, 6), (3, 7, 4), (4, 3, 9)]:
            x = normal(batch, 8, height, width, seed=batch).requires_grad_()
            for ours, expected in zip(
                output_and_gradients(compiled, x), output_and_gradients(plain, x), strict=True
            ):
                assert_same_but_for_rounding(ours, expected)
            graphs.add(counter.frame_count)
    assert len(graphs) == 1
    assert not [w for w in warned if "aea" in w.filename or "lru_cache" in str(w.message)]


@pytest.mark.parametrize("backend", ["eager"], indirect=True)  # the route does not depend on it
def test_the_route_on_a_gpu_is_chosen_within_one_graph(backend):
    """Which route depends on how float32 is multiplied there."""
    gpu = torch.device("cuda")

    def function(x):
        return x + (1 if route(512, 8, 8, 2, torch.float32, gpu) == "project" else 2)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    x, before = torch.zeros(1), torch.get_float32_matmul_precision()
    try:
        for precision in ("highest", "medium", "highest"):
            torch.set_float32_matmul_precision(precision)
            assert torch.equal(compiled(x), function(x))
        routes = []
        for precision in (
            "tf32",
            "ieee",
        ):  # by the newer switch, after which the older ones refuse to answer
            torch.backends.cuda.matmul.fp32_precision = precision
            routes.append(compiled(x).item())
            assert torch.equal(compiled(x), function(x))
        assert routes[0] != routes[1]
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"
        torch.set_float32_matmul_precision(before)


def first_family(q, k, v):
    shared = k[0, :, :3], v[0, :, :3]
    return aea.reference_attention(q, k, v, *shared, scale=0.5) + aea.batch_attention(q, k, v)


def other_families(q, k, v):
    softmax = aea.efficient_attention(q, k, v, k[0, :, :3], v[0, :, :3], scale=0.5)
    return (
        softmax + aea.relu_linear_attention(q, k, v) + aea.channel_attention(q, k, v, q[0, :, 0, 0])
    )


@pytest.mark.parametrize("function", [first_family, other_families])
def test_operators_in_one_graph_for_every_size(backend, function):
    if backend == "triton" and function is other_families:
        pytest.skip("what is compiled does not depend on the backend; in the interpreter one graph")
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    graphs = set()
    for positions in (9, 12, 17):
        inputs = [normal(2, 3, positions, 5, seed=i).requires_grad_() for i in range(3)]
        ours, expected = compiled(*inputs), function(*inputs)
        assert_same_but_for_rounding(ours, expected)
        for a, b in zip(
            *(torch.autograd.grad(y.sum(), inputs) for y in (ours, expected)), strict=True
        ):
            assert_same_but_for_rounding(a, b)
        graphs.add(counter.frame_count)
    assert len(graphs) == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile for CPUs needs g++")
def test_inductor_in_bfloat16_and_channels_last(backend):
    block = aea.AugmentedAttention(8, references=3).eval()
    x = normal(2, 8, 6, 5, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    with torch.no_grad():
        y = torch.compile(lambda x: block(x * 2) + 1, fullgraph=True)(x)
        torch.testing.assert_close(y, block(x * 2) + 1)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_another_backend_compiles_again():
    pytest.importorskip("triton", reason="the package triton is not installed")
    function = torch.compile(
        lambda x: aea.linear_attention(x, x, x), fullgraph=True, backend="aot_eager"
    )
    x = normal(1, 1, 6, 4, dtype=torch.float64)
    for name in ("eager", "triton"):
        with aea.use_backend(name):
            torch.testing.assert_close(function(x), aea.reference.linear_attention(x, x, x))


def test_export_with_dynamic_sizes(backend):
    block = aea.AugmentedAttention(8, references=3).eval()
    sizes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height"),
        3: torch.export.Dim("width"),
    }
    program = torch.export.export(block, (normal(3, 8, 6, 5),), dynamic_shapes={"x": sizes})
    for shape in [(3, 8, 6, 5), (5, 8, 9, 12)]:
        assert_same_but_for_rounding(program.module()(normal(*shape)), block(normal(*shape)))


@pytest.mark.parametrize("backend", ["eager"], indirect=True)  # what is exported does not depend
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_strict_export_with_a_dynamic_batch(backend, norm, training):
    block = aea.AugmentedAttention(8, references=3, norm=norm, groups=4).train(training)
    sizes = {axis: torch.export.Dim(name) for axis, name in {0: "n", 2: "h", 3: "w"}.items()}
    program = torch.export.export(
        block, (normal(3, 8, 6, 5),), dynamic_shapes=(sizes,), strict=True
    )
    for shape in [(2, 8, 6, 5), (3, 8, 4, 7), (6, 8, 9, 12)]:
        assert_same_but_for_rounding(program.module()(normal(*shape)), block(normal(*shape)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck_of_every_operator(backend, dtype):
    """Schema, fake results against real ones, functionalisation with dynamic shapes."""
    if backend == "triton" and dtype == torch.float32:
        pytest.skip("in the interpreter the dtype that sums are not in")
    calls = [call for call in samples(dtype, strategies.HERE) if not call.wide]
    every = torch._C._dispatch_get_all_op_names()
    registered = {name for name in every if name.startswith("aea::")}
    assert {f"aea::{sample.operator}" for sample in calls} == registered
    # how an operator is traced does not depend on the backend
    checks = ["test_schema", "test_faketensor"]
    if backend == "eager":
        checks += ["test_autograd_registration", "test_aot_dispatch_dynamic"]
    for sample in calls:
        operator = getattr(torch.ops.aea, sample.operator).default
        arguments = (*map(in_channels_last, sample.arguments), backend)
        library.opcheck(operator, arguments, test_utils=checks)


def in_channels_last(argument):
    """Tensors of four axes with the second one innermost, all else as it is."""
    if isinstance(argument, torch.Tensor) and argument.dim() == 4:
        return argument.to(memory_format=torch.channels_last)
    return argument


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_compiled_is_autocast_eager(backend, dtype):
    if backend == "triton":
        pytest.skip("the operators turn autocast off before they call a backend")
    block = aea.AugmentedAttention(8, references=3).train()
    twin = copy.deepcopy(block)
    x = normal(4, 8, 5, 6).requires_grad_()
    with torch.autocast(x.device.type, dtype):
        ours = output_and_gradients(torch.compile(block, fullgraph=True, backend="aot_eager"), x)
        expected = output_and_gradients(twin, x)
    for a, b in zip(ours, expected, strict=True):
        assert_same_but_for_rounding(a, b)
