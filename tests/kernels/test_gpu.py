"""What only a GPU shows: graphs, streams, 64-bit offsets and real grids."""

import copy

import pytest
import torch
from oracle import block_as_function
from strategies import HERE, normal
from test_triton import LAYOUTS

import aea_kernels as aea
from aea_kernels import testing
from aea_kernels.backends.triton import primitives

pytestmark = [
    pytest.mark.skipif(HERE.type != "cuda", reason="needs a GPU: --device cuda"),
    pytest.mark.parametrize("backend", ["triton"], indirect=True, scope="module"),
]
DTYPES = [torch.float32, torch.bfloat16]


def step_of(block: aea.AugmentedAttention, x: torch.Tensor):
    """Output and every gradient of the block as it is, its running statistics left alone."""
    y = copy.deepcopy(block)(x) if block.training else block(x)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), [x], materialize_grads=True)]


def drawn_block(channels: int, **options) -> aea.AugmentedAttention:
    torch.manual_seed(0)
    return aea.AugmentedAttention(channels, **({"references": 5} | options))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [False, True])
def test_a_graph_replays_what_a_call_computes(dtype, training):
    block = drawn_block(64).train(training)
    block.norm.eval()  # running statistics do not move under the replays
    inputs = [normal(3, 64, 33, 40, dtype=dtype, seed=seed) for seed in range(3)]
    expected = [step_of(block, x.requires_grad_()) for x in inputs]
    place = torch.empty_like(inputs[0]).requires_grad_()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step_of(block, place)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step_of(block, place)
    for x, results in zip(inputs, expected, strict=True):
        with torch.no_grad():
            place.copy_(x)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(found, results, strict=True))


def test_streams_do_not_disturb_one_another():
    block = drawn_block(64).train()
    inputs = [
        normal(2, 64, 96, 100 + i, dtype=torch.float32, seed=i).requires_grad_() for i in range(4)
    ]
    expected = [step_of(block, x) for x in inputs]
    torch.cuda.synchronize()
    streams, found = [torch.cuda.Stream() for _ in inputs], [None] * len(inputs)
    for _ in range(5):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                found[i] = step_of(block, inputs[i])
    torch.cuda.synchronize()
    for ours, results in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, results, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_programs_give_the_same_bits_every_time(dtype):
    """As many splits as the GPU has places, of a shape of the network's training."""
    block = drawn_block(128).train()
    x = normal(8, 128, 64, 64, dtype=dtype).requires_grad_()
    first = step_of(block, x)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(step_of(block, x), first, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [64, 128])
def test_error_budget_at_full_size(dtype, channels):
    """Grids and numbers of steps that the small maps of the other tests do not have; the eager
    backend in float64.
    """
    block = drawn_block(channels).train()
    x = normal(1, channels, 236, 320, dtype=dtype).requires_grad_()
    parameters = [p.detach().to(dtype).requires_grad_() for p in block.parameters()]
    testing.assert_within_error_budget(
        block_as_function(block, "triton"), block_as_function(block, "eager"), x, *parameters
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@torch.no_grad()
def test_feature_maps_of_more_than_2_to_31_elements(layout):
    """The last rows of the last image are what they are alone; 4.4 GB each of x, y and dx, up to 18
    GB in all.
    """
    x = torch.randn(2, 64, 4136, 4136, dtype=torch.bfloat16)
    assert x.numel() > 2**31
    x = LAYOUTS[layout](x)
    end = x[1:, :, -3:].clone(memory_format=torch.contiguous_format)
    norm = [torch.ones(64), torch.zeros(64), torch.zeros(64).double(), torch.ones(64).double()]
    gram = primitives.moments(x, norm, 1e-5, None, 2)
    parts = [
        primitives.moments(x[1:, :, rows], norm, 1e-5, None, 1)
        for rows in (slice(0, 2000), slice(2000, None))
    ]
    torch.testing.assert_close(
        gram[1:], parts[0] + parts[1], rtol=1e-3, atol=1e-3 * float(gram[1].abs().max())
    )
    mean, variance = primitives.statistics(x)
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-3)
    torch.testing.assert_close(variance, torch.ones_like(variance), rtol=1e-3, atol=0)
    projections = [
        p.detach() for name, p in drawn_block(64, norm=None, references=0).named_parameters()
    ]
    y, matrix = primitives.attend_to_moments(x, norm, 1e-5, gram, projections, 2, 0.2)
    alone, _ = primitives.attend_to_moments(end, norm, 1e-5, gram[1:], projections, 2, 0.2)
    torch.testing.assert_close(y[1:, :, -3:], alone, rtol=0.02, atol=0.02)
    del y
    grams = gram / gram[:, -1:, -1:]
    grad, _ = primitives.features_backward(x, x, norm, 1e-5, False, matrix, grams)
    alone, _ = primitives.features_backward(end, end, norm, 1e-5, False, matrix[1:], grams[1:])
    torch.testing.assert_close(grad[1:, :, -3:], alone, rtol=0.02, atol=0.02)


@torch.no_grad()
def test_more_images_than_the_other_axes_of_a_grid_take():
    x = normal(70_000, 3, 2, 2, dtype=torch.float32)
    found = aea.moments(x)
    with aea.use_backend("eager"):
        expected = aea.moments(x)
    torch.testing.assert_close(found.gram, expected.gram)
