"""First and second derivatives against finite differences."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import aea_kernels as aea
from aea_kernels.functional import attention_block


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


OPERATORS = {
    "self": (aea.linear_attention, lambda: [normal(2, 2, 4, 3), normal(2, 2, 5, 3), normal(2, 2, 5, 2)]),
    "references": (
        aea.reference_attention,
        lambda: [normal(2, 1, 3, 2), normal(2, 1, 4, 2), normal(2, 1, 4, 3), normal(1, 3, 2), normal(1, 3, 3)],
    ),
    "batch": (aea.batch_attention, lambda: [normal(3, 1, 3, 2), normal(3, 1, 2, 2), normal(3, 1, 2, 3)]),
    "learned query": (
        aea.learned_query_attention,
        lambda: [normal(2, 3, 2), normal(2, 2, 4, 2), normal(2, 2, 4, 3)],
    ),
    "moments": (lambda x: aea.moments(x).gram, lambda: [normal(2, 3, 2, 2)]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name):
    function, inputs = OPERATORS[name]
    assert gradcheck(function, inputs())
    assert gradgradcheck(function, inputs())


@pytest.mark.parametrize(("norm", "batch_statistics"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("reference_images", [0, 1, 3])
def test_block(norm, batch_statistics, reference_images):
    channels, width = 3, 4

    def block(x, weight, bias, *rest):
        *flat, references = rest
        projections = list(zip(flat[::2], flat[1::2], strict=True))
        return attention_block(
            x,
            weight if norm else None,
            bias if norm else None,
            *projections,
            references,
            heads=2,
            scale=0.7,
            reference_images=reference_images,
            batch_statistics_eps=1e-3 if batch_statistics else None,
        )[0]

    shapes = [(width, channels), (width,)] * 3 + [(channels, width), (channels,)]
    inputs = [normal(3, channels, 2, 2), normal(channels, seed=1), normal(channels, seed=2)]
    inputs += [normal(*shape, seed=3 + i) for i, shape in enumerate(shapes)] + [normal(2, channels, seed=20)]
    assert gradcheck(block, inputs, nondet_tol=0)
    assert gradgradcheck(block, inputs, nondet_tol=0)
