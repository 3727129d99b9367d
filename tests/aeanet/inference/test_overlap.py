"""Items that overlap: their order, how many are in memory, errors, and Ctrl-C."""

import gc
import threading
import weakref
from collections.abc import Callable
from threading import Event

import pytest

from aeanet.inference.overlap import overlapped

PATIENCE = 20  # s: of a wait that ends in milliseconds unless something is wrong


class Told:
    """Notes what is told of each item."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, item: str, finished: Callable[[], str]) -> None:
        assert threading.current_thread() is threading.main_thread()
        try:
            self.lines.append(f"{item}: {finished()}")
        except ValueError as error:
            self.lines.append(f"{item} fails: {error}")


def failing(step: str, *items: str) -> Callable[..., str]:
    """A step that fails for some items."""

    def run(item: str, *before: str) -> str:
        if item in items:
            raise ValueError(step)
        return " ".join((*before, step))

    return run


@pytest.mark.parametrize(
    ("reads", "works", "finishes"),
    [("", "", ""), ("a", "b", "c"), ("d", "", "a"), ("ab", "cd", ""), ("abcd", "", "")],
)
def test_every_item_is_told_of_in_order_with_its_first_error(
    reads: str, works: str, finishes: str
) -> None:
    told = Told()
    overlapped(
        "abcd", failing("read", *reads), failing("work", *works), failing("finish", *finishes), told
    )
    failed = dict.fromkeys(finishes, "finish") | dict.fromkeys(works, "work")
    failed |= dict.fromkeys(reads, "read")
    assert told.lines == [
        f"{item} fails: {failed[item]}" if item in failed else f"{item}: read work finish"
        for item in "abcd"
    ]


def test_nothing_to_do() -> None:
    overlapped([], failing("read"), failing("work"), failing("finish"), Told())


def test_the_next_is_read_and_the_last_is_finished_while_this_thread_works() -> None:
    """Each step of b waits for the steps of a and c that are to run beside it."""
    read_c, finishing_a, worked_b = Event(), Event(), Event()

    def read(item: str) -> str:
        if item == "c":
            read_c.set()
        return "read"

    def work(item: str, source: str) -> str:
        if item == "b":
            assert read_c.wait(PATIENCE), "c is not read beside it"
            assert finishing_a.wait(PATIENCE), "a is not finished beside it"
            worked_b.set()
        return f"{source} work"

    def finish(item: str, result: str) -> str:
        if item == "a":
            finishing_a.set()
            assert worked_b.wait(PATIENCE), "b waits until a is finished"
        return f"{result} finish"

    told = Told()
    overlapped("abc", read, work, finish, told)
    assert told.lines == [f"{item}: read work finish" for item in "abc"]


def test_no_more_than_three_items_are_in_memory() -> None:
    class Image:
        pass

    alive: weakref.WeakSet[Image] = weakref.WeakSet()
    most = 0

    def note(*_: object) -> Image:
        nonlocal most
        image = Image()
        alive.add(image)
        gc.collect()
        most = max(most, len(alive))
        return image

    def finish(_item: int, result: Image) -> str:
        assert result in alive
        return "finish"

    overlapped(range(8), note, lambda _item, source: source, finish, lambda _item, done: done())
    assert 1 < most <= 3
    gc.collect()
    assert len(alive) <= 1


def test_after_ctrl_c_what_was_being_finished_is_told_of() -> None:
    told, interrupted = Told(), Event()

    def work(item: str, source: str) -> str:
        if item == "c":
            interrupted.set()
            raise KeyboardInterrupt
        return f"{source} work"

    def finish(item: str, result: str) -> str:
        if item == "b":
            assert interrupted.wait(PATIENCE)
        return f"{result} finish"

    with pytest.raises(KeyboardInterrupt):
        overlapped("abcd", failing("read"), work, finish, told)
    assert told.lines == ["a: read work finish", "b: read work finish"]
