"""What is known of a model: its network, its parameters, and how it was trained."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeanet.io.text import RecordError, read_json, record_lines, record_rows
from aeanet.networks.base import Network
from aeanet.networks.registry import FORMAT_VERSION, SHIPPED_FOLDER, load_model, model_path
from aeanet.networks.shuffled import KNOTS
from aeanet.training import RUN_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ModelInfo:
    """What `aeanet info MODEL` prints; a notebook shows it as a table.

    Attributes:
        file: the model file or run folder; None for a network in memory.
        model: the network's name and options.
        parts: the number of parameters of each part of the network, by its name.
        magnification: result pixels per LR pixel, None if it is not known.
        training: the record of the training, None if there is none.
    """

    file: str | None
    model: dict[str, Any]
    parts: dict[str, int]
    magnification: float | None
    training: dict[str, Any] | None

    @property
    def parameters(self) -> int:
        """Of all parts together."""
        return sum(self.parts.values())

    @property
    def trained_on(self) -> str:
        """A sentence on the images of its training.

        Raises:
            RecordError: the record of the training is damaged.
        """
        if self.training is None:
            return "What it was trained on is not recorded."

        # all that the sentence needs is taken first, so that a damaged record is one error
        try:
            data = self.training["data"]
            if "simulator" in data:
                return "Trained on simulated micrographs alone."
            number, pixels = len(data["pairs"]), data["sha256"][:12]
            of_scans = data.get("of_scans")
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(
                f"the record of the training of {self.file} is damaged: {error}."
            ) from error

        # these pairs have no clean image in them, and the word would promise one
        if of_scans:
            return (
                f"Trained on noisy images alone, {number} repeated scans or copies of single "
                f"images, whose pixels have the SHA-256 {pixels}."
            )
        return (
            f"Trained on {number} pair{'s' * (number != 1)} of micrographs, whose pixels have the "
            f"SHA-256 {pixels}."
        )

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": self.file,
            "kind": "model",
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "parameters": self.parameters,
            "magnification": self.magnification,
            "training": self.training,
        }

    def __str__(self) -> str:
        return "\n".join(record_lines(self.shown()))

    def _repr_html_(self) -> str:
        from aea_kernels.core.tables import html_table

        rows = record_rows(self.shown())
        return html_table([("\u2003" * depth + name, text or "") for depth, name, text in rows])

    def shown(self) -> dict[str, Any]:
        """What it is in a sentence or two, before all that is known of it."""
        about = f"A network that restores micrographs. {self.trained_on}"
        if self.model["name"] == "shuffled":
            about += f" It is told the magnification, {2 ** KNOTS[0]:g} to {2 ** KNOTS[-1]:g}."
        return {"about": about} | self.record()

    def plot(self) -> "Figure":
        """A bar for each part of the network: how many parameters it has.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from aea_kernels.core.figures import bars

        names, numbers = list(self.parts), list(self.parts.values())
        title = f"{self.model['name']}: {self.parameters:,} parameters"
        return bars(names, numbers, title=title, label="parameters")


def model_info(model: str | os.PathLike[str] | Network) -> ModelInfo:
    """What is known of a model.

    Args:
        model: a run folder, a model file, the name of a shipped model such as "sem", or a network
            in memory, of whose training nothing is known.

    Raises:
        ModelError: there is no such model, or it is damaged.
        RecordError: the record of its training is damaged.
    """
    if isinstance(model, Network):
        return _info(model, None, None)
    path = model_path(model)
    network = load_model(path)
    folder = path if path.is_dir() else path.parent
    run = path.with_suffix(".json") if path.parent == SHIPPED_FOLDER else folder / RUN_FILE
    return _info(network, path, read_json(run) if run.is_file() else None)


def _info(network: Network, path: Path | None, training: dict[str, Any] | None) -> ModelInfo:
    parts: Counter[str] = Counter()
    for name, parameter in network.named_parameters():
        parts[name.partition(".")[0]] += parameter.numel()
    file = None if path is None else str(path)
    return ModelInfo(file, network.config, dict(parts), network.magnification, training)
