"""Sharing work between threads."""

import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.kernels import threads
from pipeline.kernels.threads import share


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("tasks", [0, 1, 2, 50])
def test_every_task_is_done_once_and_results_keep_their_order(tasks, threads):
    done = []
    results = share(lambda task: (done.append(task), task * task)[1], tasks, threads)
    assert results == [task * task for task in range(tasks)]
    assert sorted(done) == list(range(tasks))


def test_threads_take_part():
    names = set()

    def work(task):
        names.add(threading.current_thread().name)
        time.sleep(0.02)

    share(work, 8, 2)
    assert len(names) == 2


def test_a_process_can_be_told_how_many_threads():
    def names() -> set[str]:
        def work(task):
            time.sleep(0.02)
            return threading.current_thread().name

        return set(share(work, 8))

    threads.use(None)  # whatever a test before has set
    usual = threads.count()
    threads.use(1)
    assert names() == {threading.current_thread().name}
    threads.use(2)
    with ThreadPoolExecutor(1) as other:  # whichever thread asks
        assert other.submit(threads.count).result() == 2
    threads.use(None)
    assert threads.count() == usual


@pytest.mark.parametrize("failing", [0, 3])
def test_an_error_comes_back(failing):
    def work(task):
        if task == failing:
            raise RuntimeError(f"task {task}")

    with pytest.raises(RuntimeError, match=f"task {failing}"):
        share(work, 4, 3)


def test_many_callers_at_once():
    results = {}

    def call(number):
        results[number] = share(lambda task: number + task, 20, 3)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=30)
    assert results == {number: [number + task for task in range(20)] for number in range(12)}


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_gets_threads_of_its_own():
    script = """
        import os, time
        from pipeline.kernels.threads import share
        def work(task):
            time.sleep(0.01)
            return task
        assert share(work, 4, 2) == [0, 1, 2, 3]
        child = os.fork()
        if child == 0:
            os._exit(0 if share(work, 4, 2) == [0, 1, 2, 3] else 1)
        assert os.waitpid(child, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
