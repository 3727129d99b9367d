"""What a network needs, against what the system measures."""

import os
import subprocess
import sys

import pytest

from aeanet.inference import memory
from aeanet.inference.memory import bytes_per_pixel, largest_tile
from aeanet.networks.registry import build_model

RESIDENT = """
import torch
from aeanet.networks.registry import build_model
from benches.memory import resident_peak
model = build_model("unet").eval()
with torch.inference_mode():
    model(torch.zeros(1, 1, 64, 64))
    print(resident_peak(lambda: model(torch.zeros(1, 1, 512, 512)))[0] / 512**2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_it_is_what_the_system_sees() -> None:
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    out = subprocess.run(
        [sys.executable, "-c", RESIDENT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert bytes_per_pixel(build_model("unet")) == pytest.approx(float(out.stdout), rel=0.1)


def test_it_is_measured_once_for_each_precision() -> None:
    model = build_model("shuffled", widths=(4,), blocks=(1,))
    passes: list[None] = []
    model.register_forward_hook(lambda *_: passes.append(None))
    found = [bytes_per_pixel(model, p) for p in ("float32", "bfloat16", "float32", "bfloat16")]
    assert len(passes) == 2
    assert found[:2] == found[2:]
    assert found[0] > found[1] > 0


def test_the_largest_tile_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("unet")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**9)
    side = largest_tile(model, (10_000, 10_000))
    assert side is not None
    need = (side + 2 * 36) ** 2 * bytes_per_pixel(model)
    assert side % 64 == 0
    assert 0.7 * memory.SHARE * 10**9 < need <= memory.SHARE * 10**9
    assert largest_tile(model, (500, 500)) is None
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**6)
    with pytest.raises(MemoryError, match="not enough memory"):
        largest_tile(model, (10_000, 10_000))
