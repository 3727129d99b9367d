"""Standard streams that end no run, whatever they are: of any encoding, closed, full, or pipes that
nobody reads.
"""

import codecs
import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PLAIN = {
    "Δ": "delta",
    "±": "+-",
    "−": "-",
    "×": "x",
    "·": "*",
    "µ": "u",
    "μ": "u",
    "Å": "A",
    "—": "-",
}
# Read by libraries when they are imported. They print on standard error what a user can do nothing
# about.
_SETTINGS = {"OPENCV_LOG_LEVEL": "OFF", "TORCH_CPP_LOG_LEVEL": "ERROR"}


class Stream:
    """A standard stream that takes what is written and raises no OSError.

    Once it fails, what is written later is dropped. `trouble` is then the error, None if only the
    reader has gone, as after `| head`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.trouble: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._noting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._noting():
            self._stream.flush()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Windows reports a pipe without reader as EINVAL.
            if error.errno not in (errno.EPIPE, errno.EINVAL):
                self.trouble = error
            with open(os.devnull, "wb") as nowhere:  # for what is still in the buffer
                os.dup2(nowhere.fileno(), self._stream.fileno())


def prepare_streams() -> tuple[Stream, Stream]:
    """Put `Stream` in the place of both standard streams, and keep the messages of other libraries
    from them.

    A character that a stream's encoding does not have is written as a plainer one, or as its code.
    """
    codecs.register_error("aeanet.plain", _plain)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It is closed. The next file to be opened, perhaps a result, must not get its number.
            os.open(os.devnull, os.O_RDWR)

    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            # it stays open for good
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="aeanet.plain")
        setattr(sys, name, Stream(stream))

    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # Without a handler, warnings of libraries go to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    return sys.stdout, sys.stderr  # type: ignore[return-value]


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    coded = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in unknown)
    return "".join(coded), error.end
