"""Values made once and kept while there is room, for many threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass
class _Slot(Generic[V]):
    """The place of one value; whoever makes it holds the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: tuple[V] | None = None
    size: int = 0


class Cache(Generic[V]):
    """Values by key, made when first asked for; those asked for last stay, up to so many bytes.

    Two that ask for the same value at once get the same one, made once, and nobody waits for
    the value of another. The value asked for last stays, whatever its size.
    """

    def __init__(self, limit: float, weigh: Callable[[V], int]) -> None:
        self._limit, self._weigh = limit, weigh
        self._slots: OrderedDict[Hashable, _Slot[V]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """What is kept now, or has its room."""
        with self._lock:
            return sum(slot.size for slot in self._slots.values())

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key; where making it fails, the next who asks tries again."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.lock:
            if slot.made is None:
                slot.made = (self._make(key, slot, make),)
                self._keep(slot)
            return slot.made[0]

    def _make(self, key: Hashable, slot: _Slot[V], make: Callable[[], V]) -> V:
        try:
            return make()
        except BaseException:
            with self._lock:
                if self._slots.get(key) is slot:
                    del self._slots[key]
            raise

    def reserve(self, key: Hashable, size: int) -> None:
        """Make room for the value that is being made for a key, before it takes its memory."""
        with self._lock:
            if slot := self._slots.get(key):
                self._fit(slot, size)

    def _keep(self, slot: _Slot[V]) -> None:
        assert slot.made is not None
        with self._lock:
            self._fit(slot, self._weigh(slot.made[0]))

    def _fit(self, slot: _Slot[V], size: int) -> None:
        slot.size = size
        total = sum(slot.size for slot in self._slots.values())
        for key, old in list(self._slots.items()):
            if total <= self._limit:
                break
            if old is not slot and old.made is not None:
                total -= self._slots.pop(key).size
