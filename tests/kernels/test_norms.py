"""GroupNorm, LayerNorm and RMSNorm before the attention, against torch's own modules around the
paper's equations.
"""

import copy

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from oracle import block_as_function, oracle
from rounding import assert_same_but_for_rounding
from strategies import HERE, blocks, for_all, spatial_shapes, tensors
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import gradcheck, gradgradcheck

import aea_kernels as aea
from aea_kernels import testing
from aea_kernels.block import norms
from aea_kernels.block.function import attention_block
from aea_kernels.block.spec import Norm, Projections

KINDS = ("group", "layer", "rms")


def drawn_block(channels: int, norm: str, seed: int = 0, **options) -> aea.AugmentedAttention:
    """With no parameter at its initial value."""
    torch.manual_seed(seed)
    options = {"references": 3, "groups": 2} | options
    block = aea.AugmentedAttention(channels, norm=norm, **options).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=channels**-0.5)
    return block


def assume_varied(block: aea.AugmentedAttention, x: torch.Tensor) -> None:
    """What the norm divides by is not small: there its derivative cancels, in torch's own modules
    too.
    """
    if isinstance(block.norm, nn.GroupNorm):
        spread = x.detach().reshape(len(x), block.norm.num_groups, -1).var(-1, correction=0)
    elif isinstance(block.norm, nn.LayerNorm):
        spread = x.detach().var(1, correction=0)
    else:
        spread = x.detach().square().mean(1)
    assume(spread.min() > 1e-2)


@pytest.mark.parametrize("norm", KINDS)
@for_all(
    interpreted=2,
    batch=st.sampled_from([1, 2, 3, 5]),
    spatial=spatial_shapes(),
    training=st.booleans(),
    data=st.data(),
)
def test_output_and_every_gradient(backend, norm, batch, spatial, training, data):
    block = data.draw(blocks(norms=[norm]))
    x = data.draw(tensors((batch, block.channels, *spatial), requires_grad=True))
    assume_varied(block, x)
    block.train(training)
    testing.assert_parity(
        block_as_function(block, backend),
        oracle(block),
        x,
        *block.parameters(),
        tolerance=1e-9,
    )


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(3, 6, affine=False, eps=1e-3), nn.LayerNorm(6, bias=False, eps=0.1)]
)
def test_another_module_may_take_the_place_of_the_norm(backend, norm):
    block = drawn_block(6, "group").train()
    block.norm = norm.double()
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    testing.assert_parity(
        block_as_function(block, backend),
        oracle(block),
        x,
        *block.parameters(),
        tolerance=1e-10,
    )


@pytest.mark.parametrize("ratio", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("norm", KINDS)
def test_error_budget_where_the_mean_is_large(backend, norm, spread, ratio):
    """Mean by deviation, beside PyTorch's own norm in float32; `spread` of the means between
    channels.
    """
    if backend == "triton" and (
        ratio < 100 or (norm, spread) not in {("group", 1.0), ("layer", 0.0)}
    ):
        pytest.skip("in the interpreter the hardest of each kernel's own arithmetic")
    draws = 4 if backend == "eager" else 1  # a bias alone has too few numbers for errors to average
    blocks = [
        drawn_block(32, norm, seed=seed, groups=4, references=8).float().train()
        for seed in range(draws)
    ]
    generator = torch.Generator(HERE).manual_seed(1)
    means = 1 + spread * torch.rand(draws, 1, 32, 1, 1, generator=generator)
    x = (ratio * means + torch.randn(draws, 3, 32, 12, 15, generator=generator)).requires_grad_()
    every = [
        torch.stack(p).detach().requires_grad_()
        for p in zip(*(b.parameters() for b in blocks), strict=True)
    ]

    def of_each_draw(function):
        return lambda *inputs: torch.stack([function(*each) for each in zip(*inputs, strict=True)])

    testing.assert_within_error_budget(
        of_each_draw(block_as_function(blocks[0], backend)),
        of_each_draw(oracle(blocks[0])),
        x,
        *every,
    )


def test_without_the_pivot_digits_are_lost(backend, monkeypatch):
    """At mean / deviation = 100, of an output as large as x: about 2e-7 with the pivot, and 1e-5
    without, more or less by how factors are rounded.
    """
    block = drawn_block(16, "group", groups=4).float().eval()
    with torch.no_grad():
        block.output.weight.mul_(100)
        x = 100 + torch.randn(2, 16, 12, 15, generator=torch.Generator(HERE).manual_seed(1))

        def error() -> float:
            exact = oracle(block)(x.double(), *(p.double() for p in block.parameters()))
            return float((block(x) - exact).norm() / exact.norm())

        with_pivot = error()
        assert with_pivot < 3e-7
        zero = lambda x, groups: x.new_zeros(x.shape[:2])  # noqa: E731
        monkeypatch.setattr(f"aea_kernels.backends.{backend}.pivot", zero)
        assert error() > 20 * with_pivot


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", KINDS)
def test_error_budget_of_16_bits(backend, norm, dtype):
    if backend == "triton" and (dtype == torch.float16 or norm == "rms"):
        pytest.skip("in the interpreter one of two dtypes and one of two norms over channels")
    block = drawn_block(16, norm, groups=4).to(dtype).train()
    generator = torch.Generator(HERE).manual_seed(2)
    x = (3 + torch.randn(3, 16, 9, 11, generator=generator)).to(dtype).requires_grad_()
    testing.assert_within_error_budget(
        block_as_function(block, backend), oracle(block), x, *block.parameters()
    )


@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("ratio", [0.0, 100.0])
@torch.no_grad()
def test_tiles_know_the_whole_image_by_its_moments(backend, norm, ratio):
    if backend == "triton" and ratio == 0.0:
        pytest.skip("in the interpreter the harder of the two")
    block = drawn_block(6, norm).eval()
    x = ratio + torch.randn(2, 6, 9, 12, dtype=torch.float64)
    whole = block(x)
    parts = [x[..., :5], x[..., 5:6], x[..., 6:]]
    summaries = [block.summarize(part) for part in parts]
    block.keys = sum(summaries[1:], summaries[0])
    tiled = torch.cat([block(part) for part in parts], -1)
    torch.testing.assert_close(tiled, whole, rtol=1e-11, atol=1e-11)
    block.float()  # the same from float32 tiles, to float32's digits
    summaries = [block.summarize(part.float()) for part in parts]
    block.keys = sum(summaries[1:], summaries[0])
    tiled = torch.cat([block(part.float()) for part in parts], -1)
    torch.testing.assert_close(tiled.double(), whole, rtol=2e-6, atol=1e-5 + 1e-6 * ratio)


@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("reference_images", [0, 1, 3])
def test_first_and_second_derivatives(backend, norm, reference_images):
    if backend == "triton":
        pytest.skip(
            "first derivatives are held against the oracle; second ones are those of operators"
        )
    channels, width = 4, 4

    def function(x, weight, bias, *rest):
        *projections, references = rest
        given = Norm(norm, weight, bias, eps=1e-3, groups=2)
        return attention_block(
            x,
            given,
            Projections(*projections),
            references,
            heads=2,
            scale=0.7,
            reference_images=reference_images,
        )[0]

    generator = torch.Generator(HERE).manual_seed(0)
    shapes = [(3, channels, 2, 2), (channels,), (channels,)]
    shapes += [(width, channels), (width,)] * 3 + [(channels, width), (channels,), (2, channels)]
    inputs = [
        torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes
    ]
    assert gradcheck(function, inputs, nondet_tol=0, fast_mode=True)
    if backend == "eager":
        assert gradgradcheck(function, inputs, nondet_tol=0, fast_mode=True)


@pytest.mark.parametrize("norm", KINDS)
def test_one_graph_for_every_size_forward_and_backward(backend, norm):
    if backend == "triton":
        pytest.skip("what is compiled does not depend on the backend")
    torch.manual_seed(0)
    block = aea.AugmentedAttention(8, references=3, norm=norm, groups=2).train()
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend=counter)
    graphs = set()
    for batch, height, width in [(4, 5, 6), (3, 7, 4), (6, 5, 9)]:
        x = torch.randn(batch, 8, height, width, requires_grad=True)
        outputs = []
        for module in (compiled, block):
            y = module(x)
            gradients = torch.autograd.grad(y.square().sum(), [x, *block.parameters()])
            outputs.append([y, *gradients])
        for ours, expected in zip(*outputs, strict=True):
            assert_same_but_for_rounding(ours, expected)
        graphs.add(counter.frame_count)
    assert len(graphs) == 1
    torch._dynamo.reset()


@pytest.mark.parametrize("norm", KINDS)
def test_export_with_dynamic_sizes(backend, norm):
    if backend == "triton" and norm != "group":
        pytest.skip("what is exported does not depend on the backend; in the interpreter one norm")
    block = drawn_block(8, norm).float().eval()
    sizes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height"),
        3: torch.export.Dim("width"),
    }
    program = torch.export.export(block, (torch.randn(3, 8, 6, 5),), dynamic_shapes={"x": sizes})
    x = torch.randn(5, 8, 7, 4)
    assert_same_but_for_rounding(program.module()(x), block(x))


@pytest.mark.parametrize("norm", KINDS)
def test_autocast_does_not_lower_the_precision_of_sums(backend, norm):
    if backend == "triton":
        pytest.skip("the operators turn autocast off before they call a backend")
    block = drawn_block(8, norm).float().train()
    x = torch.randn(4, 8, 6, 6, requires_grad=True)
    plain = torch.autograd.grad(block(x).square().sum(), [x, *block.parameters()])
    with torch.autocast(x.device.type, torch.bfloat16):
        lowered = torch.autograd.grad(block(x).square().sum(), [x, *block.parameters()])
    for a, b in zip(lowered, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("norm", KINDS)
def test_nothing_the_size_of_the_input_is_kept_for_backward_but_the_input(backend, norm):
    if backend == "triton":
        pytest.skip("what is kept does not depend on the backend")
    block = drawn_block(8, norm).float().train()
    x = torch.randn(4, 8, 40, 40, requires_grad=True)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        block(x)
    large = [t for t in kept if t.numel() >= x.numel() // 8]
    assert [t.data_ptr() for t in large] == [x.data_ptr()]


@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3)])
def test_an_empty_feature_map_gives_an_empty_feature_map(backend, norm, shape):
    block = aea.AugmentedAttention(4, norm=norm, groups=2).train()
    x = torch.empty(shape, requires_grad=True)
    y = block(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape
    assert block.eval().summarize(x).gram.isfinite().all()


@pytest.mark.parametrize("norm", KINDS)
def test_relevance_is_query_times_reference_key(norm):
    block = drawn_block(6, norm).eval()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    z = block.norm(x).movedim(1, -1) if norm == "group" else block.norm(x.movedim(1, -1))
    expected = torch.einsum("bhwe,re->brhw", block.query(z), block.key(block.references))
    torch.testing.assert_close(block.relevance(x), expected)


def test_wide_blocks_on_kernels_take_the_route_through_projections(backend):
    """LayerNorm and RMSNorm need all channels of a position in one tile; GroupNorm does not."""
    for norm in KINDS:
        plan = aea.explain(aea.AugmentedAttention(160, norm=norm), (1, 160, 9, 9))
        assert plan.route == ("project" if backend == "triton" and norm != "group" else "fold")
    block = drawn_block(160, "layer", heads=1)
    x = torch.randn(1, 160, 3, 5, dtype=torch.float64, requires_grad=True)
    testing.assert_parity(
        block_as_function(block, backend),
        oracle(block),
        x,
        *block.parameters(),
        tolerance=1e-10,
    )


def test_boxes_smaller_than_the_map_change_nothing_but_rounding(monkeypatch, backend):
    if backend == "triton":
        pytest.skip("only the eager backend walks over chunks")
    monkeypatch.setattr("aea_kernels.backends.eager.walking.CHUNK_BYTES", 4096)
    for norm in KINDS:
        block = drawn_block(6, norm).train()
        x = torch.randn(5, 6, 20, 30, dtype=torch.float64)[:, :, ::2, 1:].requires_grad_()
        testing.assert_parity(
            block_as_function(block, "eager"),
            oracle(block),
            x,
            *block.parameters(),
            tolerance=1e-10,
        )


def test_the_pivot_of_a_constant_channel_is_exact():
    x = torch.full((2, 3, 7, 5), 0.1) * torch.tensor([1.0, 30.0, 1e4])[:, None, None]
    assert torch.equal(norms.pivot(x, groups=3), x[:, :, 0, 0])
    pairs = x.repeat_interleave(2, 1)
    assert torch.equal(norms.pivot(pairs, groups=3), pairs[:, :, 0, 0])


def test_parameters_are_those_of_the_modules_of_torch():
    for norm, module in [
        ("group", nn.GroupNorm(8, 48)),
        ("layer", nn.LayerNorm(48)),
        ("rms", nn.RMSNorm(48)),
    ]:
        block = aea.AugmentedAttention(48, norm=norm, groups=8)
        assert type(block.norm) is type(module)
        assert str(block.norm) == str(module)
        copy.deepcopy(block).norm.load_state_dict(module.state_dict())
