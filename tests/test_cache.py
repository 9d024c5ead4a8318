import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache import Cache


def kept(limit: float) -> Cache[bytes]:
    return Cache(limit, len)


def test_a_value_is_made_once():
    made = []
    memory = kept(10)
    for _ in range(3):
        assert memory.get("a", lambda: made.append(1) or b"xyz") == b"xyz"
    assert made == [1]
    assert memory.bytes == 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8)), min_size=1), st.integers(1, 20))
def test_no_more_is_kept_than_allowed_but_for_the_last(asked, limit):
    memory = kept(limit)
    for key, size in asked:
        value = memory.get(key, lambda size=size: bytes(size))
        assert memory.bytes <= max(limit, len(value))


def test_the_one_asked_for_longest_ago_goes_first():
    memory, made = kept(4), []
    for key in ("a", "b", "a", "c", "a", "b"):
        memory.get(key, lambda key=key: made.append(key) or b"12")
    assert made == ["a", "b", "c", "b"]


def test_a_failure_is_not_kept():
    memory = kept(4)
    with pytest.raises(ZeroDivisionError):
        memory.get("a", lambda: bytes(1 // 0))
    assert memory.bytes == 0
    assert memory.get("a", lambda: b"1") == b"1"


def test_two_who_ask_at_once_get_one_value_and_others_do_not_wait():
    memory, begun, go_on, made, got = kept(100), threading.Event(), threading.Event(), [], []

    def slowly() -> bytes:
        made.append(1)
        begun.set()
        assert go_on.wait(10)
        return b"slow"

    askers = [
        threading.Thread(target=lambda: got.append(memory.get("slow", slowly))) for _ in range(2)
    ]
    for asker in askers:
        asker.start()
    assert begun.wait(10)
    assert memory.get("other", lambda: b"quick") == b"quick"
    go_on.set()
    for asker in askers:
        asker.join(10)
    assert got == [b"slow"] * 2
    assert made == [1]
