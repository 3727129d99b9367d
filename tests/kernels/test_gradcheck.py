"""First and second derivatives against finite differences.

In the interpreter second ones alone, along one random direction, and where kernels compute them:
parity tests hold the first ones against the oracle, and the other families compute second ones in
plain operations.
"""

import pytest
import strategies
from torch.autograd import gradcheck, gradgradcheck

import aea_kernels as aea
from aea_kernels.block.function import attention_block
from aea_kernels.block.spec import Norm, Projections


def normal(*shape, seed=0):
    return strategies.normal(*shape, seed=seed).requires_grad_()


OPERATORS = {
    "self": (
        aea.linear_attention,
        lambda: [normal(2, 2, 4, 3), normal(2, 2, 5, 3), normal(2, 2, 5, 2)],
    ),
    "references": (
        aea.reference_attention,
        lambda: [
            normal(2, 1, 3, 2),
            normal(2, 1, 4, 2),
            normal(2, 1, 4, 3),
            normal(1, 3, 2),
            normal(1, 3, 3),
        ],
    ),
    "batch": (
        aea.batch_attention,
        lambda: [normal(3, 1, 3, 2), normal(3, 1, 2, 2), normal(3, 1, 2, 3)],
    ),
    "learned query": (
        aea.learned_query_attention,
        lambda: [normal(2, 3, 2), normal(2, 2, 4, 2), normal(2, 2, 4, 3)],
    ),
    "relu": (
        aea.relu_linear_attention,
        lambda: [normal(2, 1, 4, 3), normal(2, 1, 5, 3), normal(2, 1, 5, 2)],
    ),
    "efficient": (
        aea.efficient_attention,
        lambda: [
            normal(2, 1, 3, 2),
            normal(2, 1, 4, 2),
            normal(2, 1, 4, 3),
            normal(1, 3, 2),
            normal(1, 3, 3),
        ],
    ),
    "channel": (
        aea.channel_attention,
        lambda: [
            normal(2, 1, 4, 3),
            normal(2, 1, 4, 3, seed=1),
            normal(2, 1, 4, 3, seed=2),
            normal(1),
        ],
    ),
    "moments": (lambda x: aea.moments(x).gram, lambda: [normal(2, 3, 2, 2)]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(backend, name):
    function, inputs = OPERATORS[name]
    if backend == "triton":
        if name not in ("self", "moments"):
            pytest.skip("made of the same differentiable operators, or of plain operations")
        assert gradgradcheck(function, inputs(), fast_mode=True)
        return
    assert gradcheck(function, inputs())
    assert gradgradcheck(function, inputs())


@pytest.mark.parametrize(
    ("norm", "batch_statistics"), [(False, False), (True, False), (True, True)]
)
@pytest.mark.parametrize("reference_images", [0, 1, 3])
def test_block(backend, norm, batch_statistics, reference_images):
    if backend == "triton":
        pytest.skip(
            "its second derivatives are those of the operators, and parity tests hold both "
            "routes to the oracle"
        )
    channels, width = 3, 4

    def block(x, weight, bias, *rest):
        *projections, references = rest
        statistics = (
            (None, None) if batch_statistics else (weight.detach() * 0, weight.detach() * 0 + 1)
        )
        return attention_block(
            x,
            Norm("batch", weight, bias, *statistics, 1e-3) if norm else Norm(),
            Projections(*projections),
            references,
            heads=2,
            scale=0.7,
            reference_images=reference_images,
        )[0]

    shapes = [(width, channels), (width,)] * 3 + [(channels, width), (channels,)]
    inputs = [normal(3, channels, 2, 2), normal(channels, seed=1), normal(channels, seed=2)]
    inputs += [normal(*shape, seed=3 + i) for i, shape in enumerate(shapes)] + [
        normal(2, channels, seed=20)
    ]
    assert gradcheck(block, inputs, nondet_tol=0)
    assert gradgradcheck(block, inputs, nondet_tol=0)
