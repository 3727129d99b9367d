"""The card of a shipped model says what its record says."""

import json

import pytest

from aeanet.networks.registry import SHIPPED, SHIPPED_FOLDER
from benches.card import shipped_card


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_says_what_the_record_says(name: str) -> None:
    record = json.loads((SHIPPED_FOLDER / f"{name}.json").read_text())
    assert (SHIPPED_FOLDER / f"{name}.md").read_text() == shipped_card(record)


def test_the_card_says_what_attention_adds() -> None:
    record = json.loads((SHIPPED_FOLDER / "sem.json").read_text())
    gains = {
        ("shuffled", 0): 5.0,
        ("shuffled", 1): 5.2,
        ("shuffled-bottom", 0): 5.1,
        ("shuffled-bottom", 1): 5.5,
    }
    entries = [
        {
            "network": network,
            "seed": seed,
            "budget": "4 min",
            "crops": "16 crops of 96 px",
            "commit": "0123456",
            "steps": 100,
            "parameters": 10,
            "simulated_psnr": gain,
            "simulated_ssim": 0.1,
        }
        for (network, seed), gain in gains.items()
    ]

    card = shipped_card(record | {"comparison": entries})
    assert "shuffled-bottom against shuffled: +0.20 on simulated images (+0.10 to +0.30)." in card
    assert "| shuffled-bottom | 2 | 100 | 10 | +5.30 | +0.1000 | - |" in card
    assert "not yet shown" in shipped_card(record | {"comparison": []})
