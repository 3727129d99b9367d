"""Theorems 1 and 2 and the order of images in Eq. 5, under arbitrary permutations, rotations and
flips.
"""

import pytest
import torch
from hypothesis import strategies as st
from strategies import blocks, for_all, normal, spatial_shapes, tensors

import aea_kernels as aea
from aea_kernels import testing


def project(x, width, seed):
    """Queries, keys and values of a feature map (B, C, S) -> (B, 2, S, width), by fixed random 1x1
    projections.
    """
    for i in range(3):
        weight = normal(2, width, x.shape[1], dtype=x.dtype, seed=seed + i)
        yield torch.einsum("hec,bcs->bhse", weight, x)


def operators(references):
    r = references.to(torch.float64)
    return {
        "self": aea.linear_attention,
        "references": lambda q, k, v: aea.reference_attention(q, k, v, r, r),
        "batch": aea.batch_attention,
    }


@pytest.mark.parametrize("operator", ["self", "references", "batch"])
@for_all(data=st.data(), positions=st.integers(1, 60), batch=st.integers(1, 3))
def test_theorems_1_and_2_operators_are_equivariant(operator, data, positions, batch):
    x = data.draw(tensors((batch, 4, positions)))
    function = operators(normal(2, 5, 3, seed=1))[operator]
    testing.assert_permutation_equivariant(
        lambda x: function(*project(x, 3, 0)).transpose(2, 3), x, positions=[-1]
    )


@for_all(data=st.data(), positions=st.integers(1, 60), batch=st.integers(1, 3))
def test_theorem_1_a_learned_query_is_invariant(data, positions, batch):
    x = data.draw(tensors((batch, 4, positions)))
    query = normal(2, 7, 3, seed=1)

    def function(x):
        _, key, value = project(x, 3, 0)
        return aea.learned_query_attention(query, key, value)

    testing.assert_permutation_invariant(function, x)


@for_all(
    block=blocks(),
    batch=st.sampled_from([1, 2, 3]),
    spatial=spatial_shapes(),
    training=st.booleans(),
    data=st.data(),
)
def test_the_block_is_equivariant_to_every_permutation(block, batch, spatial, training, data):
    x = data.draw(tensors((batch, block.channels, *spatial)))
    testing.assert_permutation_equivariant(block.train(training), x, tolerance=1e-9)


@for_all(
    interpreted=2, block=blocks(), side=st.integers(1, 9), data=st.data(), training=st.booleans()
)
def test_the_block_is_equivariant_to_rotations_and_flips(block, side, data, training):
    x = data.draw(tensors((2, block.channels, side, side + 1)))
    testing.assert_equivariant(block.train(training), x, testing.d4, tolerance=1e-9)


@for_all(data=st.data(), positions=st.integers(1, 40), batch=st.integers(2, 5))
def test_equation_5_does_not_depend_on_the_order_of_the_images(data, positions, batch):
    x = data.draw(tensors((batch, 4, positions)))
    testing.assert_equivariant(
        lambda x: aea.batch_attention(*project(x, 3, 0)),
        x,
        testing.batch_order,
        positions=[-1],
        tolerance=1e-10,
    )


@for_all(block=blocks(), data=st.data())
def test_the_batch_aware_half_does_not_depend_on_the_order_of_its_images(block, data):
    block.batch_aware = True
    x = data.draw(tensors((6, block.channels, 3, 3), layouts=["contiguous"]))
    testing.assert_equivariant(block.train(), x, testing.batch_order_of(3, 4, 5), tolerance=1e-9)


class TestTheAssertionsCanFail:
    def test_parity_of_gradients(self):
        x = torch.randn(5, requires_grad=True)
        with pytest.raises(AssertionError, match="gradient of input 0 differs"):
            testing.assert_parity(lambda x: 2 * x - x.detach(), lambda x: x, x)

    def test_error_budget(self):
        x = torch.randn(2000)
        with pytest.raises(AssertionError, match="exceeds the budget"):
            testing.assert_within_error_budget(
                lambda x: x.bfloat16().float().square(), torch.square, x
            )
        with pytest.raises(AssertionError, match="not finite"):
            testing.assert_within_error_budget(lambda x: x / 0, lambda x: x, x)
