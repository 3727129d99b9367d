"""The clock of a visit, and its record, which is written after every result."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from aeanet.io.text import write_json

from ..racing import Race
from ..record import header, result_of, statistics_of

T = TypeVar("T")


class Visit:
    """A card, the time for it, and what was found.

    Attributes:
        device: of the visit.
        folder: of the records.
        tiny: everything on small inputs, to see that it works.
        record: as `python -m benches` writes it, with parts for the rest of a visit.
    """

    def __init__(self, device: str, folder: Path, minutes: float, *, tiny: bool) -> None:
        self.device, self.folder, self.tiny = torch.device(device), folder, tiny
        self.record: dict[str, Any] = header(device, platform.processor())
        self.record |= {"tiny": tiny, "minutes": minutes, "seconds": {}, "groups": {}}
        self._seconds = 60 * minutes
        self._end = self._stop = time.monotonic() + self._seconds
        self._stage = ""

    @property
    def file(self) -> Path:
        """Of the record."""
        return self.folder / f"{self.record['name']}-qualified.json"

    @property
    def left(self) -> float:
        """Seconds that the present stage may still take."""
        return self._stop - time.monotonic()

    def run(self, stage: str, function: Callable[[Visit], None], share: float) -> None:
        """A stage, in at most this share of the time. Its failure is a result, and the others
        go on.
        """
        start = time.monotonic()
        self._stage, self._stop = stage, min(self._end, start + share * self._seconds)
        print(f"{stage}, at most {max(0, self.left):.0f} s", flush=True)
        try:
            if self.left > 0:
                function(self)
        except Exception as error:  # of the card, the driver, a compiler: said in the record
            traceback.print_exc()
            self.put("failed", stage, f"{type(error).__name__}: {error}"[:500])
        self.put("seconds", stage, round(time.monotonic() - start, 1))

    def in_time(self, items: Iterable[T]) -> Iterator[T]:
        """The items, until the time of the stage is over; how many were left out is recorded."""
        left_out = 0
        for item in items:
            if self.left > 0:
                yield item
            else:
                left_out += 1
        if left_out:
            self.put("left_out", self._stage, left_out)

    def put(self, part: str, name: str, value: Any) -> None:
        """Record a value, and write the record."""
        self.record.setdefault(part, {})[name] = value
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.file, self.record, 1)

    def race(
        self, group: str, name: str, prepare: Callable[[], Any], *, captured: bool = False
    ) -> dict[str, Any]:
        """What a contender takes, as in the other benchmarks, and recorded."""
        watch = Stopwatch()
        seconds = 0.01 if self.tiny else 0.3
        Race(watch, str(self.device), seconds).run(group, name, prepare, captured)
        result = result_of(
            {"group": group, "extra_info": watch.extra_info, "stats": watch.statistics}
        )
        self.record["groups"].setdefault(group, {})[name] = result
        self.put("groups", group, self.record["groups"][group])
        return result


class Stopwatch:
    """What a `Race` needs of pytest-benchmark."""

    def __init__(self) -> None:
        self.group = ""
        self.extra_info: dict[str, Any] = {}
        self.statistics: dict[str, float] = {}

    def pedantic(self, target: Callable[[], Any], *, rounds: int) -> None:
        """Time `rounds` calls, two at least."""
        seconds = []
        for _ in range(max(2, rounds)):
            start = time.perf_counter()
            target()
            seconds.append(time.perf_counter() - start)
        self.statistics = statistics_of(seconds)
