"""Simulated images."""

import pytest

from aeanet.data.synthetic import WholeImage, simulate_image


@pytest.fixture(scope="session")
def images() -> list[WholeImage]:
    return [simulate_image(seed, (128, 160), magnification=1.0) for seed in range(36)]
