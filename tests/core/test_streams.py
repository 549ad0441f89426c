"""Work in several threads whose results are taken in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cnnviz.streams import side_by_side


def test_work_goes_on_at_once_and_each_thread_opens_its_own():
    meeting = threading.Barrier(3)
    opened: list[int] = []

    def opener() -> int:
        opened.append(threading.get_ident())
        return threading.get_ident()

    def work(own: int, item: int) -> int:
        assert own == threading.get_ident()
        # Nobody passes before all three are here.
        meeting.wait(timeout=30)
        return item

    taken: list[int] = []
    side_by_side([opener] * 3, range(6), work, taken.append)
    assert taken == list(range(6))
    assert len(set(opened)) == 3
    assert threading.get_ident() not in opened


def test_what_is_done_first_waits_for_its_turn():
    second = threading.Event()
    taken: list[int] = []

    def work(own: None, item: int) -> int:
        if item == 0:
            assert second.wait(timeout=30)
        elif item == 1:
            second.set()
        return item

    side_by_side([lambda: None] * 2, range(2), work, taken.append)
    assert taken == [0, 1]


def test_one_is_taken_at_a_time():
    busy = threading.Lock()

    def take(item: int) -> None:
        assert busy.acquire(blocking=False)
        time.sleep(0.001)
        busy.release()

    side_by_side([lambda: None] * 4, range(40), lambda _, item: item, take)


def test_few_items_are_read_ahead():
    read: list[int] = []
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            assert len(read) - len(taken) <= 3
            read.append(i)
            yield i

    side_by_side([lambda: None] * 2, items(), lambda _, item: item, taken.append)
    assert taken == read == list(range(20))


@pytest.mark.parametrize("where", ["items", "open", "work", "take"])
def test_what_is_raised_comes_through_and_nothing_is_taken_after_it(where):
    taken: list[int] = []

    def fail_at(name: str, item: int) -> int:
        if name == where and item == 3:
            raise ValueError(name)
        return item

    def take(item: int) -> None:
        taken.append(fail_at("take", item))

    items = (fail_at("items", i) for i in range(10))
    with pytest.raises(ValueError, match=where):
        side_by_side([lambda: fail_at("open", 3)] * 2, items, lambda _, i: fail_at("work", i), take)
    assert taken == list(range(len(taken)))
    assert len(taken) <= 3


def test_what_is_set_for_the_caller_holds_in_the_threads():
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        side_by_side(
            [lambda: None] * 2, [0.0, 0.0], lambda _, x: 1 / np.float64(x), lambda found: None
        )
