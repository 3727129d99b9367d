"""`aea.graphed` in training, with a stand-in for what PyTorch captures: there is no GPU here."""

from __future__ import annotations

import pytest
import torch

import aea_kernels as aea
from aea_kernels import graphs

pytestmark = pytest.mark.parametrize("backend", ["eager"], indirect=True, scope="module")


@pytest.fixture
def training(monkeypatch):
    """A graphed step of a block in training, whose forward and backward pass PyTorch captures."""
    torch.manual_seed(0)
    block = aea.AugmentedAttention(4, references=2)
    asked = []

    def make_graphed_callables(module, inputs, num_warmup_iters, allow_unused_input):
        assert not torch.is_autocast_cache_enabled()  # PyTorch refuses autocast with it
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        for _ in range(num_warmup_iters):
            module(*inputs)
        asked.append((module, inputs, torch.cuda.graph.default_capture_stream))
        return module

    monkeypatch.setattr(torch.cuda, "Stream", lambda: "a stream of this device")
    monkeypatch.setattr(torch.cuda.graph, "default_capture_stream", "a stream of another device")
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_graphed_callables)
    monkeypatch.setattr(graphs, "_on_gpu", lambda tensor: True)
    return block.train(), asked


def test_a_training_step_is_captured_without_a_trace_in_running_statistics(training):
    block, asked = training
    before = {name: value.clone() for name, value in block.named_buffers()}
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    step = aea.graphed(block, x)
    for name, value in block.named_buffers():
        assert torch.equal(value, before[name])
    assert asked[0][1][0].requires_grad
    step(x).sum().backward()
    assert block.norm.num_batches_tracked == 1
    assert x.grad.abs().sum() > 0


def test_a_training_step_is_captured_on_a_stream_of_its_own_device(training):
    """PyTorch's own stays on the device of the process's first capture, and captures no other."""
    block, asked = training
    aea.graphed(block, torch.randn(2, 4, 3, 3))
    assert asked[0][2] == "a stream of this device"
    assert torch.cuda.graph.default_capture_stream == "a stream of another device"


def test_a_training_step_may_be_captured_in_inference_mode(training):
    block, _ = training
    with torch.inference_mode():
        step = aea.graphed(block, torch.randn(2, 4, 3, 3))
    step(torch.randn(2, 4, 3, 3)).sum().backward()
    assert block.key.weight.grad.abs().sum() > 0


def test_gradients_that_were_not_dropped_are_added_to(training):
    """A graph writes every gradient to the same memory, which autograd takes for `.grad`."""
    block, _ = training
    x = torch.randn(2, 4, 3, 3)
    step = aea.graphed(block, x)
    step(x).sum().backward()
    held = block.key.weight.grad
    step(x)
    assert torch.equal(block.key.weight.grad, held)
    assert block.key.weight.grad.data_ptr() != held.data_ptr()


def test_an_input_whose_gradient_the_example_did_not_ask_for_takes_the_ordinary_call(training):
    block, _ = training
    x = torch.randn(2, 4, 3, 3)
    step = aea.graphed(block, x)
    with pytest.warns(RuntimeWarning, match="with a gradient, and the example was"):
        step(x.clone().requires_grad_()).sum().backward()
    block.eval()
    with pytest.warns(RuntimeWarning, match="captured for training"):
        step(x)
