"""The command's own settings."""

import subprocess
import sys

import pytest

from commands import explore
from pipeline.errors import InputError
from pipeline.explorer import MEMORY

# Numbers of many sizes from many threads, of which the last few stay: what a page's answers do.
CHURN = """
import sys, threading
import numpy as np
from commands import explore

explore._return_memory()

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

def churn(seed):
    rng = np.random.default_rng(seed)
    kept = []
    for _ in range(150):
        kept.append(np.ones(int(rng.integers(2**15, 2**21))))
        del kept[:-2]
        small = [bytes(500) for _ in range(2000)]
    del kept

before = used()
threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(used() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and glibc")
def test_what_threads_let_go_returns_to_the_system():
    ran = subprocess.run([sys.executable, "-c", CHURN], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 60  # megabytes


def test_the_bound_of_memory_is_a_setting():
    assert explore.parse([]).memory_mb * 2**20 == MEMORY
    assert explore.parse(["--memory-mb", "512"]).memory_mb == 512
    for word in ("0", "-5", "x", "1.5", "9" * 5000):
        with pytest.raises(InputError, match="no whole number of megabytes from 64"):
            explore.parse(["--memory-mb", word])
