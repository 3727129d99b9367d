"""Errors on record: later ones must not be larger than those, beyond their spread.

A network that is trained is often equivariant only about as well as its data asks for. Such an
error is no fault while it stays what it was.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

FORMAT = 1
SLACK = 0.05
"""Of an error: what another machine may add to it, where the spread is less."""


class Baseline:
    """A file of errors by their names, each measured on several inputs.

    Args:
        path: of the file.
        update: errors are recorded instead of compared.

    Attributes:
        errors: by their names, those of each on several inputs.

    Raises:
        ValueError: the file is none of these.
    """

    def __init__(self, path: str | os.PathLike[str], *, update: bool = False) -> None:
        self.path, self.update = Path(path), update
        self.errors: dict[str, list[float]] = {}
        if not self.path.exists():
            return
        try:
            saved = json.loads(self.path.read_text(encoding="utf-8"))
            if saved["format"] != FORMAT:
                raise ValueError(f"format {saved['format']}, expected {FORMAT}")
            self.errors = {name: [*map(float, errors)] for name, errors in saved["errors"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is no baseline of errors: {error}") from error

    def complaint(self, name: str, error: float) -> str:
        """What is wrong with an error, in words; "" where it has not grown."""
        if name not in self.errors:
            return f"{self.path} has no record of it: --equivariance-update writes one"
        known = self.errors[name]
        largest = max(known)
        allowed = largest + max(largest - min(known), SLACK * largest)
        if error <= allowed:
            return ""
        return (
            f"the relative error has grown to {error:.2g}: {len(known)} inputs gave "
            f"{min(known):.2g} to {largest:.2g} when it was recorded, which allows {allowed:.2g}"
        )

    def save(self) -> None:
        """Write the file."""
        text = json.dumps({"format": FORMAT, "errors": dict(sorted(self.errors.items()))}, indent=1)
        self.path.write_text(text + "\n", encoding="utf-8")
