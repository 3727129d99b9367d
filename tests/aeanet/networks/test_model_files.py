"""Model files: they come back bit for bit, and what is none is refused in one sentence."""

import errno
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from toys import lively

from aeanet.networks.registry import ModelError, build_model, load_model, save_model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("aeanet", {"references": 16}),
        ("aeanet", {"batch_aware": False}),
        ("gvtnet", {"residual": True}),
        ("unet", {}),
    ],
)
def test_a_saved_model_comes_back_bit_for_bit(
    tmp_path: Path, name: str, options: dict[str, int]
) -> None:
    model = lively(build_model(name, **options)).eval()
    model.magnification = 1.97
    loaded = load_model(save_model(model, tmp_path / "run" / "model.safetensors"))
    assert loaded.config == model.config
    assert loaded.magnification == 1.97
    assert not loaded.training
    for (key, tensor), (other_key, other) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert key == other_key
        assert torch.equal(tensor, other), key
    image = torch.rand(1, 1, 20, 24)
    with torch.no_grad():
        assert torch.equal(model(image), loaded(image))
        assert torch.equal(model(image), load_model(tmp_path / "run")(image))


def test_what_is_no_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with pytest.raises(ModelError, match=r"there is no model at .*: wanted a run folder"):
        load_model(tmp_path)
    save_model(build_model("unet"), tmp_path / "one" / "model.safetensors")
    with pytest.raises(ModelError, match=r"wanted a run folder .*; there is one in .*one\."):
        load_model(tmp_path)
    file.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="damaged or is not a safetensors file"):
        load_model(file)
    safetensors.torch.save_file({"weight": torch.zeros(2)}, file)
    with pytest.raises(ModelError, match="holds no aeanet model"):
        load_model(file)


def test_damaged_and_newer_models_are_refused(tmp_path: Path) -> None:
    file = save_model(build_model("gvtnet"), tmp_path / "model.safetensors")
    whole = file.read_bytes()
    with safetensors.safe_open(file, framework="pt") as stored:
        metadata = stored.metadata()
    tensors = safetensors.torch.load_file(file)

    file.write_bytes(whole[:-1000])
    with pytest.raises(ModelError, match="damaged"):
        load_model(file)
    safetensors.torch.save_file(tensors, file, metadata | {"version": "99"})
    with pytest.raises(ModelError, match=r"version 99 .* reads version 1"):
        load_model(file)
    for settings_text in (
        "{",
        "{}",
        json.dumps({"config": {"name": "unet"}, "magnification": None}),
    ):
        safetensors.torch.save_file(tensors, file, metadata | {"settings": settings_text})
        with pytest.raises(
            ModelError, match=r"is damaged: (its weights do not fit|the tensor .* is missing)"
        ):
            load_model(file)


def test_a_full_disk_leaves_the_earlier_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_model(build_model("gvtnet"), tmp_path / "model.safetensors")
    before = file.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_model(build_model("gvtnet"), file)
    assert caught.value.filename == str(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_unknown_names_and_options_are_named() -> None:
    with pytest.raises(
        ModelError, match=r"no model 'vgg'; the models are aeanet, shuffled, gvtnet, unet"
    ):
        build_model("vgg")
    with pytest.raises(
        ModelError, match="'unet' has no option 'references'; its options are residual"
    ):
        build_model("unet", references=4)
