"""What became of the items of one command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aeanet.cli.shared import fail, warn
from aeanet.distributed import AgreedError
from aeanet.errors import sentence_or_raise

_NAMED = 20  # images that the last sentence names


class Outcome:
    """Which items of a batch failed and why, and the first defect among the reasons."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self.defect: Exception | None = None

    @contextmanager
    def of(self, image: Path, *, alone: bool = True) -> Iterator[None]:
        """Within it, an error is said and counted, and goes no further.

        Of several processes (not `alone`) only an error on which all agreed is: `agreeing`.
        """
        try:
            yield
        except Exception as error:
            if not alone and not isinstance(error, AgreedError):
                raise
            try:
                sentence = sentence_or_raise(error)
            except Exception as defect:
                sentence = f"{image} fails by a defect of aeanet: {type(defect).__name__}: {defect}"
                self.defect = self.defect or defect
            warn(sentence)
            self.failed[str(image)] = sentence

    def end(self, total: int, done: str) -> None:
        """Say which items failed, if any, and end the command."""
        if not self.failed:
            return
        names = ", ".join(list(self.failed)[:_NAMED])
        more = f" and {len(self.failed) - _NAMED} more" if len(self.failed) > _NAMED else ""
        sentence = f"{len(self.failed)} of {total} images could not be {done}: {names}{more}."
        if self.defect is not None:
            warn(sentence)
            raise self.defect
        fail(sentence)
