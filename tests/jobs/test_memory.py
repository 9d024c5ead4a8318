import re

import pytest

from pipeline import attention
from pipeline.errors import InputError
from pipeline.heads import Text
from pipeline.jobs import memory
from pipeline.kernels import threads

TEXTS = [
    Text("short", "the cat"),
    Text("long", "the cat sat on the mat " * 5),
    Text("bad", "\ud800"),
]


@pytest.fixture
def one_thread():
    threads.use(1)
    yield
    threads.use(None)


def test_the_need_is_of_weights_and_maps(made, one_thread):
    model = made("bert")
    weights = 4 * sum(p.numel() for p in model.network.parameters())
    more = memory.need(model, 20) - memory.BASE - weights
    assert more == memory.MAPS * 4 * 20 * 20 * 8 + memory.RESULTS * 3 * 4 * 20
    threads.use(2)
    assert memory.need(model, 20) - memory.BASE - weights - more == 4 * 20 * 20 * 8


def test_what_fits_is_not_refused(made):
    memory.check(made("bert"), TEXTS, 10_000, 1)
    memory.check(made("bert"), TEXTS, None, 1)


def test_the_longest_text_is_refused_with_the_cure(made, monkeypatch):
    model = made("bert")
    tokens = len(attention.encode(model, TEXTS[1].text).tokens)
    limit = memory.need(model, tokens - 1)
    monkeypatch.setattr(memory, "free", lambda: 3 * limit)
    with pytest.raises(InputError, match=f"Text long has {tokens} tokens") as error:
        memory.check(model, TEXTS, None, 3)
    most = int(re.search(r"max_tokens to (\d+) or less", str(error.value))[1])
    assert most == tokens - 1
    assert "(free, shared by 3 workers)" in str(error.value)
    memory.check(model, TEXTS[:1], None, 3)


def test_no_more_is_free_than_the_machine_or_a_control_group_has(tmp_path, monkeypatch):
    files = {"/proc/self/cgroup": "0::/slice/job\n", "/sys/fs/cgroup/slice/memory.max": "1000\n"}
    monkeypatch.setattr(memory, "_read", lambda path: files.get(str(path), "max"))
    monkeypatch.setattr(memory, "_of_machine", lambda: 2000)
    memory.free.cache_clear()
    assert memory.free() == 1000
    files = {"/proc/self/cgroup": "4:memory:/job\n"}
    files["/sys/fs/cgroup/memory/job/memory.limit_in_bytes"] = "500\n"
    memory.free.cache_clear()
    assert memory.free() == 500
    files = {"/proc/self/cgroup": "0::/\n"}
    memory.free.cache_clear()
    assert memory.free() == 2000
    memory.free.cache_clear()
