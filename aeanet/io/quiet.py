"""Messages of libraries that a user can do nothing about."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_lock = Lock()
_within = 0
"""How many threads are within `quietly`. Warnings and loggers belong to the process, so the first
silences them and the last restores them.
"""
_restoring = ExitStack()


@contextmanager
def quietly(*names: str) -> Iterator[None]:
    """Within it, Python warnings are off, and the loggers of these names pass only critical
    messages.
    """
    global _within, _restoring

    # once for the process, by the first thread that comes in
    with _lock:
        if not _within:
            _restoring = ExitStack()
            _restoring.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")

        # Restored in reverse order: a level that is remembered twice ends as it was at first.
        for logger in map(logging.getLogger, names):
            _restoring.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if not _within:
                _restoring.close()
