"""What only the Triton kernels have: layouts as strides, paths through the tiles, workspaces, 64-bit offsets."""

import copy

import pytest
import torch
from strategies import normal
from test_block import block_as_function

import aea_kernels as aea
from aea_kernels import naive, testing
from aea_kernels.backends.triton import launching

pytestmark = pytest.mark.parametrize("backend", ["triton"], indirect=True, scope="module")

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "sliced": lambda x: torch.cat([x, x], 3).flatten(2).unflatten(2, (x.shape[2], -1))[..., : x.shape[3]],
    "transposed": lambda x: x.mT.contiguous().mT,
    "expanded": lambda x: x[:1].expand(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [False, True])
def test_block_output_and_every_gradient_in_every_layout(layout, training):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3, key_channels=4, value_channels=10).double().train(training)
    x = LAYOUTS[layout](normal(3, 6, 11, 13)).requires_grad_()
    testing.assert_parity(
        block_as_function(block, "triton"), block_as_function(block, "naive"), x, *block.parameters(), tolerance=1e-9
    )


@pytest.mark.parametrize("channels", [1, 130])
def test_block_of_one_channel_and_of_several_channel_tiles(channels):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(channels, heads=1, references=2).double().train()
    x = normal(2, channels, 5, 9).requires_grad_()
    testing.assert_parity(
        block_as_function(block, "triton"), block_as_function(block, "naive"), x, *block.parameters(), tolerance=1e-8
    )


@pytest.mark.parametrize("positions_inner", [False, True])
def test_operators_on_views_of_a_feature_map(positions_inner):
    def draw(seed):
        x = normal(2, 3, 5, 140, seed=seed).mT if positions_inner else normal(2, 140, 3, 5, seed=seed).transpose(1, 2)
        return x.requires_grad_()

    inputs = [draw(seed) for seed in range(3)]
    for ours, oracle in [(aea.linear_attention, naive.linear_attention), (aea.batch_attention, naive.batch_attention)]:
        testing.assert_parity(ours, oracle, *inputs, tolerance=1e-12)


def test_outputs_and_workspaces_poisoned_with_nan_first(monkeypatch):
    torch.manual_seed(0)
    block = aea.AugmentedAttention(6, references=3).train()
    x = normal(3, 6, 9, 15, dtype=torch.float32).requires_grad_()

    def run():
        y = copy.deepcopy(block)(x)
        return [y, *torch.autograd.grad(y.square().sum(), x)]

    clean = run()

    def poisoned(allocate):
        def wrapper(*arguments, **options):
            fresh = allocate(*arguments, **options)
            return fresh.fill_(torch.nan) if fresh.is_floating_point() else fresh

        return wrapper

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    assert all(torch.equal(a, b) for a, b in zip(clean, run(), strict=True))


def test_64_bit_offsets_give_the_same_bits(monkeypatch):
    block = aea.AugmentedAttention(6, references=3).eval()
    x = normal(2, 6, 9, 15, dtype=torch.float32)
    narrow = block(x)
    monkeypatch.setattr(launching.Maps, "constants", property(lambda maps: {"FLAT": maps.flat, "WIDE": True}))
    assert torch.equal(block(x), narrow)
