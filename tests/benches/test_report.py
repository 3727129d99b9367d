"""What the benchmarks report: the runs themselves are for `python -m benches`."""

import math
from types import SimpleNamespace

import pytest
import torch

from benches import figures, report
from benches.contenders import (
    BLOCKS,
    COMPILED,
    EAGER,
    OPERATORS,
    OTHER_FUNCTIONS,
    TRITON,
    PlainBlock,
    Unavailable,
    backend_of,
    fits_in_memory,
    make_block,
)
from benches.memory import side_within
from benches.racing import Race, Wrong, check, copies


@pytest.fixture
def race():
    benchmark = SimpleNamespace(extra_info={}, group=None, rounds=[])
    benchmark.pedantic = lambda function, rounds: benchmark.rounds.append(rounds) or function()
    return Race(benchmark, "cpu", 0.01)


def failing(error):
    def prepare():
        raise error

    return prepare


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unavailable("flash_bla is not installed"), "flash_bla is not installed"),
        (Wrong("error 1.0e-01"), "wrong: error 1.0e-01"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (RuntimeError("no kernel image\nfor this device"), "failed: no kernel image"),
    ],
)
def test_a_contender_that_fails_shows_as_such_and_the_rest_goes_on(race, error, status):
    race.run("block | bottom | float32 | forward", "other", failing(error))
    assert race.benchmark.extra_info == {"name": "other", "status": status}
    assert race.benchmark.group == "block | bottom | float32 | forward"


def test_a_contender_that_fails_only_when_it_runs_shows_too(race):
    def broken(x):
        raise RuntimeError("illegal memory access")

    race.run("block | bottom", "other", lambda: (broken, [(1,)]))
    assert race.benchmark.extra_info["status"] == "failed: illegal memory access"


def test_every_input_has_its_turn(race):
    seen = []
    race.run("block | bottom", "aea", lambda: (seen.append, [(0,), (1,), (2,)]))
    assert seen[:4] == [1, 2, 0]
    assert copies(1) == 64
    assert copies(1 << 29) == 1


def test_a_wrong_result_is_never_fast():
    exact = torch.randn(100, dtype=torch.float64)
    check(exact.float(), exact)
    with pytest.raises(Wrong, match="error"):
        check(exact.float() + 1e-3, exact)
    with pytest.raises(Wrong):
        check(exact.float() * math.nan, exact)


def test_a_map_that_cannot_fit_says_how_much_it_needs():
    with pytest.raises(Unavailable, match=r"its map needs 1,000,000.0 GB"):
        fits_in_memory(10**15, torch.device("cpu"))


@pytest.mark.parametrize("name", [TRITON, EAGER, "plain eager", "map (naive, NonLocal2d)"])
def test_contenders_of_the_same_function_agree(name):
    q, k, v = (torch.randn(2, 2, 40, 8, dtype=torch.float64) for _ in range(3))
    expected = torch.einsum("bhne,bhle,bhld->bhnd", q, k, v) / 40
    with backend_of(name, q.device):
        torch.testing.assert_close(OPERATORS[name](q)(q, k, v), expected)


@pytest.mark.parametrize(
    "name", sorted(BLOCKS.keys() - OTHER_FUNCTIONS.keys() - {"torch.compile", COMPILED})
)
def test_blocks_of_the_same_function_agree(name):
    x = torch.randn(2, 8, 6, 5, dtype=torch.float64)
    block = make_block(8, references=3).double()
    with torch.no_grad(), backend_of(name, x.device):
        found = BLOCKS[name](block)(x)
        torch.testing.assert_close(found, PlainBlock(block)(x))


def test_tables_hold_times_ratios_and_reasons():
    groups = {
        "block | bottom | float32 | forward": {
            "aea": {"median": 10.0, "iqr": 1.0, "bytes": 2.5e6},
            "plain eager": {"median": 55.0, "iqr": 1.0},
            "map (naive, NonLocal2d)": {"status": "its map needs 45.6 GB"},
        },
        "block | bottom | float32 | memory": {"aea": {"bytes": 1e6}, "plain eager": {"bytes": 3e7}},
        "numbers | bfloat16": {"aea": {"error": 1e-3}, "plain eager": {"error": 2e-3}},
    }

    text = report.tables({"groups": groups})
    assert "| bottom float32 forward | plain eager | 55.0 ms | 2 % |  | 5.50x |" in text
    assert "| bottom float32 forward | aea | 10.0 ms | 10 % | 2.5 MB | 1.00x |" in text
    assert "| bottom float32 memory | plain eager |  |  | 30.0 MB | 30.00x |" in text
    assert "its map needs 45.6 GB" in text
    assert "| bfloat16 | plain eager | 2.0e-03 |  |  | 2.00x |" in text


def test_old_records_keep_their_name_and_new_ones_say_who_computed():
    ours = {TRITON: {"median": 2.0, "iqr": 0.0}, EAGER: {"median": 4.0, "iqr": 0.0}}
    compiled = {COMPILED: {"median": 3.0, "iqr": 0.0, "backend": "triton"}}
    text = report.tables({"groups": {"block | bottom": ours | compiled}})
    assert "| bottom | aea (Triton) | 2.0 ms | 0 % |  | 1.00x |" in text
    assert "| bottom | aea (eager) | 4.0 ms | 0 % |  | 2.00x |" in text
    assert "| bottom | torch.compile of aea (by triton) | 3.0 ms | 0 % |  | 1.50x |" in text

    without_gpu = ours | {TRITON: {"status": "it needs a CUDA device"}}
    text = report.tables({"groups": {"block | bottom": without_gpu}})
    assert "| bottom | aea (eager) | 4.0 ms | 0 % |  | 1.00x |" in text
    text = report.tables({"groups": {"block | bottom": {"aea": {"median": 2.0, "iqr": 0.0}}}})
    assert "| bottom | aea | 2.0 ms | 0 % |  | 1.00x |" in text


def test_tables_of_networks_hold_what_was_before_and_is_now():
    groups = {
        "network | U-Net | 512x512 | forward": {
            "before": {"median": 3000.0, "iqr": 1.0, "bytes": 3e8},
            "aea": {"median": 900.0, "iqr": 1.0, "bytes": 1.5e8},
        },
        "network | other | 512x512 | forward": {
            key: {"status": "monai is missing"} for key in ("before", "aea")
        },
        "network | U-Net | largest side within 8 GB": {
            "before": {"side": 1500},
            "aea": {"side": 2100},
        },
        "conversion | MDTA | 64x64 | forward": {"before": {"median": 3.0}, "aea": {"median": 2.0}},
        "conversion | MDTA | 64x64 | forward + backward": {
            "before": {"median": 3.0},
            "aea": {"median": 2.0},
        },
        "conversion | MDTA | 128x128 | forward": {
            "before": {"status": "its map needs 9 GB"},
            "aea": {"median": 1.0},
        },
    }

    text = report.conversions({"groups": groups})
    assert "| U-Net | 512x512 | forward | 3.00 s | 900.0 ms | 300 MB | 150 MB |" in text
    assert "| other | 512x512 | forward | monai is missing | monai is missing |" in text
    assert "| U-Net | 1,500 x 1,500 | 2,100 x 2,100 |" in text
    assert "| block | 64x64 | 128x128 |" in text
    assert "| MDTA | 1.50x / 1.50x | its map needs 9 GB |" in text


def test_the_largest_image_is_where_memory_reaches_the_budget():
    def peak(side, square):
        return 1e7 + 2e3 * side**2 + square * side**4

    for square, sides in ((0.0, (256, 512)), (0.25, (128, 192, 256))):
        side = side_within(8e9, sides, [peak(s, square) for s in sides])
        assert peak(side, square) <= 8e9 < peak(side + 1, square)


def test_the_slope_of_linear_time_is_one_and_of_the_map_two():
    sides = [64, 128, 256, 512]
    assert report.slope([(side, 3.0 * side**2) for side in sides]) == pytest.approx(1)
    assert report.slope([(side, 3.0 * side**4) for side in sides]) == pytest.approx(2)


def test_figures_are_drawn_from_the_record(tmp_path):
    groups = {
        f"scaling | {s} x {s}": {"aea": {"median": float(s * s), "bytes": 0}}
        for s in (128, 256, 512, 1024)
    }
    groups["block | bottom | float32 | forward"] = {
        name: {"median": ms, "iqr": 0.0}
        for name, ms in {"aea": 2.0, "copy": 1.0, "two library products": 1.0}.items()
    }
    record = {"groups": groups, "device": "here", "torch": "2"}
    assert figures.relative_times(record) == {("bottom, float32", "aea"): 2.0 / 1.5}
    drawn = figures.figures(record, tmp_path, "cpu")
    assert [path.name for path in drawn] == ["cpu-scaling.png", "cpu-relative.png"]
    assert all(path.stat().st_size > 5000 for path in drawn)
