"""Where the tests on physically acquired pairs find them."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_pairs() -> Path:
    """The folder of real pairs (`lr/NN.png` with `hr/NN.png`); tests that ask for it are skipped
    where it is absent.
    """
    named = os.environ.get("AEANET_REAL_PAIRS")
    folder = (
        Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data" / "sem2x"
    )
    if not (folder / "lr").is_dir():
        # the pairs may not be published with the project, so a checkout alone does not have them
        pytest.skip(f"no real pairs in {folder} (name a folder in AEANET_REAL_PAIRS)")
    return folder
