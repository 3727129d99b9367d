"""The groups: their sizes, their laws, and what each element does, against torch's own
functions.
"""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aea_kernels.testing import (
    Element,
    Group,
    UndefinedActionError,
    assert_equivariant,
    batch_order,
    batch_order_of,
    d4,
    equivariance_error,
    flips,
    permutations,
    permutations_of_patches,
    rotations,
    scale,
    translations,
)
from aea_kernels.testing.strategies import feature_maps, group_elements, normal

ONE = (Fraction(1), Fraction(1))


def elements(group, *shape):
    return group.elements(shape, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("group", "sizes"), [(rotations, (None, 3, 23)), (flips, (1, 3, 7)), (d4, (1, 7, 47))]
)
def test_as_many_elements_as_the_group_has(group, sizes):
    for axes, size in enumerate(sizes, start=1):
        if size is None:
            with pytest.raises(ValueError, match="need more axes of positions"):
                elements(group, 1, 1, *[4] * axes)
        else:
            acted = [
                e.act(normal(1, 1, *[4] * axes), (Fraction(1),) * axes)
                for e in elements(group, 1, 1, *[4] * axes)
            ]
            assert len(acted) == size
            assert len({tuple(a.flatten().tolist()) for a in acted}) == size


def test_the_eight_symmetries_of_a_square_are_those_of_torch():
    x = normal(1, 1, 3, 4)
    expected = [torch.rot90(y, k, (2, 3)) for y in (x, x.flip(2)) for k in range(4)]
    found = [x, *(e.act(x, ONE) for e in elements(d4, 1, 1, 3, 4))]
    for y in expected:
        assert sum(y.shape == f.shape and torch.equal(y, f) for f in found) == 1
    names = {e.name: e.act(x, ONE) for e in elements(d4, 1, 1, 3, 4)}
    assert torch.equal(names["rotation by 90 degrees"], torch.rot90(x, 1, (2, 3)))
    assert torch.equal(names["rotation by 270 degrees"], torch.rot90(x, 3, (2, 3)))
    assert torch.equal(names["flip of axis 2"], x.flip(2))


@pytest.mark.parametrize("group", [rotations, flips, d4])
def test_generators_make_up_the_group(group):
    x = normal(1, 1, 3, 3)
    found = {tuple(x.flatten().tolist()): x}
    waiting = [x]
    while waiting:
        y = waiting.pop()
        for e in group.generators((1, 1, 3, 3), torch.Generator()):
            moved = e.act(y, ONE)
            if tuple(moved.flatten().tolist()) not in found:
                found[tuple(moved.flatten().tolist())] = moved
                waiting.append(moved)
    assert len(found) == 1 + len(elements(group, 1, 1, 3, 3))


@given(
    x=feature_maps(spatial=st.lists(st.integers(2, 6), min_size=1, max_size=3).map(tuple)),
    data=st.data(),
)
def test_an_element_only_moves_values(x, data):
    for group in (flips, d4, permutations, translations(1), *([batch_order] if len(x) > 1 else [])):
        moved = data.draw(group_elements(group, x.shape)).act(x, (Fraction(1),) * (x.dim() - 2))
        assert torch.equal(moved.flatten().sort().values, x.flatten().sort().values)


def test_patches_move_whole_and_their_maps_with_them():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    element = elements(permutations_of_patches(4), 1, 1, 8, 8)[0]
    moved = element.act(x, ONE)
    pooled = element.act(x[..., ::4, ::4], (Fraction(4), Fraction(4)))
    assert torch.equal(moved[..., ::4, ::4], pooled)
    assert torch.equal(moved.unfold(2, 4, 4).unfold(3, 4, 4)[..., 3, 3], pooled + 27)
    with pytest.raises(UndefinedActionError, match="does not act on the 1 positions"):
        element.act(x[..., ::8, ::8], (Fraction(8), Fraction(8)))
    with pytest.raises(ValueError, match="does not split into patches of 3"):
        elements(permutations_of_patches(3), 1, 1, 8, 8)


def test_a_shift_shrinks_with_the_stride():
    x = normal(1, 1, 8, 8)
    shift = elements(translations(2), 1, 1, 8, 8)[0]
    assert torch.equal(shift.act(x, (Fraction(2), Fraction(2))), x.roll(1, 2))
    assert torch.equal(shift.act(x, (Fraction(1, 2), Fraction(1, 2))), x.roll(4, 2))
    with pytest.raises(
        UndefinedActionError, match="no whole number of positions after a stride of 4"
    ):
        shift.act(x, (Fraction(4), Fraction(4)))


def test_what_has_no_element_says_so():
    with pytest.raises(ValueError, match="needs two different images or more"):
        elements(batch_order, 1, 1, 4)
    with pytest.raises(ValueError, match="moves nothing"):
        elements(translations(9), 1, 1, 4, 4)
    with pytest.raises(ValueError, match="what they were"):
        elements(scale(1.0), 1, 1, 4)


def test_batch_order_leaves_the_images_that_are_not_named():
    for e in elements(batch_order_of(2, 3), 4, 1, 2):
        assert e.act(torch.arange(4.0).reshape(4, 1, 1), ONE).flatten().tolist() == [0, 1, 3, 2]


class Negation(Element):
    name = "negation"
    moves = "values"

    def act(self, x, strides):
        return -x


class Signs(Group):
    name = "the sign of intensities"

    def elements(self, shape, generator):
        return [Negation()]


def test_a_symmetry_of_ones_own():
    assert_equivariant(torch.tanh, torch.randn(1, 2, 5), Signs())
    with pytest.raises(
        AssertionError, match="not equivariant to the sign of intensities: negation gives"
    ):
        assert_equivariant(torch.exp, torch.randn(1, 2, 5), Signs())


def test_scale():
    assert equivariance_error(
        torch.nn.Conv1d(2, 3, 3, bias=False), torch.randn(1, 2, 9), scale(0.3)
    ).verdict.holds
    assert (
        equivariance_error(torch.nn.Conv1d(2, 3, 3), torch.randn(1, 2, 9), scale(0.3)).verdict
        == "broken"
    )
