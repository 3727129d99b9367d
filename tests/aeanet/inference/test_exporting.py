"""`aeanet export` against the paper's network in PyTorch, and what it refuses."""

import json
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import aeanet

from aeanet.inference import exporting
from aeanet.networks.registry import build_model, load_model, save_model

with_the_extra = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxruntime", "onnxscript"))),
    # an extra for those who write ONNX models, not among what the tests need
    reason="the extra export is not installed",
)


def saved(folder: Path, name: str = "aeanet", **options: object) -> Path:
    """A run folder with a network whose norms and biases have seen something."""
    torch.manual_seed(0)
    model = build_model(name, **options)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 1, 16, 16))
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.magnification = 2.5
    save_model(model, folder / "model.safetensors")
    return folder


@with_the_extra
def test_an_exported_network_restores_images_of_every_size_as_the_papers(tmp_path: Path) -> None:
    """ONNX Runtime against the equations with the map, in float64."""
    import onnx
    import onnxruntime as runtime

    run, file = saved(tmp_path / "run", references=5), tmp_path / "made" / "first.onnx"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = aeanet("export", run, "--onnx", file)
    assert result.exit_code == 0, result.output
    assert (result.stderr, [str(w.message) for w in seen]) == ("", [])
    assert result.stdout.count("differs from PyTorch by") == 3
    stored = onnx.load(file)
    onnx.checker.check_model(stored, full_check=True)
    assert {entry.domain for entry in stored.opset_import} <= {"", "ai.onnx"}
    record = json.loads({p.key: p.value for p in stored.metadata_props}["aeanet"])
    assert record["config"] == {"name": "aeanet", "references": 5, "batch_aware": True}
    assert record["magnification"] == 2.5
    model = load_model(run).double()
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, "height", "width"]
    for shape in [(1, 1, 9, 14), (3, 1, 16, 12), (1, 1, 1, 1)]:
        image = np.random.default_rng(1).random(shape, np.float32)
        (restored,) = session.run(None, {"image": image})
        with torch.no_grad():
            expected = model(torch.from_numpy(image).double()).numpy()
        assert np.abs(restored - expected).max() <= 1e-5 * np.abs(expected).max()


@with_the_extra
def test_the_shipped_model_is_exported(tmp_path: Path) -> None:
    assert max(exporting.export_onnx(load_model("sem"), tmp_path / "sem.onnx").values()) <= 1e-5
    assert (tmp_path / "sem.onnx").is_file()


def test_what_looks_patches_up_is_refused(tmp_path: Path) -> None:
    model = build_model("lbnlm")
    with pytest.raises(
        exporting.ExportError, match=r"^the model 'lbnlm' looks patches up in a library.*or rcan\.$"
    ):
        exporting.export_onnx(model, tmp_path / "a.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_sentence(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = saved(tmp_path / "run", "unet")
    for name in ("onnx", "onnxscript", "onnxruntime"):
        # None: it is not found.
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    result = aeanet("export", run, "--onnx", tmp_path / "a.onnx")
    assert result.exit_code == 1
    assert (
        result.stderr == f"the package {package} is not installed: pip install 'aeanet[export]'.\n"
    )


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_a_model_that_differs_is_not_written(
    difference: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, sys)
    monkeypatch.setattr(exporting, "plain_program", lambda module: module)
    monkeypatch.setattr(exporting, "onnx_model", lambda program, record: b"model")
    monkeypatch.setattr(exporting, "onnx_runner", lambda content: None)
    differences = dict(zip(exporting.SIZES, (0.0, difference, 0.0), strict=True))
    monkeypatch.setattr(exporting, "_difference", lambda module, run, size: differences[size])
    with pytest.raises(
        exporting.ExportError, match=r"differs from PyTorch by .*: nothing is written"
    ):
        exporting.export_onnx(build_model("unet"), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()
