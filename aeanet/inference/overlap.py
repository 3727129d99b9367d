"""Many items through three steps, of which the first and the last run beside the second."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any, TypeVar

from torch.distributed import ProcessGroup

from aeanet.distributed import AgreedError, agreeing

Item = TypeVar("Item")
Source = TypeVar("Source")
Result = TypeVar("Result")
Report = TypeVar("Report")


def overlapped(
    items: Sequence[Item],
    read: Callable[[Item], Source],
    work: Callable[[Item, Source], Result],
    finish: Callable[[Item, Result], Report],
    tell: Callable[[Item, Callable[[], Report]], None],
    *,
    group: ProcessGroup | None = None,
) -> None:
    """Read, work on, finish and tell of each item, in their order.

    While this thread works on an item, another reads the next one, and a third finishes the one
    before: no more than three are in memory. An error ends its item alone, and is raised when it is
    told of. After Ctrl-C the item that is being finished is still told of.

    Args:
        items: in their order.
        read: makes of an item what `work` needs.
        work: the step that takes longest; the only one that may exchange something with other
            processes.
        finish: makes of a result what is to be told.
        tell: is given an item, and a function that returns what `finish` made of it or raises the
            first error of a step; it is called in this thread.
        group: processes that work on each item together. An error of one of them in `read` or
            `finish`, which the user can mend, is one of all.

    Raises:
        Exception: what `tell` raises; of several processes, also what `work` raises in one of them
            alone.
    """
    # the item before the one that is worked on, and what `finish` makes of it
    last: tuple[Item, Future[Report]] | None = None

    def tell_of_last() -> None:
        nonlocal last
        if last is not None:
            item, finished = last
            wait([finished])
            last = None
            tell(item, lambda: _agreed(finished, group))

    # An item is told of before the next one begins to be finished, so at most three are there.
    reading = _begin(read, items[0], daemon=True) if items else Future()
    try:
        for number, item in enumerate(items, 1):
            source = reading
            wait([source])
            if number < len(items):
                reading = _begin(read, items[number], daemon=True)
            result = _tried(work, item, source, group)
            tell_of_last()
            last = item, _begin(_finished, finish, item, result, daemon=False)
    except BaseException:
        # Several processes may be at different places, so they exchange nothing more.
        if group is None:
            tell_of_last()
        raise
    tell_of_last()


def _begin(function: Callable[..., Any], *arguments: Any, daemon: bool) -> Future[Any]:
    """Call a function in a thread of its own, for which the program waits at its end unless it is a
    daemon.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=daemon).start()
    return future


def _agreed(future: Future[Any], group: ProcessGroup | None) -> Any:
    with agreeing(group):
        return future.result()


def _tried(
    work: Callable[[Any, Any], Result], item: Any, source: Future[Any], group: ProcessGroup | None
) -> Future[Result]:
    """The result of `work`, or its error, as a future that is done."""
    result: Future[Result] = Future()
    try:
        result.set_result(work(item, _agreed(source, group)))
    except Exception as error:
        if group is not None and not isinstance(error, AgreedError):
            raise
        result.set_exception(error)
    return result


def _finished(finish: Callable[[Any, Any], Report], item: Any, result: Future[Any]) -> Report:
    return finish(item, result.result())
