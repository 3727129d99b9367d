"""A study of all sections, run once."""

from pathlib import Path

import pytest
from studies import silent, study

from aeanet.reproduce import (
    Results,
    Study,
    run_study,
    write_report,
)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Results, Path]:
    """A study of all sections, with its report."""
    folder, everything = tmp_path_factory.mktemp("report"), study()
    results = run_study(everything, folder, silent)
    write_report(everything, results, folder)
    return everything, results, folder
