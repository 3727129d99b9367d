"""README's table of symmetries is what the networks have."""

import json

import pytest

from benches import symmetries

RECORD = json.loads(symmetries.RECORD.read_text(encoding="utf-8"))["networks"]


def test_the_record_has_every_network() -> None:
    assert list(RECORD) == list(symmetries.NETWORKS)


@pytest.mark.parametrize("network", list(symmetries.NETWORKS)[:2])
def test_the_block_has_the_recorded_symmetries(network: str) -> None:
    for group, found in symmetries.measure(network).items():
        recorded = RECORD[network][group]
        assert found["verdict"] == recorded["verdict"]
        assert found["culprits"] == recorded["culprits"]
