"""`pipeline.files`: hashing an input once for all tasks of a plan; drafts are in test_leases.py."""

import os

import pytest

from pipeline import files, store
from pipeline.errors import InputError
from pipeline.jobs import plans
from tests.test_store import diagrams

KNOWN = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of "hello"


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch):
    monkeypatch.setattr(files, "_seen", {})
    monkeypatch.setattr(files, "_trusted", {})


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "input"
    found.write_bytes(b"hello")
    return found


def test_the_hash_is_sha_256(path):
    assert files.sha256(path) == files.input_sha256(path) == KNOWN


def test_what_is_trusted_is_not_read_while_size_and_time_stand(path, monkeypatch):
    files.input_sha256(path)
    files.trust(files.inputs_seen())
    assert files.trusted(path)
    monkeypatch.setattr(files, "sha256", lambda path: "read again")
    assert files.input_sha256(path) == KNOWN
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert files.input_sha256(path) == "read again"
    path.write_bytes(b"hello, world")
    assert not files.trusted(path)


def test_only_what_another_process_was_told_is_trusted(path):
    files.input_sha256(path)
    assert not files.trusted(path)


def test_a_trusted_table_is_opened_without_reading_all_of_it(tmp_path, monkeypatch):
    table = tmp_path / "diagrams.parquet"
    store.write(table, "diagrams", [diagrams()], {})
    files.input_sha256(table)
    files.trust(files.inputs_seen())
    data = bytearray(table.read_bytes())
    when = table.stat()
    data[100] ^= 1  # of a page, whose own checksum finds it when it is read
    table.write_bytes(data)
    os.utime(table, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert len(store.open_table(table).schema_arrow) == 7
    monkeypatch.setattr(files, "_trusted", {})
    with pytest.raises(InputError, match="not those its SHA-256"):
        store.open_table(table)


def test_a_plan_tells_its_tasks_what_the_inputs_were(path, tmp_path, composed, monkeypatch):
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path))
    files.input_sha256(path)
    folder = plans.freeze(plans.Plan(composed, [], [], {}, []))
    plans.trust_inputs(folder)
    assert files.trusted(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1}', '{"a": [1]}', "\0"])
def test_what_a_plan_told_may_be_damaged(text, path, tmp_path):
    (tmp_path / plans.SEEN).write_text(text)
    plans.trust_inputs(tmp_path)
    assert not files.trusted(path)
    assert files.input_sha256(path) == KNOWN


def test_a_number_that_no_process_can_have_is_no_process(tmp_path):
    assert not files.alive(10**12)
    draft = tmp_path / f".name.{files.host()}.{10**12}.{'0' * 32}.draft"
    draft.touch()
    files.sweep(tmp_path)
    assert not draft.exists()


def test_an_input_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"There is no .*absent"):
        files.input_sha256(tmp_path / "absent")


def test_a_scratch_folder_goes_and_those_of_dead_processes_too(tmp_path):
    left = tmp_path / f".pilot.{files.host()[:63]}.{2**22 + 1}.{'0' * 32}.draft"
    left.mkdir()
    with files.scratch(tmp_path, "pilot") as folder:
        (folder / "a").touch()
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())
