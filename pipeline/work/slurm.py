"""SLURM, through its own commands: how long an array may be, what is queued, one job more."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import InputError

# Before its time ends, a task is warned this many seconds ahead, by a signal nothing else sends.
SECONDS_AHEAD = 60
# What has ended but for its node's word: it does nothing any more.
ENDED = ("COMPLETING", "COMPLETED", "CANCELLED", "FAILED")
# What sbatch says, in small letters -> what to do about it.
CURES = {
    "submit": "Let tasks end first, or make fewer of them: cluster.parts_per_task=NUMBER",
    "invalid account": "Give an account of yours with cluster.account=NAME",
    "partition": "`sinfo -s` lists the partitions; give one with cluster.partition=NAME",
    "account": "Give an account of yours with cluster.account=NAME",
    "node configuration": "Ask for less: cluster.memory_mb, cluster.cpus, cluster.gpus",
    "memory": "Ask for less: cluster.memory_mb=NUMBER",
    "time": "Ask for less: cluster.minutes=NUMBER",
    "contact": "The cluster's controller does not answer (`sinfo`); wait until it does",
}


@dataclass(frozen=True)
class ClusterSpec:
    """What a task asks SLURM for: conf/cluster/*.yaml; changes no number."""

    partition: str | None
    account: str | None
    minutes: int
    memory_mb: int | None
    cpus: int
    gpus: int
    parts_per_task: int
    at_once: int | None
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("minutes", "memory_mb", "cpus", "parts_per_task", "at_once"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if self.gpus < 0:
            raise InputError(f"gpus is {self.gpus}; it cannot be negative")
        if any("\n" in line for line in self.lines):
            raise InputError("lines holds a line break; give each line of the script its own entry")


class Queued(NamedTuple):
    """A task of an array, by its place there, or a job that is none, that waits or runs."""

    job: int
    name: str
    place: int | None


def queued() -> list[Queued]:
    """All of this user's jobs that wait or run, arrays listed task by task."""
    answer = _ask("squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%F|%K|%T|%j")
    found = []
    for line in answer.splitlines():
        job, place, state, name = line.split("|", 3)
        if state not in ENDED:
            found.append(Queued(int(job), name, int(place) if place.isdigit() else None))
    return found


def longest_array() -> int:
    """How many tasks this cluster takes in one array."""
    for line in _ask("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize" and int(value) > 0:
            return int(value)
    raise InputError("This cluster takes no arrays (`scontrol show config`: MaxArraySize).")


def submit(script: Path, words: Sequence[str], options: Sequence[str]) -> int:
    """Submit a batch script with its arguments; return the number of the job."""
    answer = _ask("sbatch", "--parsable", *options, str(script), *words)
    return int(answer.split(";")[0])


def requeue(job: str) -> None:
    """Put a job that is running back into the queue."""
    _ask("scontrol", "requeue", job)


def options(spec: ClusterSpec, name: str, log: Path) -> list[str]:
    """What sbatch is given of any of our jobs."""
    asked = {
        "job-name": name,
        "output": str(log.parent).replace("%", "%%") + f"/{log.name}",
        "open-mode": "append",
        "partition": spec.partition,
        "account": spec.account,
        "time": spec.minutes,
        "mem": spec.memory_mb,
        "cpus-per-task": spec.cpus,
        "signal": f"B:USR1@{SECONDS_AHEAD}",
    }
    given = [f"--{key}={value}" for key, value in asked.items() if value is not None]
    return [*given, "--nodes=1", "--ntasks=1", "--requeue"]


def array(count: int, spec: ClusterSpec) -> str:
    """The option that makes an array of a job."""
    return f"--array=0-{count - 1}" + (f"%{spec.at_once}" if spec.at_once else "")


def batch_script(
    spec: ClusterSpec, folder: Path, environment: Mapping[str, str], words: Sequence[str]
) -> str:
    """A script that runs a command in a folder, with the script's own arguments added.

    The user's lines stand as they are, those for sbatch first, as it reads no others.
    """
    directives = [line for line in spec.lines if line.startswith("#SBATCH")]
    lines = [line for line in spec.lines if not line.startswith("#SBATCH")]
    exports = [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]
    # The command takes the shell's place: it gets SLURM's signals, and its exit code is the job's.
    last = f'exec {shlex.join(words)} "$@"'
    middle = [*lines, f"cd {shlex.quote(str(folder))} || exit 1", *exports]
    return "\n".join(["#!/bin/bash", *directives, *middle, last, ""])


def _ask(*words: str) -> str:
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(
            f"{words[0]} cannot be run here ({error.strerror}). Submit from a machine that has "
            "SLURM's commands, or do the work on this one: `dvc exp run`."
        ) from error
    if answer.returncode:
        said = " ".join((answer.stderr or answer.stdout).split())
        raise InputError(f"{words[0]} says: {said}. {_cure(said)}.")
    return answer.stdout


def _cure(said: str) -> str:
    cures = (cure for words, cure in CURES.items() if words in said.lower())
    return next(cures, "Look at what cluster asks for (conf/cluster/slurm.yaml), and at its lines")
