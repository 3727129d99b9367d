"""Pairs and a run for the tests of the command."""

from pathlib import Path

import pytest
from toys import simulated_folder

from aeanet.networks.registry import build_model, save_model


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated_folder(tmp_path_factory.mktemp("pairs"), range(2))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = build_model("aeanet", references=4)
    model.magnification = 2.0
    save_model(model, tmp_path / "run" / "model.safetensors")
    return tmp_path / "run"
