"""The whole block against the paper's block with the map in float64: output, all gradients, BN's
running statistics.
"""

import copy

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from oracle import block_as_function, oracle
from strategies import blocks, for_all, normal, spatial_shapes, tensors

import aea_kernels as aea
from aea_kernels import testing
from aea_kernels.block.function import attention_block
from aea_kernels.block.spec import Norm, Projections

batches = st.sampled_from([1, 2, 3, 8])


def variances(x: torch.Tensor) -> torch.Tensor:
    """The variance of each channel, (C,)."""
    return x.detach().movedim(1, 0).flatten(1).var(1, correction=0)


def assume_varied(x: torch.Tensor) -> None:
    """No channel is almost constant: BN divides by its deviation, and its derivative cancels where
    that is small.
    """
    assume(x[:, 0].numel() >= 4)
    assume(variances(x).min() > 0.05)


WITHOUT = ("batch", None)
"""Those of the other norms are in test_norms.py."""


@for_all(
    block=blocks(norms=WITHOUT),
    batch=batches,
    spatial=spatial_shapes(),
    training=st.booleans(),
    data=st.data(),
)
def test_output_and_every_gradient(backend, block, batch, spatial, training, data):
    x = data.draw(tensors((batch, block.channels, *spatial), requires_grad=True))
    if training and block.norm is not None:
        assume_varied(x)
    testing.assert_parity(
        block_as_function(block.train(training), backend),
        oracle(block.train(training)),
        x,
        *block.parameters(),
        tolerance=1e-9,
    )


@for_all(
    interpreted=3,
    block=blocks(norms=WITHOUT),
    batch=batches,
    spatial=spatial_shapes(),
    training=st.booleans(),
    data=st.data(),
)
def test_projecting_first_gives_the_same(backend, block, batch, spatial, training, data):
    """The other route, for narrow keys, against the same oracle."""
    x = data.draw(tensors((batch, block.channels, *spatial), requires_grad=True))
    if training and block.norm is not None:
        assume_varied(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aea_kernels.block.function.route", lambda *arguments: "project")
        testing.assert_parity(
            block_as_function(block.train(training), backend),
            oracle(block.train(training)),
            x,
            *block.parameters(),
            tolerance=1e-9,
        )


@for_all(
    block=blocks(norms=["batch"]),
    values=st.integers(2, 3),
    along_batch=st.booleans(),
    data=st.data(),
)
def test_batch_statistics_of_two_or_three_values(backend, block, values, along_batch, data):
    """Their variance is often small: BN's derivative then loses digits, in the oracle as much as
    here.
    """
    shape = (values, block.channels, 1) if along_batch else (1, block.channels, values)
    x = data.draw(tensors(shape, requires_grad=True))
    assume(variances(x).min() > 1e-3)
    testing.assert_parity(
        block_as_function(block.train(), backend),
        oracle(block.train()),
        x,
        *block.parameters(),
        tolerance=1e-7,
    )


@for_all(block=blocks(norms=["batch"]), batch=batches, spatial=spatial_shapes(), data=st.data())
def test_running_statistics_move_as_batch_norm_moves_them(block, batch, spatial, data):
    x = data.draw(tensors((batch, block.channels, *spatial)))
    assume(x[:, 0].numel() >= 2)  # of one value there is no unbiased variance
    oracle = copy.deepcopy(block.norm).train()
    block.train()
    for _ in range(2):
        block(x)
        oracle(x.reshape(batch, block.channels, -1, 1))
    for name, buffer in oracle.named_buffers():
        torch.testing.assert_close(getattr(block.norm, name), buffer, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [False, True])
@for_all(interpreted=1, data=st.data())
def test_error_budget(backend, dtype, training, data):
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    block = aea.AugmentedAttention(32, references=8).train(training)  # errors enough to average
    x = data.draw(
        tensors(
            (3, 32, 9, 11), dtype, ["contiguous", "channels_last", "sliced"], requires_grad=True
        )
    )
    parameters = [p.detach().to(dtype).requires_grad_() for p in block.parameters()]
    testing.assert_within_error_budget(
        block_as_function(block, backend), oracle(block), x, *parameters
    )


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_batch_statistics_keep_their_digits_where_the_mean_is_large(backend, offset):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(8, references=4).train()
    x = (torch.randn(4, 8, 16, 16) + offset).requires_grad_()
    testing.assert_within_error_budget(
        block_as_function(block, backend), oracle(block), x, *block.parameters()
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options", [{"affine": False}, {"affine": False, "track_running_stats": False}]
)
def test_batch_norm_without_weights_or_running_statistics(training, options):
    block = aea.AugmentedAttention(6, references=3).train(training)
    block.norm.train(training or "track_running_stats" in options)
    x = torch.randn(3, 6, 5, 4)
    expected = block(x)
    block.norm = torch.nn.BatchNorm2d(6, eps=block.norm.eps, **options).train(training)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=0)
    plan = aea.explain(block, tuple(x.shape), backward=training)
    assert any(launch.name == "statistics" for launch in plan.launches) == (
        training or len(options) > 1
    )


def test_tensors_that_hold_nothing_have_shapes():
    """By every route: folded, through projections, with the keys of other images, transformed."""
    folded = aea.AugmentedAttention(8, references=2)
    narrow = aea.AugmentedAttention(512, key_channels=16, value_channels=16)
    with_keys = copy.deepcopy(folded)
    with_keys.keys = with_keys.moments(torch.zeros(1, 8, 3)).sum_over_batch()
    with_keys.keys = aea.Moments(with_keys.keys.gram.to("meta"))
    for block in (folded, narrow, with_keys):
        x = torch.empty(2, block.channels, 3, device="meta")
        assert block.to("meta").eval()(x).shape == x.shape
    q = torch.empty(2, 2, 3, 4, device="meta")
    for operator in (aea.linear_attention, aea.relu_linear_attention, aea.efficient_attention):
        assert torch.func.vmap(operator)(q[None], q[None], q[None]).shape == (1, *q.shape)
        assert operator(q, q, q).shape == q.shape


@pytest.mark.parametrize("backend", ["eager"], indirect=True)  # the only one that walks over chunks
def test_many_boxes_give_the_same_as_one(monkeypatch, backend):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3).double().train()
    x = torch.randn(5, 6, 20, 30, dtype=torch.float64)[:, :, ::2, 1:].requires_grad_()
    monkeypatch.setattr("aea_kernels.backends.eager.walking.CHUNK_BYTES", 4096)
    testing.assert_parity(
        block_as_function(block, backend),
        oracle(block),
        x,
        *block.parameters(),
        tolerance=1e-10,
    )


def test_training_splits_the_batch_as_the_paper_does(backend):
    """The first floor(N/2) images see only themselves and the references, the others only each
    other.
    """
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3, norm=None).double().train()
    x = torch.randn(5, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    y = block(x)
    for image in range(5):
        seen = (
            torch.autograd.grad(y[image].sum(), x, retain_graph=True)[0].flatten(1).abs().sum(1) > 0
        )
        assert seen.tolist() == (
            [i == image for i in range(5)] if image < 2 else [i >= 2 for i in range(5)]
        )
    references = torch.autograd.grad(y[2:].sum(), block.references, allow_unused=True)[0]
    assert not references.any()


def test_prediction_does_not_depend_on_the_rest_of_the_batch(backend):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3).eval()
    x = torch.randn(3, 6, 8, 8)
    torch.testing.assert_close(block(x)[1:2], block(x[1:2]))


@for_all(interpreted=2, data=st.data())
def test_tiles_know_the_whole_image_by_its_moments(backend, data):
    torch.manual_seed(data.draw(st.integers(0, 2**16)))
    block = aea.AugmentedAttention(
        6,
        references=data.draw(st.sampled_from([0, 3])),
        norm=data.draw(st.sampled_from(WITHOUT)),
        key_channels=4,
    )
    block = block.double().eval()
    if block.norm is not None:
        torch.nn.init.uniform_(block.norm.running_var, 0.5, 2)
    x = torch.randn(2, 6, 9, 12, dtype=torch.float64)
    cut = data.draw(st.integers(1, 11))
    tiles = [x[..., :cut], x[..., cut:]]
    whole = block(x)
    block.keys = block.moments(tiles[0]) + block.moments(tiles[1])
    torch.testing.assert_close(torch.cat([block(tile) for tile in tiles], -1), whole)
    with pytest.raises(ValueError, match="they are for prediction"):
        block.train()(x)


@pytest.mark.parametrize("backend", ["eager"], indirect=True)  # what is kept does not depend on it
def test_nothing_the_size_of_the_input_is_kept_for_backward_but_the_input(backend):
    block = aea.AugmentedAttention(8, references=4).train()
    x = torch.randn(4, 8, 40, 40, requires_grad=True)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        block(x)
    large = [t for t in kept if t.numel() >= x.numel() // 8]
    assert [t.data_ptr() for t in large] == [x.data_ptr()]


def test_same_bits_every_time(backend):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(20, references=8).train()
    x = torch.randn(3, 20, 12, 16, requires_grad=True)

    def run():
        block.zero_grad()
        y = block(x)
        return [y, *torch.autograd.grad(y.square().sum(), [x, *block.parameters()])]

    first, second = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_input_layout_is_the_output_layout(backend):
    block = aea.AugmentedAttention(8).eval()
    x = torch.randn(2, 8, 6, 7).to(memory_format=torch.channels_last)
    assert block(x).is_contiguous(memory_format=torch.channels_last)
    assert block(x.contiguous()).is_contiguous()


def test_autocast_does_not_lower_the_precision_of_sums(backend):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(16).train()
    x = torch.randn(2, 16, 12, 12, requires_grad=True)
    twin = copy.deepcopy(block)
    plain = torch.autograd.grad(block(x).sum(), x)[0]
    with torch.autocast(x.device.type, torch.bfloat16):
        torch.testing.assert_close(torch.autograd.grad(twin(x).sum(), x)[0], plain, rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["batch", "layer", None])
def test_inputs_that_depend_on_each_other_have_the_same_gradients_with_a_graph(norm):
    """Two projections share a weight, and a third comes from x: each path counts once."""
    torch.manual_seed(0)
    block = aea.AugmentedAttention(4, references=2, norm=norm).double()
    block.key.weight = block.query.weight
    x = normal(3, 4, 3, 5).requires_grad_()
    value = block.value.weight * x.mean()
    y = torch.func.functional_call(block, {"value.weight": value}, (x,))
    inputs = x, block.query.weight, block.value.weight
    loss = y.square().sum()
    plain = torch.autograd.grad(loss, inputs, retain_graph=True)
    graph = torch.autograd.grad(loss, inputs, create_graph=True)
    for found, expected in zip(graph, plain, strict=True):
        torch.testing.assert_close(found.detach(), expected)


def test_relevance_is_query_times_reference_key():
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3).double().eval()
    torch.nn.init.normal_(block.query.bias)
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    z = torch.nn.functional.relu6(block.norm(x)).movedim(1, -1)
    expected = torch.einsum("bhwe,re->brhw", block.query(z), block.key(block.references))
    torch.testing.assert_close(block.relevance(x), expected)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_an_empty_feature_map_gives_an_empty_feature_map(shape, training, backend):
    block = aea.AugmentedAttention(4).train(training)
    before = block.norm.running_mean.clone()
    assert block(torch.empty(shape)).shape == shape
    assert torch.equal(block.norm.running_mean, before)


def test_the_functional_block_reports_the_statistics_it_used(backend):
    x = torch.randn(3, 4, 5, 6) * 3 + 1
    projections = Projections(*[torch.eye(4), torch.zeros(4)] * 4)
    norm = Norm("batch", torch.ones(4), torch.zeros(4), eps=1e-5)
    _, mean, variance = attention_block(x, norm, projections, None, heads=1, scale=1.0)
    torch.testing.assert_close(mean.float(), x.mean((0, 2, 3)))
    torch.testing.assert_close(variance.float(), x.var((0, 2, 3), correction=0))


def test_a_frozen_norm_trains_with_its_running_statistics(backend):
    """`norm.eval()` alone: the branches stay those of training, the statistics are kept and
    used.
    """
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3).double().train()
    block.norm.running_mean.normal_()
    block.norm.eval()
    x = torch.randn(5, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    before = block.norm.running_mean.clone()
    testing.assert_parity(
        block_as_function(block, backend),
        oracle(block),
        x,
        *block.parameters(),
        tolerance=1e-9,
    )
    seen = torch.autograd.grad(block(x)[4].sum(), x)[0].flatten(1).abs().sum(1) > 0
    assert seen.tolist() == [False, False, True, True, True]
    assert torch.equal(block.norm.running_mean, before)
