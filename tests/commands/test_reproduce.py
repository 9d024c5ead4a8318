"""A clone that ran once, and what `python -m commands.reproduce` says of its commits."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from commands import reproduce
from pipeline import files, store
from pipeline.errors import InputError
from stages.repository import locks, revisions, verification
from stages.repository.revisions import Checkout
from stages.repository.verification import DIFFERENT, SAME, UNKNOWN, WITHIN, Result
from tests.clone import cloned, git


def say(clone, *words):
    answer = clone.say(sys.executable, "-m", "commands.reproduce", *words)
    assert "Traceback" not in answer.stderr
    return answer


def verdicts(answer) -> dict[str, str]:
    lines = [line for line in answer.stdout.splitlines() if line[:1] not in (" ", "")]
    return {line[18:]: line[:16].strip() for line in lines[:-1]}


@pytest.fixture
def changed(ran):
    """The clone on a branch of its own; afterwards as it was, the model's weights too."""
    git(ran.folder, "checkout", "-qb", "changed")
    weights = ran.folder.parent / "tiny" / "model.safetensors"
    before = weights.read_bytes()
    yield ran
    weights.write_bytes(before)
    git(ran.folder, "checkout", "-qf", ran.head)
    git(ran.folder, "branch", "-qD", "changed")


def flip_a_bit(clone) -> None:
    weights = clone.folder.parent / "tiny" / "model.safetensors"
    values = bytearray(weights.read_bytes())
    values[-2] ^= 0x40
    weights.write_bytes(values)


@pytest.mark.integration
def test_what_is_kept_is_as_dvc_lock_says(ran):
    answer = say(ran)
    assert answer.returncode == 0
    assert verdicts(answer) == dict.fromkeys(verdicts(answer), SAME)
    assert sorted(verdicts(answer)) == sorted(ran.outputs())
    assert len(git(ran.folder, "worktree", "list").splitlines()) == 1
    assert git(ran.folder, "status", "--porcelain") == ""


@pytest.mark.integration
def test_one_config_value_and_one_weight_bit_are_each_named(changed):
    for name in ("conf/model/tiny.yaml", "params.yaml"):
        changed.edit(name, "max_tokens: 48", "max_tokens: 40")
    changed.commit("One value")
    flip_a_bit(changed)
    kept = say(changed, "--rev", "changed")
    assert kept.returncode == 1
    assert "other configuration models.tiny.max_tokens: 48 -> 40" in kept.stdout
    assert f"other input: {changed.folder.parent / 'tiny'}" in kept.stdout
    again = say(changed, "--rev", "changed", "--source", "recompute")
    assert again.returncode == 1
    assert "other configuration models.tiny.max_tokens: 48 -> 40" in again.stdout
    assert "other weights of tiny: " in again.stdout
    found = verdicts(again)
    assert found["data/corpus/parallel.parquet"] == SAME
    assert found["outputs/diagrams/tiny/diagrams.parquet"] == DIFFERENT
    assert found["outputs/tables/head_distances.parquet"] == DIFFERENT
    assert "entropy at model=tiny text_id=" in again.stdout
    assert "other tokenizer" not in again.stdout
    assert "other code" not in again.stdout


@pytest.mark.integration
def test_what_is_damaged_or_gone_is_said(ran):
    lock = locks.parse((ran.folder / "dvc.lock").read_text())
    (md5,) = lock["equivariance@tiny"].outs.values()
    cached = ran.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    whole = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(whole[:-1] + b"x")
    try:
        answer = say(ran)
        path = "outputs/equivariance/tiny.parquet"
        assert (answer.returncode, verdicts(answer)[path]) in ((1, DIFFERENT), (2, UNKNOWN))
        cached.unlink(missing_ok=True)
        answer = say(ran)
        assert (answer.returncode, verdicts(answer)[path]) == (2, UNKNOWN)
        assert "`dvc push` where they were made" in answer.stderr
    finally:
        cached.unlink(missing_ok=True)
        cached.write_bytes(whole)


@pytest.mark.integration
def test_a_clone_without_the_tables_on_another_machine_compares_what_git_keeps(ran, tmp_path):
    other = cloned(ran, tmp_path)
    other.environment["ATEN_CPU_CAPABILITY"] = "default"
    answer = say(other, "--source", "recompute", "--rev", "HEAD")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = verdicts(answer)
    assert found["outputs/diagrams/tiny/tokens.parquet"] == SAME
    assert found["outputs/attention/tiny/attention.parquet"] == WITHIN
    assert found["outputs/tables/head_distances.parquet"] == WITHIN
    assert found["outputs/samples/parallel"] == found["outputs/plots"] == WITHIN
    assert found["outputs/report/index.html"] == WITHIN
    assert "rows, which git keeps:" in answer.stdout
    assert "what is left is the machine" in answer.stdout


@pytest.mark.integration
def test_a_dirty_tree_is_not_called_verified(changed):
    changed.edit("README.md", "make demo", "make it")
    answer = say(changed)
    assert answer.returncode == 2
    assert "changes that no commit holds (README.md)" in answer.stderr
    answer = say(changed, "--rev", "HEAD")
    assert answer.returncode == 0
    assert "own changes were not verified: README.md" in answer.stderr


@pytest.mark.integration
def test_without_dvc_lock_there_is_nothing_to_verify(changed):
    (changed.folder / "dvc.lock").unlink()
    changed.commit("No lock")
    answer = say(changed)
    assert answer.returncode == 2
    assert "has no dvc.lock" in answer.stderr
    assert "`git log -- dvc.lock` lists commits" in answer.stderr


@pytest.mark.integration
def test_what_a_removed_model_left_in_dvc_lock_is_said_and_not_verified(changed):
    entry = "  diagrams@gone:\n    cmd: python -m stages.diagrams +model=gone\n"
    with (changed.folder / "dvc.lock").open("a") as lock:
        lock.write(entry)
    changed.commit("A stray")
    answer = say(changed)
    assert answer.returncode == 0
    assert "dvc.lock has stages that the revision has not: diagrams@gone" in answer.stderr
    changed.edit("dvc.lock", "  corpus:\n    cmd", "  renamed:\n    cmd")
    changed.commit("A stage without an entry")
    answer = say(changed)
    assert answer.returncode == 2
    assert "no entry for corpus" in answer.stderr


@pytest.mark.integration
def test_another_environment_is_made_or_named(changed, tmp_path, monkeypatch):
    changed.edit("constraints.txt", "numpy==", "numpy==1.")
    changed.commit("Other pins")
    make = tmp_path / "make"
    make.write_text("#!/bin/sh\nexit 1\n")
    make.chmod(0o755)
    monkeypatch.setitem(changed.environment, "PATH", f"{tmp_path}:{changed.environment['PATH']}")
    answer = say(changed)
    assert answer.returncode == 2
    assert "environment: its own, by `make setup`, as this one differs: numpy 2" in answer.stderr
    assert "--environment here" in answer.stderr
    answer = say(changed, "--environment", "here")
    assert answer.returncode == 1
    assert "though it is not as the revision pins: numpy 2" in answer.stderr
    assert "other pins: constraints.txt" in answer.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rev", "nowhere"], "'nowhere' is no revision here"),
        (["rev=v1"], "Unrecognized arguments: rev=v1; see python -m commands.reproduce --help"),
        (["--source", "guess"], "--source: invalid choice: 'guess'"),
    ],
)
def test_a_wrong_word_is_a_sentence(words, says):
    with pytest.raises(InputError, match=says):
        reproduce.main(words)


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.name", "A Reader")
    git(tmp_path, "config", "user.email", "reader@example.invalid")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "One")
    return tmp_path


def test_a_revision_is_a_commit_a_tag_or_an_experiment(repository):
    commit = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "tag", "v1")
    git(repository, "update-ref", "refs/exps/12/3456/soft-moss", commit)
    names = ("HEAD", commit[:10], "v1", "soft-moss")
    assert {revisions.resolve(repository, name) for name in names} == {commit}
    git(repository, "commit", "-q", "--allow-empty", "-m", "Two")
    git(repository, "update-ref", "refs/exps/78/9012/soft-moss", "HEAD")
    with pytest.raises(InputError, match="2 experiments are called 'soft-moss'"):
        revisions.resolve(repository, "soft-moss")


PATH = "outputs/tables/text_distances.parquet"


def table(folder: Path, distance: float, provenance: dict) -> str:
    row = {name: ["x"] for name in ("corpus", "model", "text_a", "text_b")}
    row |= {name: [0] for name in ("dimension", "layer", "head")} | {"distance": [distance]}
    rows = pa.table(row).select(store.SCHEMAS["text_distances"].names)
    store.write(folder / PATH, "text_distances", [rows], provenance)
    return files.md5(folder / PATH)


@pytest.mark.parametrize(("distance", "verdict"), [(0.5000001, WITHIN), (0.6, DIFFERENT)])
def test_what_was_made_alike_differs_by_the_machine(tmp_path, distance, verdict):
    home, folder = tmp_path / "home", tmp_path / "tree"
    before, after = table(home, 0.5, {"code": "a"}), table(folder, distance, {"code": "a"})
    log = home / store.LOGS / "runs.jsonl"
    log.parent.mkdir(parents=True)
    line = {"stage": "comparison", "model": None, "cpu": "Another CPU", "features": ["avx"]}
    log.write_text(json.dumps(line) + "\n")
    tree = Checkout(home, folder, tmp_path, Path(sys.executable), tmp_path / "cache")
    found = verification._again(tree, "comparison", PATH, before, after, [])
    assert found.verdict == verdict
    said = "\n".join(found.lines)
    assert "what is left is the machine" in said
    assert "on another machine: Another CPU, avx" in said
    table(folder, distance, {"code": "b"})
    said = verification._again(tree, "comparison", PATH, before, "other", []).lines
    assert "other code: a -> b" in said
    assert not any("machine" in line for line in said)


def test_without_the_recorded_bytes_the_cause_is_still_said(tmp_path):
    tree = Checkout(tmp_path, tmp_path, tmp_path, Path(sys.executable), tmp_path)
    found = verification._again(tree, "comparison", PATH, "0" * 32, "1" * 32, ["other code: x.py"])
    assert found.verdict == DIFFERENT
    assert found.lines[0] == "other code: x.py"
    assert found.lines[1].startswith(verification.NOT_AT_HAND)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([SAME, SAME], 0),
        ([SAME, WITHIN], 0),
        ([SAME, UNKNOWN], 2),
        ([UNKNOWN, DIFFERENT], 1),
        ([], 2),
    ],
)
def test_the_exit_status_says_which(found, status):
    assert verification.status([Result("x", verdict) for verdict in found]) == status


def test_a_page_follows_its_tables():
    results = [Result("a.parquet", WITHIN), Result("b.html", DIFFERENT), Result("c", DIFFERENT)]
    verification._judge_pages(results)
    assert [one.verdict for one in results] == [WITHIN, WITHIN, WITHIN]
    results = [Result("a.parquet", WITHIN), Result("b.html", DIFFERENT, ["other code: x.py"])]
    verification._judge_pages(results)
    assert results[1].verdict == DIFFERENT
    results = [Result("a.parquet", SAME), Result("b.html", DIFFERENT)]
    verification._judge_pages(results)
    assert results[1].verdict == DIFFERENT
