"""The default experiment as arrays on a real SLURM that loses tasks, jobs and a node."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline import store
from pipeline.jobs import context, diagrams
from tests.clone import Clone
from tests.slurm.cluster import Slurm, wait_until

MODELS = ("minilm", "smollm2")
pytestmark = [pytest.mark.slurm, pytest.mark.integration, pytest.mark.model]

TABLES = (
    *(f"outputs/diagrams/{name}/{table}.parquet" for name in MODELS for table in diagrams.TABLES),
    *(f"outputs/context/{name}/{table}.parquet" for name in MODELS for table in context.TABLES),
    *(str(store.path(table)) for table in ("head_distances", "text_distances")),
)
# Small parts, so that there is something to lose.
CUT = ("engine.part_texts=4", "cluster.cpus=1", "cluster.parts_per_task=5", "null=[]")


class Cluster(Clone):
    """A clone on a cluster's shared disk."""

    def __init__(self, folder: Path, work: Path, slurm: Slurm) -> None:
        super().__init__(folder, work)
        self.work, self.slurm = work, slurm
        self.environment |= {"SLURM_CONF": str(slurm.conf)}

    def words(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "commands.submit", *CUT, *words)

    def submit(self, *words: str) -> str:
        return self.run(*self.words(*words))

    def locally(self, work: Path, stages: Sequence[str], *words: str) -> str:
        """What DVC does by itself, in a work folder."""
        self.run(sys.executable, "-m", "commands.compose", "null=[]", *words)
        environment = self.environment
        self.environment = environment | {"ATTENTION_TOPOLOGY_WORK": str(work)}
        said = self.run("dvc", "repro", "--no-run-cache", *stages)
        self.environment = environment
        return said

    def tables(self, folder: Path) -> dict[str, str]:
        return {name: store.sha256(folder / name) for name in TABLES}

    def joined(self) -> Path:
        """The folder of the tables that the cluster joins."""
        [run] = self.work.glob("runs/*")
        return run

    def logs(self) -> str:
        found = sorted(self.work.glob("plans/*/logs/*"))
        return "\n".join(f"== {log.name}\n{log.read_text('utf-8', 'replace')}" for log in found)

    def done(self) -> set[str]:
        return {path.parent.name for path in self.work.glob("*/*/manifest.json")}

    def end(self) -> None:
        """Wait until nothing is queued, without the two minutes that a requeued job rests."""

        def hurried() -> bool:
            for job, place, state, _ in self.slurm.queue():
                if state == "PENDING" and place.isdigit():
                    self.slurm.say("scontrol", "update", f"JobId={job}_{place}", "StartTime=now")
            return not self.slurm.queue()

        wait_until(hurried, 600, lambda: f"{self.slurm.queue()}\n{self.logs()}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, slurm: Slurm) -> Cluster:
    return Cluster(tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("work"), slurm)


@pytest.fixture(autouse=True)
def nothing_queued(slurm: Slurm) -> Iterator[None]:
    yield
    slurm.say("scancel", "-u", str(os.getuid()))
    wait_until(lambda: not slurm.queue(), 60, slurm.faults)


def tasks(slurm: Slurm) -> dict[str, int]:
    """The tasks that run on the first node, "job_place" -> the process."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "environ").read_bytes().decode("utf-8", "replace").split("\0")
            line = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        about = dict(word.partition("=")[::2] for word in words)
        here = about.get("SLURM_CONF") == str(slurm.conf) and about.get("SLURMD_NODENAME") == "n1"
        if here and "commands.task" in line and "SLURM_ARRAY_TASK_ID" in about:
            name = f"{about['SLURM_ARRAY_JOB_ID']}_{about['SLURM_ARRAY_TASK_ID']}"
            found[name] = int(process.name)
    return found


def test_a_cluster_that_loses_tasks_gives_the_bytes_of_one_process(cluster, slurm, tmp_path):
    cluster.locally(tmp_path / "local", ["comparison", "context"])
    expected = cluster.tables(cluster.folder)
    shutil.rmtree(cluster.folder / "outputs")
    (cluster.folder / "dvc.lock").unlink()
    for converted in (tmp_path / "local").glob("gguf-*"):  # which takes 20 s
        shutil.copytree(converted, cluster.work / converted.name)

    said = cluster.submit()
    assert "32 parts in 8 tasks" in said  # twice 15 of diagrams; one of context for each model
    assert "and submits comparison" in said

    # One task is killed outright, and another taken out, when some parts are done.
    wait_until(lambda: cluster.done() and tasks(slurm), 300, cluster.logs)
    os.kill(next(iter(tasks(slurm).values())), signal.SIGKILL)
    waiting = [f"{job}_{place}" for job, place, state, _ in slurm.queue() if state == "PENDING"]
    slurm.say("scancel", next(name for name in waiting if name.split("_")[1].isdigit()))

    # A node is lost while it works.
    def at_work() -> bool:
        return any(state == "RUNNING" and node == "n2" for _, _, state, node in slurm.queue())

    wait_until(at_work, 300, cluster.logs)
    slurm.end_node("n2")

    # What is queued is not submitted again; what was lost is.
    first = cluster.done()
    again = cluster.submit()
    assert 0 < int(re.search(r"(\d+) parts in", again)[1]) < 32
    slurm.start_node("n2")
    cluster.end()
    assert cluster.done() > first
    cluster.submit()
    cluster.end()
    assert "Nothing is missing" in cluster.submit()
    assert cluster.tables(cluster.joined()) == expected

    # DVC finds the parts: it joins and records.
    done = cluster.done()
    said = cluster.locally(cluster.work, ["comparison", "context"], *CUT)
    assert "diagrams minilm: 15 of 15 parts done before" in said
    assert cluster.done() == done
    assert cluster.tables(cluster.folder) == expected


def test_a_refusal_is_a_sentence_and_loses_nothing(cluster, slurm):
    answer = cluster.say(*cluster.words("distance=notebook", "cluster.partition=nowhere"))
    assert answer.returncode == 1
    assert "refused array 1 of" in answer.stderr
    assert "invalid partition specified" in answer.stderr
    assert "`sinfo -s` lists the partitions" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert slurm.queue() == []


def test_without_slurm_it_says_so(cluster, monkeypatch):
    monkeypatch.setitem(cluster.environment, "PATH", str(Path(sys.executable).parent))
    answer = cluster.say(*cluster.words())
    assert answer.returncode == 1
    assert "squeue cannot be run here" in answer.stderr.splitlines()[-1]
