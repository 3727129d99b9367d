"""The sweep of tile rows with a timer that makes its times up; on a machine without a GPU it ends
in one sentence.
"""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import aea_kernels as aea
from aea_kernels.backends.triton import operands, tiles
from benches import tune

CASES = [
    tune.Case("outer", 128, "bfloat16", "highest"),
    tune.Case("statistics", 64, "float32", "highest"),
]


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "MEASURED", tmp_path / "tiles.json")
    tiles.MEASURED.write_text('{"80": {"apply 64 tf32 aligned": [64, 64, 32, 4, 1, 2]}}')
    forget()
    yield tiles.MEASURED
    monkeypatch.undo()
    forget()


def forget():
    tiles.measured_rows.cache_clear()
    tiles.plan_launch.cache_clear()


def plan_of(kernel, channels, mode):
    return tiles.plan_launch(kernel, channels, channels, 1, 9000, mode, True, (90, 132)).tiles


def made_up(best, calls):
    """`best` takes 50 us, what is planned 100, and everything else does not run. As on a GPU, a row
    is planned with before it is timed.
    """
    plans = {}

    def timer(case, row):
        calls.append((case, row))
        planned = plans.setdefault(case, row)
        tiles.measured_rows(90)[case.name] = list(row)
        tiles.plan_launch.cache_clear()
        return 50.0 if (case.kernel, row) == best else 100.0 if row == planned else math.inf

    return timer


def test_the_fastest_row_is_planned_with_and_the_others_stay(table, tmp_path, capsys):
    before = plan_of("statistics", 64, "ieee")
    log, calls = tmp_path / "log.json", []
    assert tune.sweep(CASES, made_up(("outer", tiles.Tiles(64, 64, 32, 4, 2, 1)), calls), 90, log)
    assert json.loads(table.read_text()) == {
        "80": {"apply 64 tf32 aligned": [64, 64, 32, 4, 1, 2]},
        "90": {"outer 128 16-bit aligned": [64, 64, 32, 4, 2, 1]},
    }
    assert plan_of("outer", 128, "16-bit") == tiles.Tiles(64, 64, 32, 4, 2, 1)
    assert plan_of("statistics", 64, "ieee") == before
    assert (
        "(128, 128, 64, 8, 3, 1) 100.0 us -> (64, 64, 32, 4, 2, 1) 50.0 us"
        in capsys.readouterr().out
    )
    calls.clear()
    assert tune.sweep(CASES, made_up(None, calls), 90, log)
    assert calls == []


def test_a_gain_within_the_noise_changes_nothing(table, tmp_path):
    assert tune.sweep(
        CASES, lambda case, row: 98.0 if row.warps == 4 else 100.0, 90, tmp_path / "log.json"
    )
    assert json.loads(table.read_text())["90"] == {}


def test_an_interrupted_sweep_goes_on_where_it_was(table, tmp_path, monkeypatch):
    now, calls = iter(range(10**6)), []
    monkeypatch.setattr(tune.time, "monotonic", lambda: next(now))
    before = [plan_of(case.kernel, case.channels, case.mode) for case in CASES]
    several = len(list(tune.candidates(CASES[0], tune.planned_row(CASES[0], 90))))
    log = tmp_path / "log.json"
    assert not tune.sweep(CASES, made_up(None, calls), 90, log, deadline=several + 3)
    assert [plan_of(case.kernel, case.channels, case.mode) for case in CASES] == before
    assert {case for case, _ in calls} == set(CASES)
    calls.clear()
    assert tune.sweep(CASES, made_up(None, calls), 90, log)
    assert {case for case, _ in calls} == {CASES[1]}


@pytest.mark.parametrize("before", [False, True])
def test_a_row_whose_kernel_spills_is_none_also_if_it_was_built_before(before, table, monkeypatch):
    case, row = CASES[0], tiles.Tiles(64, 64, 32, 4, 2, 1)
    caches = {0: ({"key": SimpleNamespace(n_spills=8)},)} if before else {}

    def call():
        caches.setdefault(0, ({"key": SimpleNamespace(n_spills=8)},))

    monkeypatch.setattr(tune, "caches_of", lambda case: caches)
    monkeypatch.setattr(tune, "calls", lambda *_: [call])
    monkeypatch.setattr(tune, "architecture_here", lambda: 90)
    monkeypatch.setattr(tune, "_fitting", {})
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert tune.programs_that_fit(case, row) == 0


@pytest.mark.skipif(not operands.INTERPRETED, reason="computes in Triton's interpreter")
@pytest.mark.parametrize("kernel", ["outer", "apply", "features_backward"])
def test_tiles_of_fewer_channels_compute_the_same(kernel, table):
    case = tune.Case(kernel, 64, "float32", "highest")
    planned = tune.planned_row(case, tiles.H100[0])
    fewer = [row for row in tune.candidates(case, planned) if row.block_k < planned.block_k]
    for row in (fewer[0], fewer[-1]):
        tiles.measured_rows(tiles.H100[0])[case.name] = list(row)
        tiles.plan_launch.cache_clear()
        assert plan_of(kernel, 64, case.mode) == row
        x = torch.randn(1, 64, 6, 16, generator=torch.manual_seed(0), requires_grad=True)
        block = aea.AugmentedAttention(64, references=2)
        results = {}
        for backend in ("triton", "eager"):
            with aea.use_backend(backend):
                y = block(x)
                results[backend] = y, *torch.autograd.grad(y.square().sum(), x)
        for ours, theirs in zip(*results.values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("kernel", tune.KERNELS)
def test_every_kernel_that_is_timed_runs(kernel):
    case = tune.Case(kernel, 8, "float32", "highest")
    for call in tune.calls(case, (5, 6), "cpu"):
        call()


def test_without_a_gpu_it_ends_in_one_sentence():
    run = subprocess.run([sys.executable, "-m", "benches.tune"], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == "benches.tune times kernels on a CUDA device, and PyTorch sees none\n"
