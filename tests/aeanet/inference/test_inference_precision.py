"""Who computes in bfloat16 unless one asks otherwise, what is refused, and what a result says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from toys import aeanet, lively_network, uneven_noise

from aea_kernels.core.dtypes import multiplies_bfloat16
from aeanet import restore_file, super_resolve
from aeanet.data.synthetic import simulate_image
from aeanet.inference.prediction import PredictionError, chosen_precision, restore
from aeanet.networks.registry import build_model, load_model, save_model

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this processor one with the capabilities given."""

    def become(**has: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True} | has)

    return become


@pytest.mark.parametrize("name", ["amx_bf16", "avx512_bf16", "bf16", "sve_bf16"])
def test_a_processor_is_known_by_its_instructions(name: str, machine: Callable[..., None]) -> None:
    machine()
    assert not multiplies_bfloat16(CPU)
    machine(**{name: True})
    assert multiplies_bfloat16(CPU)
    assert not multiplies_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(
    ("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_a_gpu_is_known_by_its_capability(
    capability: tuple[int, int], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert multiplies_bfloat16(torch.device("cuda")) is native


@pytest.mark.parametrize(
    ("name", "options", "cost", "native", "expected"),
    [
        ("shuffled", {}, 0.004, True, "bfloat16"),
        ("shuffled", {}, -0.02, True, "bfloat16"),
        ("shuffled", {}, 0.011, True, "float32"),
        ("shuffled", {}, None, True, "float32"),
        ("shuffled", {}, 0.004, False, "float32"),
        ("unet", {"residual": True}, 0.004, True, "bfloat16"),
        ("unet", {}, 0.004, True, "float32"),  # it makes the image itself
    ],
)
def test_auto_is_what_machine_and_model_allow(
    name: str,
    options: dict[str, Any],
    cost: float | None,
    native: bool,
    expected: str,
    machine: Callable[..., None],
) -> None:
    machine(amx_bf16=native)
    model = build_model(name, **options)
    model.bfloat16_cost = cost
    assert chosen_precision(model, "auto") == expected
    assert chosen_precision(model, "float32") == "float32"
    assert chosen_precision(model, "bfloat16") == "bfloat16"


def test_the_cost_is_kept_with_the_model(tmp_path: Path) -> None:
    model = build_model("shuffled", widths=(4,), blocks=(1,))
    assert load_model(save_model(model, tmp_path / "a.safetensors")).bfloat16_cost is None
    model.bfloat16_cost = 0.0042
    assert load_model(save_model(model, tmp_path / "b.safetensors")).bfloat16_cost == 0.0042
    assert load_model("sem").bfloat16_cost is not None


@pytest.mark.parametrize("function", [super_resolve, restore])
def test_an_unknown_precision_is_refused(function: Callable[..., Any]) -> None:
    model = lively_network()
    model.magnification = 2.0
    with pytest.raises(PredictionError, match="precision is 'banana', wanted auto, float32 or"):
        function(model, uneven_noise(20, 20), precision="banana")


def test_files_are_not_touched_for_an_unknown_precision(tmp_path: Path) -> None:
    unknown: Any = 16
    with pytest.raises(PredictionError, match="precision is 16, wanted"):
        restore_file("sem", tmp_path / "none.png", tmp_path / "out.png", precision=unknown)


@pytest.mark.parametrize("native", [False, True])
def test_summary_and_file_say_which_was_used(
    native: bool, tmp_path: Path, machine: Callable[..., None]
) -> None:
    machine(amx_bf16=native)
    used, other = ("bfloat16", "float32") if native else ("float32", "bfloat16")
    image = simulate_image(7, (60, 80), magnification=2.0).lr
    tifffile.imwrite(tmp_path / "a.tif", np.rint(image * 65535).astype(np.uint16))
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(tmp_path / "b.png")
    files = tmp_path / "a.tif", tmp_path / "b.png"
    for folder, options in (
        ("auto", ()),
        (used, ("--precision", used)),
        (other, ("--precision", other)),
    ):
        done = aeanet("restore", *files, "--flips", 1, "--out", tmp_path / folder, *options)
        assert done.exit_code == 0, done.output
        assert f"The network computes in {other if folder == other else used}.\n" in done.stderr

    described = f"network shuffled, magnification 2, 1 flip, computed in {used}."
    with tifffile.TiffFile(tmp_path / "auto" / "a.tif") as file:
        assert described in (file.ome_metadata or "")
    with Image.open(tmp_path / "auto" / "b.png") as picture:
        assert described in picture.info["Description"]

    # The same bits as when it is asked for; those of the other one differ, by little.
    results = {
        name: tifffile.imread(tmp_path / name / "a.tif").astype(int)
        for name in ("auto", used, other)
    }
    assert np.array_equal(results["auto"], results[used])
    difference = results["auto"] - results[other]
    assert 0 < np.sqrt(np.mean(difference**2)) < 0.5 * 257, "half a grey level of 8 bits"
    assert len(np.unique(results["auto"])) > 4000, "more than bfloat16 has between 0 and 1"
