"""Calls of `aeanet train`, and what they leave."""

import json
from pathlib import Path
from typing import Any

import torch
from toys import aeanet
from typer.testing import Result

from aeanet.networks.registry import load_model

BRIEF = ["--quick", "--steps", 3, "--crop", 16, "--batch", 2]


def aeanet_train(*arguments: object) -> Result:
    return aeanet("train", *arguments)


def trained(*arguments: object) -> Result:
    result = aeanet_train(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    """The one sentence that a call ends with."""
    result = aeanet_train(*arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.endswith("."), result.stderr
    return last


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def assert_same_model(run: Path, model: torch.nn.Module) -> None:
    found = load_model(run).state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in model.state_dict().items())
