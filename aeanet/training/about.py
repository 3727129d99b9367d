"""What a file for other programs says of a model: its name, its card, what it was trained on."""

import re
from pathlib import Path

from aeanet.inference.bioimageio import About
from aeanet.io.text import RecordError
from aeanet.networks.registry import MODEL_FILE, SHIPPED_FOLDER, model_path
from aeanet.training.info import ModelInfo, model_info

LICENSE = "BSD-3-Clause"  # of the shipped models, as of the package
AUTHORS = ("the aeanet developers",)


def about_model(path: Path) -> About:
    """What is said of the model in a run folder or a file, or of a shipped one.

    Authors and licence of a model of one's own are for its owner to state, so none are said.

    Raises:
        ModelError: there is no such model, or it is damaged.
        RecordError: the record of its training is damaged.
    """
    # a run goes by the name of its folder; the format takes only these characters
    file = model_path(path)
    info = model_info(file)
    title = file.resolve().name if file.is_dir() else file.stem
    name = "aeanet " + re.sub(r"[^A-Za-z0-9_+\- ()]", "-", title)[:50]

    # a pretrained model has its card beside it, with its scores; for any other one is written here
    file = file / MODEL_FILE if file.is_dir() else file
    own_card = file.with_suffix(".md")  # of a model pretrained on simulated images
    trained_on = info.trained_on
    try:
        card = own_card.read_text("utf-8") if own_card.is_file() else _card(name, info, trained_on)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"the record of the training of {path} is damaged: {error}.") from error

    # only the models that come with the package are licensed here
    if file.parent == SHIPPED_FOLDER:
        return About(name, card, trained_on, LICENSE, AUTHORS)
    return About(name, card, trained_on)


def _card(name: str, info: ModelInfo, trained_on: str) -> str:
    # what holds of any network: its options, its size, what its record says of the images
    options = ", ".join(f"{key} {value}" for key, value in info.model.items() if key != "name")
    parts = [
        f"# {name}",
        "Restores electron micrographs that are like those of its training.",
        "## What it is",
        f"The network `{info.model['name']}` ({options or 'its usual options'}), "
        f"{info.parameters:,} parameters.",
        "## What it was trained on",
        trained_on,
    ]

    # a model file alone has no record beside it
    if info.training is not None:
        record = info.training
        pairs = ", ".join(record["data"]["pairs"])
        parts += [f"The pairs: {pairs}."] if pairs else []
        parts.append(
            f"{record['steps_done']:,} steps in {record['seconds'] / 60:.1f} minutes on "
            f"{record['device']}."
        )

    # no scores are known here, so the limits are those of any such network
    parts += [
        "## Limits",
        "It is a statistical estimate, and was scored only where this card says so. It can smooth "
        "away structure that is weaker than the noise; do not measure details below the resolution "
        "of the image in its results.",
        "## Licence",
        "Not stated: it is for the owner of the training images to say.",
    ]
    return "\n\n".join(parts) + "\n"
