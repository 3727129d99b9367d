"""Files of tensors: the same content has the same bytes."""

from pathlib import Path

import safetensors
import torch

from aeanet.io.atomic import read_tensors, write_tensors

TENSORS = {"odd": torch.arange(7.0), "none": torch.zeros(0), "half": torch.ones(3).half()}
METADATA = {name: f"{name} \u00b5 \n" for name in ("version", "settings", "format", "state")}


def test_the_same_tensors_and_metadata_give_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(6)]
    for file in files:
        write_tensors(file, TENSORS, METADATA)
    assert len({file.read_bytes() for file in files}) == 1

    metadata, tensors = read_tensors(files[0])
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, TENSORS[name], rtol=0, atol=0)
    with safetensors.safe_open(files[0], framework="pt") as stored:
        assert stored.metadata() == METADATA
