"""What SLURM is asked and told, with commands that answer as it does."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.work import slurm
from pipeline.work.slurm import ClusterSpec, Queued

SPEC = ClusterSpec(
    partition=None,
    account=None,
    minutes=30,
    memory_mb=None,
    cpus=2,
    gpus=0,
    parts_per_task=4,
    at_once=None,
    lines=(),
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a command of SLURM's in place that says something, and ends as it is told to."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, says: str, code: int = 0, err: str = "") -> None:
        script = tmp_path / "bin" / name
        (tmp_path / "says").write_text(says)
        (tmp_path / "err").write_text(err)
        script.write_text(f"#!/bin/sh\ncat {tmp_path}/says\ncat {tmp_path}/err >&2\nexit {code}\n")
        script.chmod(0o755)

    return make


def test_the_script_keeps_every_word_a_word(tmp_path):
    """Names hold what a shell would act upon; none of it is."""
    evil = tmp_path / "a b; touch gone $(touch gone) 'x' \"y\" %j"
    evil.mkdir()
    words = ["printf", "%s\n", "$HOME `touch gone`", "*"]
    lines = ("export MINE=1", "#SBATCH --qos=long")
    text = slurm.batch_script(
        replace(SPEC, lines=lines), evil, {"WORK": f"{evil}/w", "OTHER": "$(touch gone)"}, words
    )
    script = tmp_path / "script"
    script.write_text(text + "\n")
    said = subprocess.run(["bash", script, "last one"], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["$HOME `touch gone`", "*", "last one"]
    assert list(tmp_path.rglob("gone")) == []
    # sbatch reads its options up to the first command, so they come first.
    assert text.splitlines()[:3] == ["#!/bin/bash", "#SBATCH --qos=long", "export MINE=1"]


def test_the_script_ends_as_its_command_does(tmp_path):
    script = tmp_path / "script"
    script.write_text(slurm.batch_script(SPEC, tmp_path, {}, ["sh", "-c", "exit 7"]))
    assert subprocess.run(["bash", script], check=False).returncode == 7


def test_a_folder_that_is_gone_ends_the_script(tmp_path):
    script = tmp_path / "script"
    script.write_text(slurm.batch_script(SPEC, tmp_path / "gone", {}, ["touch", "made"]))
    answer = subprocess.run(["bash", script], capture_output=True, check=False, cwd=tmp_path)
    assert answer.returncode == 1
    assert not (tmp_path / "made").exists()


def test_options_are_those_that_were_given():
    spec = replace(SPEC, partition="gpu", memory_mb=500)
    options = slurm.options(spec, "name", Path("/logs/50%/task-%a.log"))
    assert "--partition=gpu" in options
    assert "--time=30" in options
    assert "--mem=500" in options
    # A folder's own % is no placeholder of SLURM's.
    assert "--output=/logs/50%%/task-%a.log" in options
    assert not [option for option in options if option.startswith("--account")]
    assert {"--requeue", "--open-mode=append", "--signal=B:USR1@60"} <= set(options)


@pytest.mark.parametrize(("at_once", "option"), [(None, "--array=0-6"), (2, "--array=0-6%2")])
def test_an_array_is_as_long_as_its_tasks(at_once, option):
    assert slurm.array(7, replace(SPEC, at_once=at_once)) == option


def test_what_waits_or_runs_is_queued_and_what_ends_is_not(command):
    command("squeue", "12|0|RUNNING|a\n12|3|PENDING|a\n13|N/A|PENDING|b|c\n12|1|COMPLETING|a\n")
    assert slurm.queued() == [
        Queued(12, "a", 0),
        Queued(12, "a", 3),
        Queued(13, "b|c", None),
    ]


def test_the_longest_array_is_asked_for(command):
    command("scontrol", "ClusterName = x\nMaxArraySize            = 1001\nMaxJobCount = 9\n")
    assert slurm.longest_array() == 1001


@pytest.mark.parametrize("says", ["MaxArraySize = 0\n", "ClusterName = x\n"])
def test_a_cluster_without_arrays_is_refused(command, says):
    command("scontrol", says)
    with pytest.raises(InputError, match="takes no arrays"):
        slurm.longest_array()


def test_a_job_has_a_number(command):
    command("sbatch", "77;other\n")
    assert slurm.submit(Path("s.sh"), ["0"], []) == 77


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("invalid partition specified: x", "cluster.partition=NAME"),
        ("Invalid account or account/partition combination specified", "cluster.account=NAME"),
        ("Job violates accounting/QOS policy (job submit limit)", "cluster.parts_per_task"),
        ("Requested node configuration is not available", "cluster.memory_mb, cluster.cpus"),
        ("Unable to contact slurm controller (connect failure)", "`sinfo`"),
        ("something new", "conf/cluster/slurm.yaml"),
    ],
)
def test_a_refusal_is_told_in_its_words_with_the_cure(command, words, cure):
    command("sbatch", "", 1, f"sbatch: error: {words}\n")
    with pytest.raises(InputError) as told:
        slurm.submit(Path("s.sh"), [], [])
    assert words in str(told.value)
    assert cure in str(told.value)


def test_a_machine_without_slurm_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"squeue cannot be run here .*dvc exp run"):
        slurm.queued()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"minutes": 0}, "minutes is 0; it must be at least 1"),
        ({"gpus": -1}, "gpus is -1; it cannot be negative"),
        ({"at_once": 0}, "at_once is 0"),
        ({"lines": ("a\nb",)}, "a line break"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        replace(SPEC, **change)
