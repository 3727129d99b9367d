"""The record says which backend computed: what was seen to run, not what was asked for."""

import pytest
import torch

import aea_kernels as aea
from aea_kernels import backends
from aea_kernels.backends import eager, selfcheck
from aea_kernels.core import known_calls
from benches.__main__ import condense, parsed_arguments
from benches.contenders import BLOCKS, EAGER, OPERATORS, OURS, TRITON, make_block, runner
from benches.racing import Race
from benches.watching import named, watched


class Benchmark:
    """As pytest-benchmark's fixture; it notes which backends run while time is measured."""

    def __init__(self):
        self.extra_info, self.group = {}, "block | small"
        self.timed = set()

    def pedantic(self, function, rounds):
        with watched() as self.timed:
            function()


@pytest.fixture
def race():
    return Race(Benchmark(), "cpu", 0.01)


def block_of(name, backward):
    """A small case of `benches/test_block.py`."""
    x = torch.randn(2, 8, 5, 7).requires_grad_(backward)
    module = BLOCKS[name](make_block(8, references=3))
    return lambda: (runner(module, backward), [(x, torch.randn(2, 8, 5, 7))])


def operator_of(name, backward):
    """A small case of `benches/test_operator.py`."""
    inputs = [torch.randn(1, 2, 30, 4).requires_grad_(backward) for _ in range(3)]
    function = OPERATORS[name](inputs[0])
    if backward:
        return lambda: (lambda *qkv: torch.autograd.grad(function(*qkv).sum(), qkv), [inputs])
    return lambda: (function, [inputs])


@pytest.mark.parametrize(("name", "backend"), [(TRITON, "triton"), (EAGER, "eager")])
@pytest.mark.parametrize("case", [block_of, operator_of])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
def test_a_contender_is_computed_by_the_backend_in_its_name(race, name, backend, case, backward):
    race.run("block | small", name, case(name, backward))
    assert race.benchmark.extra_info == {"name": name, "backend": backend}
    assert race.benchmark.timed == {backend}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward + backward"])
def test_triton_that_is_computed_by_anything_else_is_wrong(race, monkeypatch, backward):
    monkeypatch.setattr(backends, "primitives", lambda name, device: eager)
    race.run("block | small", TRITON, block_of(TRITON, backward))
    assert race.benchmark.extra_info["status"] == "wrong: computed by eager"
    assert "backend" not in race.benchmark.extra_info


def test_one_primitive_of_another_backend_is_enough_to_be_wrong(race, monkeypatch):
    run = known_calls.run

    def sometimes_eager(operator, inputs, name):
        return run(operator, inputs, "eager" if operator == "moments" else name)

    monkeypatch.setattr(known_calls, "run", sometimes_eager)
    race.run("block | small", TRITON, block_of(TRITON, False))
    assert race.benchmark.extra_info["status"] == "wrong: computed by eager and triton"


def test_a_number_of_another_backend_is_wrong_too(race):
    race.record("numbers | float32", TRITON, "eager", error=1e-7)
    assert race.benchmark.extra_info == {"name": TRITON, "status": "wrong: computed by eager"}


def test_where_triton_cannot_run_it_is_given_up_with_the_reason(race, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    race.run("block | small", TRITON, block_of(TRITON, False))
    assert race.benchmark.extra_info == {
        "name": TRITON,
        "status": "backend 'triton' cannot run on cpu: it needs a CUDA device",
    }


@pytest.mark.parametrize(("wrong", "backend"), [("", "triton"), ("is wrong", "eager")])
def test_auto_is_who_computes_after_the_self_check(monkeypatch, wrong, backend):
    """The self-check itself computes by both."""
    monkeypatch.setattr(
        backends, "resolved", lambda name, device: "triton" if name == "auto" else name
    )
    verdict = selfcheck.verdict
    monkeypatch.setattr(selfcheck, "_verdicts", {})
    monkeypatch.setattr(selfcheck, "verdict", lambda use: verdict(use) or wrong)
    monkeypatch.setattr(selfcheck, "_warn", lambda use: None)
    q = torch.randn(1, 2, 30, 4)
    with watched() as seen:
        aea.linear_attention(q, q, q)
    assert named(seen) == backend


def test_what_computes_without_this_library_has_no_backend(race):
    race.run("block | small", "plain eager", block_of("plain eager", False))
    assert race.benchmark.extra_info == {"name": "plain eager"}


def test_the_record_keeps_the_backend():
    times = dict.fromkeys(("median", "iqr", "min"), 1e-3) | {"rounds": 2}
    entry = {"group": "model | inference", "stats": times}
    entry["extra_info"] = {"name": OURS, "backend": "eager"}
    raw = {"benchmarks": [entry], "machine_info": {"cpu": {"brand_raw": "a CPU"}}}
    assert condense(raw, "cpu")["groups"]["model | inference"][OURS]["backend"] == "eager"


def test_the_interpreter_is_not_timed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["benches", "--quick"])
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(SystemExit, match="Unset TRITON_INTERPRET"):
        parsed_arguments()
