"""A disk that is full for now does not end a training of days."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnTrouble = Callable[[OSError], None] | None


@contextmanager
def tolerating(on_trouble: OnTrouble) -> Iterator[None]:
    """Within it, a file that cannot be written is reported to `on_trouble`. Raises OSError if that
    is None.
    """
    try:
        yield
    except OSError as error:
        if on_trouble is None:
            raise
        on_trouble(error)
