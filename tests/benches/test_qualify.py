"""A whole visit on small inputs, with the kernels in the interpreter."""

import json
import sys
import time

import pytest

from benches.qualify import __main__, checks, visit
from benches.sections.qualified import card


def test_a_tiny_visit_runs_every_stage(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("aea_kernels.backends.triton.tiles.H100", (90, 2))
    command = ["qualify", "--device", "cpu", "--tiny", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    assert __main__.main() == 0
    record = json.loads((tmp_path / "cpu-qualified.json").read_text())
    assert set(record["seconds"]) == {name for name, _, _ in __main__.STAGES}
    assert "failed" not in record
    assert record["verify"]["right"] > 5
    assert record["tests"]["outcomes"]["PASSED"] > 0

    # our kernels computed, and each launch has its time and its floor
    forward, both = (
        "block | tiny | bfloat16 | forward",
        "block | tiny | float32 | forward + backward",
    )
    for group in (forward, both):
        assert record["groups"][group]["aea (Triton)"]["backend"] == "triton"
    names = [launch["name"] for launch in record["launches"][forward]]
    assert names == ["outer", "reduce_splits", "fold", "apply"]
    assert all(launch["us"] > 0 for launch in record["launches"][both])
    assert record["launches"][forward][0]["floor_us"] > 0
    assert "aea (Triton)" in capsys.readouterr().out

    # a README shows it
    shown = card(record)
    assert "| tiny bfloat16 forward | outer |" in shown
    assert f"{record['verify']['right']} kernels agree with float64, 0 do not" in shown


def test_a_stage_that_fails_or_is_late_does_not_stop_the_others(tmp_path):
    def fails(_):
        raise RuntimeError("the card fell off the bus")

    def slow(here):
        for _ in here.in_time(range(50)):
            time.sleep(0.02)

    here = visit.Visit("cpu", tmp_path, 1 / 60, tiny=True)
    here.run("first", fails, 1.0)
    here.run("second", slow, 0.1)
    here.run("third", lambda it: it.put("part", "name", 3), 0.5)
    record = json.loads(here.file.read_text())
    assert record["failed"] == {"first": "RuntimeError: the card fell off the bus"}
    assert 0 < record["left_out"]["second"] < 50
    assert record["part"] == {"name": 3}


def test_outcomes_are_read_from_pytest():
    output = (
        "tests/a.py::test_x[1] PASSED [ 50%]\n"
        "[gw0] [ 51%] FAILED tests/a.py::test_y \n"
        "===== short test summary info =====\nFAILED tests/a.py::test_y - assert 0\n"
    )
    assert checks.count(output) == {"FAILED": 1, "PASSED": 1}
    assert checks.outcomes(output)[1] == ("tests/a.py::test_y", "FAILED")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--device", "cpu"], "on a CPU there is only --tiny"),
        (["--device", "cuda"], "needs a GPU, and PyTorch sees none"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["qualify", *words, "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        __main__.parsed()
    assert sentence in capsys.readouterr().err
