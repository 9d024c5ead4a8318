"""How much memory a text will take, estimated before it does: so that it is refused, not killed."""

import contextlib
import ctypes
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from pipeline import attention
from pipeline.errors import InputError, TextError
from pipeline.heads import Text
from pipeline.kernels import threads
from pipeline.models import Model

MB = 2**20
# Measured by benchmarks/need.py: 1.05 to 1.21 times the peak of minilm and smollm2, with 256 to
# 2048 tokens, 1 and 2 threads.
BASE = 650 * MB  # torch, transformers, and the compiled kernels
MAPS = 4  # times (heads, n, n) float64: a layer's maps and what is made of them
RESULTS = 768  # bytes that are kept for each token under each head until the text is done
# Below this glibc keeps what is freed, and what outlives a layer then splits the gaps, so that
# a text took twice its memory.
RETURNED_FROM = 4 * MB
M_MMAP_THRESHOLD = -3


def need(model: Model, tokens: int) -> int:
    """Bytes that a process takes at most which looks at a text of so many tokens.

    The network's parameters, and a multiple of heads x tokens^2 x 8 bytes for the layers in
    flight. In homology dimensions 2 and 3, which GUDHI computes, it may take more: that
    depends on the text.
    """
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters())
    # With threads to spare one layer is looked at while the next is computed.
    maps = MAPS + (threads.count() > 1)
    flight = maps * model.heads * tokens**2 * 8
    return int(BASE + weights + flight + RESULTS * model.layers * model.heads * tokens)


def check(model: Model, texts: Sequence[Text], memory_mb: int | None, workers: int) -> None:
    """Raise InputError for the longest of some texts, where a worker has not the memory for it.

    memory_mb: what a worker may use; None: what was free when it began, shared by all workers.
    """
    limit = free() // workers if memory_mb is None else memory_mb * MB
    if need(model, model.spec.max_tokens) <= limit:
        return
    tokens, text_id = max((_tokens(model, text), text.text_id) for text in texts)
    if need(model, tokens) > limit:
        whose = f"free, shared by {workers} workers" if memory_mb is None else "engine.memory_mb"
        raise InputError(
            f"Text {text_id} has {tokens} tokens, for which model {model.name} needs about "
            f"{need(model, tokens) // MB} MB, and a worker may use {limit // MB} ({whose}). Set "
            f"models.{model.name}.max_tokens to {_most(model, limit)} or less, or, where there is "
            "more memory, engine.memory_mb to more, or engine.workers to fewer."
        )


def _tokens(model: Model, text: Text) -> int:
    try:
        return len(attention.encode(model, text.content).tokens)
    except TextError:
        return 0  # it will be skipped, with its reason


def _most(model: Model, limit: int) -> int:
    """The most tokens that there is memory for."""
    return bisect_right(range(1, model.spec.max_tokens), limit, key=lambda n: need(model, n))


@cache
def free() -> int:
    """Bytes that this process may use: what is free here, or a control group's limit."""
    return min([_of_machine(), *_of_groups()])


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        values = dict(line.split(":") for line in lines)
        own = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        page = os.sysconf("SC_PAGE_SIZE")
        return int(values["MemAvailable"].split()[0]) * 1024 + own * page
    except (OSError, KeyError):  # not a Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups() -> Iterator[int]:
    """The limits of the control groups that this process is in, versions 1 and 2."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, kind, name = line.split(":", 2)
        top = Path("/sys/fs/cgroup") / (kind if kind == "memory" else "")
        if kind in ("", "memory"):
            inner = top / name.lstrip("/")
            for group in (inner, *inner.parents):
                for file in ("memory.max", "memory.limit_in_bytes"):
                    if (limit := _read(group / file).strip()).isdigit():
                        yield int(limit)


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text("ascii")
    except OSError:
        return ""


def return_early() -> None:
    """Let this process give back what it frees, where its C library can do so."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, RETURNED_FROM)
