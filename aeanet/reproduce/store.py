"""Results on disk, found again by the settings they depend on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aeanet.io.text import json_text, read_json, write_json
from aeanet.training.recipe import current_record

RESULT_FILE = "result.json"


class Store:
    """Results, each in a folder of its own, with what belongs to it, such as a model.

    A result is found only with the settings it was kept with. Its file is written last and removed
    first, so that a stopped run never leaves a result beside the model of another.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder

    def folder(self, key: str) -> Path:
        return self.root / key

    def recall(self, key: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result kept under a key with the same settings, else None."""
        try:
            kept = read_json(self.folder(key) / RESULT_FILE)
            if "recipe" in kept["settings"]:
                kept["settings"]["recipe"] = current_record(kept["settings"]["recipe"])
            same = kept["settings"] == json.loads(json_text(settings))
            return kept["result"] if same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def prepare(self, key: str) -> Path:
        """The folder of a key, made if needed, without a result.

        Raises:
            OSError: if it cannot be made.
        """
        folder = self.folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT_FILE).unlink(missing_ok=True)
        return folder

    def keep(self, key: str, settings: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Write a result and the settings it depends on.

        Raises:
            OSError: naming the file.
        """
        write_json(self.folder(key) / RESULT_FILE, {"settings": settings, "result": result})
