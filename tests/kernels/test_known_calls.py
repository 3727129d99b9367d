"""A call that was made before gives what an ordinary call gives, and works nothing out."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import aea_kernels as aea
from aea_kernels.backends import selfcheck
from aea_kernels.backends.triton import launching
from aea_kernels.block import norms
from aea_kernels.core import known_calls, tracer, traces

pytestmark = pytest.mark.parametrize("backend", ["triton"], indirect=True, scope="module")


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Calls are traced in the interpreter too, and none is known."""
    monkeypatch.setattr(known_calls, "_interpreted", lambda: False)
    known_calls.forget()
    yield
    known_calls.forget()


def written() -> list[traces.Trace]:
    return [known for known in known_calls._known.values() if isinstance(known, traces.Trace)]


def step(block, x, dy):
    """y and all gradients."""
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = block(leaf)
    inputs = [leaf, *block.parameters()]
    return [y.detach(), *torch.autograd.grad(y, inputs, dy, allow_unused=True)]


def feature_maps(seed, dtype=torch.float32):
    torch.manual_seed(seed)
    x, dy = torch.randn(2, 3, 8, 3, 5).to(dtype)
    return x.to(memory_format=torch.channels_last), dy


@pytest.mark.parametrize(
    ("norm", "dtype", "training"),
    [
        ("batch", torch.float32, True),
        ("batch", torch.bfloat16, False),
        ("group", torch.float32, True),
        ("rms", torch.bfloat16, True),
    ],
)
def test_a_later_step_is_that_of_an_ordinary_call(monkeypatch, norm, dtype, training):
    """The second; the third where PyTorch's operations had to be watched."""
    torch.manual_seed(0)
    block = aea.AugmentedAttention(8, references=2, norm=norm, groups=2).train(training)
    for seed in (1, 2) if norm in norms.AFFINE else (1,):
        step(block, *feature_maps(seed, dtype))
    assert len(written()) == 2  # forward and backward
    x, dy = feature_maps(3, dtype)
    known_calls.forget()
    expected = step(block, x, dy)
    step(block, *feature_maps(1, dtype))
    step(block, *feature_maps(1, dtype))

    # nothing is worked out: neither primitives nor plans are asked
    monkeypatch.setattr("aea_kernels.backends.triton.tiles.plan_launch", None)
    monkeypatch.setattr("aea_kernels.backends.triton.moments", None)
    found = step(block, x, dy)
    for ours, right in zip(found, expected, strict=True):
        assert (ours is None) == (right is None)
        if ours is not None:
            assert ours.stride() == right.stride()
            assert torch.equal(ours, right)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("shape", [(2, 8, 3, 5), (2, 8, 64, 64)], ids=["one split", "splits"])
def test_a_call_that_is_not_watched_misses_nothing(monkeypatch, norm, training, shape):
    """What it writes down is what is written down of a call all of whose operations are seen."""
    names = []
    record = tracer.Recorder.record

    def twice(recorder, function, *constants, watched):
        whole = tracer.Recorder(recorder.values[: recorder.given])
        results = record(whole, function, *constants, watched=True)
        found = record(recorder, function, *constants, watched=watched)
        names.append([steps(recorder, found), steps(whole, results)])
        return found

    def steps(recorder, results):
        trace = recorder.trace(results, torch.device("cpu"))
        return [taken.__qualname__.split(".")[0] for taken in trace.steps]

    monkeypatch.setattr(tracer.Recorder, "record", twice)
    block = aea.AugmentedAttention(8, references=2, norm=norm).train(training)
    step(block, *torch.randn(2, *shape))
    assert len(names) == 2  # forward and backward
    for found, whole in names:
        assert found.count("launch_step") >= 4
        assert found == whole


def test_every_operator_is_known_by_itself():
    q, k, v = (torch.randn(1, 2, 9, 4) for _ in range(3))
    first = [aea.linear_attention(q, k, v) for _ in range(3)]
    assert len(written()) == 2
    assert torch.equal(first[2], first[0])
    other = aea.linear_attention(k, v, q)
    known_calls.forget()
    assert torch.equal(aea.linear_attention(k, v, q), other)


DIFFERENT = {
    "shape": lambda x: torch.randn(1, 4, 3, 4),
    "strides": lambda x: x.to(memory_format=torch.channels_last),
    "dtype": lambda x: x.double(),
    "alignment": lambda x: torch.cat([torch.zeros(1), x.flatten()])[1:].view_as(x),
    "precision": lambda x: torch.set_float32_matmul_precision("high") or x,
    "no numbers": lambda x: x[:0],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_another_call_is_not_taken_for_it(what):
    x = torch.randn(1, 4, 3, 3)
    before = torch.get_float32_matmul_precision()
    aea.moments(x), aea.moments(x)
    (trace,) = written()
    try:
        given = DIFFERENT[what](x)
        found = aea.moments(given).gram
    finally:
        torch.set_float32_matmul_precision(before)
    assert written()[0] is trace
    assert len(written()) == (1 if what == "no numbers" else 2)
    wide = torch.nn.functional.pad(given.double().flatten(2), (0, 0, 0, 1), value=1.0)
    torch.testing.assert_close(found.double(), wide @ wide.mT, rtol=1e-3, atol=1e-3)


def test_one_tensor_in_two_places_is_not_taken_for_two():
    """Tied weights: a trace could not tell which of the two it reads."""
    torch.manual_seed(0)
    tied, free = (aea.AugmentedAttention(4, references=2).eval() for _ in range(2))
    tied.key = tied.query
    x = torch.randn(1, 4, 3, 3)
    with torch.no_grad():
        expected = [block(x) for block in (tied, free)]
        for block, right in zip((tied, free), expected, strict=True):
            for _ in range(3):
                assert torch.equal(block(x), right)


def test_modes_of_pytorch_see_every_call():
    x = torch.randn(1, 4, 3, 3)
    for _ in range(3):
        aea.moments(x)
    with FlopCounterMode(display=False):
        aea.moments(x)
    plan = aea.explain(aea.AugmentedAttention(4), (1, 4, 3, 3))
    assert [launch.name for launch in plan.launches][:1] == ["outer"]


def test_values_must_decide_nothing():
    def decides(tensors):
        (x,) = tensors
        return [x + 1 if x.sum() > 0 else x - 1]

    for value in (1.0, 1.0, -1.0, 1.0):
        (found,) = known_calls.call(decides, [torch.full((2,), value)])
        assert found[0] == 2 * value
    assert not written()


def test_memory_is_given_back_as_soon_as_no_step_needs_it():
    def three(tensors):
        (x,) = tensors
        return [((x + 1) * 2).unbind()[0] - 1]

    for _ in range(2):
        known_calls.call(three, [torch.ones(2, 3)])
    (trace,) = written()
    values = [torch.ones(2, 3), *[None] * trace.made]
    for taken in trace.steps:
        taken(values)
        made = [t for t in values[1:] if isinstance(t, torch.Tensor | list | tuple)]
        assert len(made) <= 3  # what was read, and what came of it
    assert [t.tolist() for t in made] == [[3.0, 3.0, 3.0]]


def test_nothing_is_written_while_a_graph_is_captured(monkeypatch):
    monkeypatch.setattr(selfcheck, "capturing", lambda device: True)
    x = torch.randn(1, 4, 3, 3)
    for _ in range(3):
        aea.moments(x)
    assert not written()


def test_so_many_calls_are_remembered_and_no_more(monkeypatch):
    monkeypatch.setattr(known_calls, "LIMIT", 2)
    for number in range(1, 6):
        known_calls.call(lambda tensors: tensors, [torch.ones(number)])
        assert len(known_calls._known) <= 2


def test_what_cannot_be_launched_again_is_launched_by_triton():
    """As where something else takes the place of Triton's launcher, which returns nothing then."""
    calls = []

    def increase(x, n, offset, BLOCK):
        pass

    class Kernel:
        fn = staticmethod(increase)

        def __getitem__(self, grid):
            return lambda *given, **named: calls.append((grid, given, named))

    x = torch.zeros(4)
    recorder = tracer.Recorder([x])

    def launch(tensors):
        named = {"x": (tensors[0], 3), "n": 4, "offset": 1.5, "BLOCK": 16}
        launching.launch(Kernel(), 1, x.device, **named)
        return tensors

    recorder.record(launch)
    recorder.trace([x], x.device)([x])
    (_, _, first), (grid, given, named) = calls
    assert grid == (1,)
    assert named == {"num_warps": 8, "num_stages": 1}
    assert given == tuple(first[name] for name in inspect.signature(increase).parameters)
