"""Implementations of one thing, timed by turns on the same input."""

import importlib
import sys
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

OURS = "this project"
TURN = 0.2  # seconds
PAUSE = 0.1


class Side(NamedTuple):
    """One implementation's work: a call, and how many items it does."""

    call: Callable[[], Any]
    items: int


def race(sides: Mapping[str, Side], repeats: int, unit: str = "ms") -> list[dict[str, Any]]:
    """Best and median time an item, and ratio to ours, for each side.

    The sides take turns, so that a slow moment of the machine falls on all of them. Each is
    called once before; a turn is as many calls as fill TURN, after a pause in which the
    threads of the side before, which spin for a while, come to rest, and, if there is time
    for more than one, after a call that wakes the cores again. `ratio` is of the medians;
    ratio_min and ratio_max are over rounds.
    """
    scale = {"ms": 1e3, "us": 1e6}[unit]
    for side in sides.values():
        side.call()
    calls = {name: max(1, round(TURN / _seconds(side, 1))) for name, side in sides.items()}
    times = {name: np.empty(repeats) for name in sides}
    for number in range(repeats):
        for name, side in sides.items():
            time.sleep(PAUSE)
            if calls[name] > 1:
                side.call()
            times[name][number] = scale * _seconds(side, calls[name]) / side.items
    ours = times[OURS]
    return [
        {
            "implementation": name,
            f"best_{unit}": float(spent.min()),
            f"median_{unit}": float(np.median(spent)),
            "ratio": float(np.median(spent) / np.median(ours)),
            "ratio_min": float((spent / ours).min()),
            "ratio_max": float((spent / ours).max()),
        }
        for name, spent in times.items()
    ]


def _seconds(side: Side, calls: int) -> float:
    """Seconds of a call, the mean of so many."""
    start = time.perf_counter()
    for _ in range(calls):
        side.call()
    return (time.perf_counter() - start) / calls


def peer(name: str) -> ModuleType | None:
    """A library to compare with, or None, said aloud, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name} left out: {error}", file=sys.stderr)
        return None
