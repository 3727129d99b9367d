"""`aea.graphed`, with a CUDA graph that writes down what is asked of it: there is no GPU here."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import aea_kernels as aea
from aea_kernels import graphs
from aea_kernels.verify import float32_precision

pytestmark = pytest.mark.parametrize("backend", ["eager"], indirect=True, scope="module")


class Operations(TorchDispatchMode):
    """Writes down the operations and the shapes they give, as a capture does."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.seen.append((func, getattr(result, "shape", None)))
        return result


class Cuda:
    """Stands where the functions of `torch.cuda` stand. A replay runs what was captured again."""

    def __init__(self, network, monkeypatch):
        self.events: list[str] = []
        self.pause = 0.0
        self.numbers = count(1)
        self.network = network
        cuda = self

        class Stream:
            def __init__(self, name=""):
                self.name = name or f"stream {next(cuda.numbers)}"

            def wait_stream(self, other):
                cuda.events.append(f"{self.name} waits for {other.name}")

        class CUDAGraph:
            def replay(self):
                cuda.events.append("replay")
                time.sleep(cuda.pause)
                cuda.result.copy_(cuda.network(*cuda.inputs))

        @contextmanager
        def stream(given):
            cuda.events.append(f"on {given.name}")
            yield
            cuda.events.append(f"off {given.name}")

        @contextmanager
        def graph(given, stream):
            cuda.events.append(f"capture on {stream.name}")
            with monkeypatch.context() as patch:
                patch.setattr(type(network), "forward", cuda.captured(type(network).forward))
                with Operations() as cuda.operations:
                    yield
            cuda.events.append("captured")

        for name, given in {
            "Stream": Stream,
            "current_stream": lambda: Stream("current"),
            "CUDAGraph": CUDAGraph,
            "stream": stream,
            "graph": graph,
        }.items():
            monkeypatch.setattr(torch.cuda, name, given)
        monkeypatch.setattr(graphs, "_on_gpu", lambda tensor: True)
        network.register_forward_hook(lambda *_: self.events.append("call"))

    def captured(self, forward):
        def run(module, *inputs):
            self.inputs = inputs
            self.result = forward(module, *inputs)
            return self.result

        return run


@pytest.fixture
def block():
    torch.manual_seed(0)
    return aea.AugmentedAttention(4, references=2).eval()


def test_on_a_cpu_it_is_the_network_itself(block):
    assert aea.graphed(block, torch.randn(1, 4, 3, 3)) is block


def test_calls_before_the_capture_and_the_capture_run_on_streams_of_their_own(block, monkeypatch):
    cuda = Cuda(block, monkeypatch)
    aea.graphed(block, torch.randn(1, 4, 3, 3))
    assert cuda.events == [
        "stream 1 waits for current",
        "on stream 1",
        *["call"] * graphs.WARM_UP,
        "off stream 1",
        "current waits for stream 1",
        "capture on stream 2",
        "call",
        "captured",
    ]


def test_every_replay_reads_its_own_input_and_returns_its_own_result(block, monkeypatch):
    cuda = Cuda(block, monkeypatch)
    example, *inputs = torch.randn(3, 1, 4, 3, 3)
    step = aea.graphed(block, example)
    results = [step(x) for x in inputs]
    assert cuda.events.count("replay") == 2
    for x, y in zip(inputs, results, strict=True):
        assert torch.equal(y, block(x).detach())
        assert not y.requires_grad


def test_the_example_stays_what_it_was(block, monkeypatch):
    Cuda(block, monkeypatch)
    example = torch.randn(1, 4, 3, 3)
    kept = example.clone()
    aea.graphed(block, example)(torch.randn(1, 4, 3, 3))
    assert torch.equal(example, kept)


REASONS = {
    "another shape": lambda block, x: (x[..., :2], r"the input is \(1, 4, 3, 2\).*example was"),
    "another dtype": lambda block, x: (x.double(), "the input is .*float64"),
    "training": lambda block, x: (block.train() and x, "captured for prediction, .* other mode"),
    "a gradient": lambda block, x: (x.requires_grad_(), "a gradient is asked for"),
    "moved weights": lambda block, x: (block.double().float() and x, "weights .* were moved"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_the_graph_was_not_captured_for_takes_the_ordinary_call(block, monkeypatch, reason):
    cuda = Cuda(block, monkeypatch)
    step = aea.graphed(block, torch.randn(1, 4, 3, 3))
    x, message = REASONS[reason](block, torch.randn(1, 4, 3, 3))
    with pytest.warns(RuntimeWarning, match=f"The CUDA graph is not used: .*{message}"):
        y = step(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = step(x)  # said once
    assert "replay" not in cuda.events
    assert y.shape == again.shape == x.shape
    assert y.requires_grad == (reason != "another dtype") or x.dtype == torch.float64


@contextmanager
def ieee_products():
    aea.set_ieee_products(True)
    try:
        yield
    finally:
        aea.set_ieee_products(False)


@contextmanager
def tf32_of_the_newer_switch():
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before


SETTINGS = {
    "high": (lambda: float32_precision("high"), "precision of products of float32"),
    "medium": (lambda: float32_precision("medium"), "precision of products of float32"),
    "ieee": (ieee_products, "precision of products of float32"),
    "tf32": (tf32_of_the_newer_switch, "precision of products of float32"),
    "backend": (lambda: aea.use_backend("auto"), "captured with the backend '(eager|auto)'"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_that_a_graph_was_not_captured_for_take_the_ordinary_call(
    block, monkeypatch, setting
):
    cuda = Cuda(block, monkeypatch)
    changed, message = SETTINGS[setting]
    x = torch.randn(1, 4, 3, 3)
    step = aea.graphed(block, x)
    step(x)
    with changed():
        with pytest.warns(RuntimeWarning, match=message):
            step(x)
        assert cuda.events.count("replay") == 1

        # the other way round: captured with the setting, called without it
        other = aea.graphed(block, x)
        other(x)
        assert cuda.events.count("replay") == 2
    with pytest.warns(RuntimeWarning, match=message):
        other(x)
    assert cuda.events.count("replay") == 2
    step(x)
    assert cuda.events.count("replay") == 3


def test_threads_that_predict_get_their_own_results(block, monkeypatch):
    cuda = Cuda(block, monkeypatch)
    examples = torch.randn(8, 1, 4, 3, 3)
    step = aea.graphed(block, examples[0])
    expected = [block(x).detach() for x in examples]
    cuda.pause = 0.002  # another thread has its turn before the replay reads
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(step, examples))
    for y, wanted in zip(found, expected, strict=True):
        assert torch.equal(y, wanted)


def test_a_changed_weight_is_read_where_it_lies(block, monkeypatch):
    Cuda(block, monkeypatch)
    x = torch.randn(1, 4, 3, 3)
    step = aea.graphed(block, x)
    before = step(x)
    with torch.no_grad():
        block.output.bias.add_(1)
    torch.testing.assert_close(step(x), before + 1)


class WithAutocast(torch.nn.Module):
    """A network of one product, whose own autocast was made before any capture."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 5)

    def forward(self, x):
        return self.linear(x)


class WithItsOwnAutocast(WithAutocast):
    @torch.autocast("cpu", torch.bfloat16)
    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("kind", [WithAutocast, WithItsOwnAutocast])
def test_a_graph_casts_weights_itself(kind, monkeypatch):
    """Autocast keeps casts until it ends: a graph that reads them reads freed memory later."""
    network, x = kind().eval(), torch.randn(2, 3)
    cuda = Cuda(network, monkeypatch)
    with torch.autocast("cpu", torch.bfloat16):
        network(x)  # autocast now holds casts of the weights
        aea.graphed(network, x)
        assert torch.is_autocast_cache_enabled()

        # neither does autocast hold what the graph only computes when it is replayed
        with Operations() as ordinary:
            network(x)
    for operations in (cuda.operations, ordinary):
        assert (torch.ops.aten._to_copy.default, (5, 3)) in operations.seen


def test_a_graph_made_in_inference_mode_serves_outside_it_too(block, monkeypatch):
    Cuda(block, monkeypatch)
    with torch.inference_mode():
        step = aea.graphed(block, torch.randn(1, 4, 3, 3))
    x = torch.randn(1, 4, 3, 3)
    expected = block(x).detach()
    assert torch.equal(step(x), expected)
    with torch.inference_mode():
        assert torch.equal(step(x), expected)


def test_bad_arguments_are_named(block):
    with pytest.raises(TypeError, match="network is a function, expected a"):
        aea.graphed(lambda x: x, torch.randn(1))
    with pytest.raises(TypeError, match="example is a list, expected a"):
        aea.graphed(block, [torch.randn(1)])
    with pytest.raises(TypeError, match=r"example\[1\] is a int, expected a torch.Tensor"):
        aea.graphed(block, (torch.randn(1), 3))
