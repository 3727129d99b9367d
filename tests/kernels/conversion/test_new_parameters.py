"""Parameters of blocks replaced with `retrain=True`: which are trained, and what the report says of
them.
"""

import originals_families as families
import originals_softmax as originals
import pytest
import torch
from test_softmax import diffusers_attention, monai_block
from torch import nn

import aea_kernels as aea

ADVICE = "Retrained modules have new parameters: make the optimiser after this."


def block() -> nn.Module:
    return originals.AttentionBlock(8, 2, groups=4)


def test_the_report_says_when_an_optimiser_must_be_made() -> None:
    report = aea.convert(nn.Sequential(block(), nn.Conv2d(8, 8, 1)), retrain=True)
    assert str(report).splitlines()[-1] == ADVICE
    assert ADVICE in report._repr_html_()
    report.revert()
    assert ADVICE not in str(report)
    report.apply()
    assert ADVICE in str(report)

    # an exact replacement has the parameters of the original
    assert ADVICE not in str(aea.convert(families.LinearAttention(6, 2, 4), retrain=True))


def test_a_processor_brings_no_parameters() -> None:
    assert ADVICE not in str(aea.convert(diffusers_attention(), retrain=True))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_block_stays_frozen(frozen: bool) -> None:
    module = block().requires_grad_(not frozen)
    aea.convert(module, retrain=True)
    assert {parameter.requires_grad for parameter in module.parameters()} == {not frozen}


def test_each_parameter_is_trained_where_the_one_that_it_replaces_is() -> None:
    module = block().requires_grad_(False)
    module.qkv.bias.requires_grad_()
    module.norm.requires_grad_()
    aea.convert(module, retrain=True)
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trained == {"norm.weight", "norm.bias", "query.bias", "key.bias", "value.bias"}


def test_what_the_original_has_not_follows_what_is_next_to_it() -> None:
    """MONAI's projections have no bias, and here no output."""
    module = monai_block(2, include_fc=False).requires_grad_(False)
    module.norm.requires_grad_()
    aea.convert(module, retrain=True)
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trained == {"norm.weight", "norm.bias"}


def test_an_optimiser_that_is_made_afterwards_trains_it() -> None:
    module = block()
    aea.convert(module, retrain=True)
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    before = module.query.weight.clone()
    module(torch.randn(2, 8, 3, 5)).square().sum().backward()
    optimiser.step()
    assert not torch.equal(module.query.weight, before)
