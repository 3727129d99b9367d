"""The whole block from x at the bottom of the network for a 1280x944 image: 236 x 320 positions, C = 128."""

import multiprocessing

import pytest
import torch
from torch import Tensor

from .contenders import contenders

SHAPE = (1, 128, 236, 320)
NAMES = ("aea", "plain eager", "bare products")


def feature_map(requires_grad: bool = False) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).requires_grad_(requires_grad)


def forward_backward(module: torch.nn.Module, x: Tensor, dy: Tensor) -> Tensor:
    x.grad = None
    module.zero_grad()
    y = module(x)
    y.backward(dy)
    return y


def assert_right(module: torch.nn.Module) -> None:
    """A wrong result is never fast: every contender that claims the block's result is held to float64."""
    x = feature_map()[..., :40, :40]
    exact = contenders(SHAPE[1])["plain eager"].double()(x.double())
    torch.testing.assert_close(module(x).double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.benchmark(group="inference")
def test_inference(benchmark, name):
    module, x = contenders(SHAPE[1])[name], feature_map()
    if name != "bare products":
        assert_right(module)
    with torch.inference_mode():
        benchmark.pedantic(module, (x,), rounds=25, warmup_rounds=3)


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.benchmark(group="forward + backward")
def test_forward_backward(benchmark, name):
    module, x = contenders(SHAPE[1])[name], feature_map(requires_grad=True)
    dy = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    benchmark.pedantic(forward_backward, (module, x, dy), rounds=15, warmup_rounds=2)


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.benchmark(group="memory of forward + backward, bytes")
def test_memory(benchmark, name):
    """Peak resident memory beyond input, output and their gradients, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        benchmark.extra_info["bytes"] = pool.apply(peak_memory, (name,))
    benchmark.pedantic(lambda: None, rounds=1)


def peak_memory(name: str) -> int:
    """Linux: the high-water mark of resident memory is set back, then read."""
    module, x = contenders(SHAPE[1])[name], feature_map(requires_grad=True)
    dy = torch.randn(SHAPE)
    small = feature_map()[..., :8, :8].clone().requires_grad_()
    forward_backward(module, small, dy[..., :8, :8])  # libraries load and threads start here
    with open("/proc/self/clear_refs", "w") as handle:
        handle.write("5")
    before = _status("VmRSS")
    y = forward_backward(module, x, dy)
    assert x.grad is not None
    output_and_gradient = y.nbytes + x.grad.nbytes
    return max(0, _status("VmHWM") - before - output_and_gradient)


def _status(field: str) -> int:
    with open("/proc/self/status") as handle:
        line = next(line for line in handle if line.startswith(field))
    return int(line.split()[1]) * 1024
