"""A converted module against its original: result, all gradients, buffers, names."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aea_kernels as aea
from aea_kernels.testing.strategies import normal

TOLERANCE = 1e-10


def randomised(module: nn.Module) -> nn.Module:
    """With numbers that make every part count, in float64."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean, 0, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    return module.double()


def gradients(module: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The result, and the gradients of input and parameters for a fixed random gradient of the
    result.
    """
    x = x.clone().requires_grad_()
    y = module(x)
    weights = normal(*y.shape, dtype=y.dtype, seed=1)
    names, parameters = zip(*module.named_parameters(), strict=True)
    found = torch.autograd.grad((y * weights).sum(), (x, *parameters), allow_unused=True)
    return y.detach(), {
        n: g for n, g in zip(("input", *names), found, strict=True) if g is not None
    }


def deviations(got: dict[str, Tensor], expected: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    assert got.keys() == expected.keys()
    for name, wanted in expected.items():
        scale = max(float(wanted.abs().max()), 1e-3) if wanted.numel() else 1.0
        yield name, float((got[name] - wanted).abs().max()) / scale if wanted.numel() else 0.0


def assert_exact(original: nn.Module, x: Tensor, *, training: bool) -> nn.Module:
    """`original` and its converted copy agree in float64; returns the copy."""
    original.train(training)
    converted = copy.deepcopy(original)
    report = aea.convert(converted)
    assert [entry.result for entry in report.replaced] == ["exact"]
    assert converted.training is training

    y, expected = gradients(original, x)
    y_converted, got = gradients(converted, x)
    assert y_converted.shape == y.shape
    assert y_converted.dtype == y.dtype
    wrong = {
        name: error
        for name, error in deviations({"y": y_converted, **got}, {"y": y, **expected})
        if error > TOLERANCE
    }
    assert wrong == {}

    # BN's statistics of the step, too
    before, after = original.state_dict(), converted.state_dict()
    assert list(before) == list(after)
    assert {name: e for name, e in deviations(after, before) if e > TOLERANCE} == {}
    return converted
