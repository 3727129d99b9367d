"""The record of the comparison with other methods."""

from pathlib import Path

from benches.denoising.__main__ import forget_other_model
from benches.denoising.networks import SHIPPED, TRAININGS
from benches.denoising.scores import Scores


def test_gains_of_another_model_leave_the_record(tmp_path: Path) -> None:
    model = tmp_path / "sem.safetensors"
    model.write_bytes(b"first")
    titles = [SHIPPED, *(training.title for training in TRAININGS)]
    scores = Scores(
        tmp_path / "record.json", models={title: {"00": [4.0, 0.1]} for title in titles}
    )
    scores.about["model"] = "of an earlier one"

    forget_other_model(scores, str(model))
    assert set(scores.models) == {training.title for training in TRAININGS if training.network}

    scores.models[SHIPPED] = {"00": [4.1, 0.1]}
    forget_other_model(scores, str(model))
    assert SHIPPED in scores.models, "the same model keeps its gains"

    model.write_bytes(b"second")
    forget_other_model(scores, str(model))
    assert SHIPPED not in scores.models
