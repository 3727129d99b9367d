"""Products of frozen weights are kept until a weight changes, in every way in which it can."""

from __future__ import annotations

import copy
import gc

import pytest
import torch

import aea_kernels as aea
from aea_kernels.backends.triton import algebra, primitives
from aea_kernels.block import folding, frozen

pytestmark = pytest.mark.parametrize("backend", ["triton"], indirect=True, scope="module")


@pytest.fixture
def block():
    torch.manual_seed(0)
    return aea.AugmentedAttention(8, references=2).eval().requires_grad_(False)


@pytest.fixture
def computed(monkeypatch):
    """Grows by one whenever products are computed."""
    calls = []
    products = folding.products
    monkeypatch.setattr(
        folding, "products", lambda *arguments: calls.append(1) or products(*arguments)
    )
    return calls


def feature_map(dtype=torch.float32):
    torch.manual_seed(1)
    return torch.randn(1, 8, 3, 3, dtype=dtype)


def close_to_eager(y, block):
    with aea.use_backend("eager"), torch.no_grad():
        expected = copy.deepcopy(block)(feature_map(y.dtype))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_products_are_computed_by_the_second_call(block, computed):
    numbers = []
    for context in (torch.no_grad, torch.inference_mode, torch.no_grad):
        with context():
            close_to_eager(block(feature_map()), block)
        numbers.append(len(computed))
    assert numbers == [0, 1, 1]


@torch.no_grad()
def test_keys_of_another_image_are_folded_by_the_same_products(block, computed):
    for _ in range(2):
        whole = block(feature_map())
    block.keys = block.moments(feature_map())
    torch.testing.assert_close(block(feature_map()), whole)
    assert len(computed) == 1


def replaced(block):
    block.query.weight = torch.nn.Parameter(-block.query.weight, requires_grad=False)


def loaded(block, **options):
    state = {name: -value for name, value in block.state_dict().items()}
    state["norm.running_var"] = block.norm.running_var
    block.load_state_dict(state, **options)


def moved_and_back(block):
    """Rounded to bfloat16 on the way, into memory that may have the same address."""
    with torch.no_grad():
        block.key.weight.mul_(100.123)
    for _ in range(2):
        block(feature_map())
    block.to(torch.bfloat16)
    gc.collect()
    block.to(torch.float32)


@torch.inference_mode()
def changed_in_inference_mode(block):
    block.output.bias.add_(3)


def trained(block):
    block.requires_grad_(True)
    optimizer = torch.optim.SGD(block.parameters(), lr=5.0)
    block(feature_map()).square().sum().backward()
    optimizer.step()
    block.requires_grad_(False)


def other_memory(block):
    block.value.weight.data = -block.value.weight.data


def other_strides(block):
    block.key.weight.data = block.key.weight.data.T


CHANGES = {
    "in place": lambda block: block.value.weight.mul_(-1),
    "in place, in inference mode": changed_in_inference_mode,
    "another parameter": replaced,
    "load_state_dict": loaded,
    "load_state_dict(assign=True)": lambda block: loaded(block, assign=True),
    "to another dtype": lambda block: block.to(torch.float64),
    "to another dtype and back": moved_and_back,
    "an optimizer": trained,
    "other memory": other_memory,
    "the same memory, transposed": other_strides,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_weight_is_noticed(block, computed, change):
    with torch.no_grad():
        for _ in range(2):
            before = block(feature_map())
    CHANGES[change](block)
    for number in (len(computed), len(computed) + 1):
        with torch.no_grad():
            y = block(feature_map(block.key.weight.dtype))
        assert len(computed) == number
        assert not torch.equal(y, before)
        close_to_eager(y, block)


@pytest.mark.parametrize("what", ["a gradient of a weight", "a gradient of x", "more heads"])
def test_where_products_are_not_kept(block, computed, what):
    x = feature_map()
    if what == "more heads":
        block = aea.AugmentedAttention(8, heads=4, references=2).eval().requires_grad_(False)
    elif what == "a gradient of x":
        for _ in range(2):
            block(x.requires_grad_()).sum().backward()
        assert x.grad.abs().sum() > 0
    else:
        block.key.bias.requires_grad_(True)
    if what != "a gradient of x":
        with torch.no_grad():
            for _ in range(2):
                block(x)
    assert not computed


@torch.no_grad()
def test_a_graph_sees_weights_that_change_later(block, computed, monkeypatch):
    for _ in range(2):
        block(feature_map())
    monkeypatch.setattr(frozen, "capturing", lambda device: True)
    monkeypatch.setattr(
        primitives,
        "fold",
        lambda gram, given, *rest: taken.append(given) or fold(gram, given, *rest),
    )
    taken, fold = [], algebra.fold
    block(feature_map())
    assert taken[0][0] is block.query.weight


def test_nothing_is_kept_of_a_block_that_is_gone():
    block = aea.AugmentedAttention(8, references=2).eval().requires_grad_(False)
    with torch.no_grad():
        block(feature_map())
    number = len(frozen._kept)
    del block
    gc.collect()
    assert len(frozen._kept) == number - 1
