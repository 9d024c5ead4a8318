"""What a person is told: pipeline.console's lines, tables, sentences and command lines."""

import errno
import subprocess
import sys

import pytest

from pipeline import console
from pipeline.console import sentences
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InputError("What came, and the cure."), "error: What came, and the cure.\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "set ATTENTION_TOPOLOGY_WORK to a"),
        (OSError(errno.EIO, "Input/output error"), "The disk failed"),
        (OSError(errno.EMFILE, "Too many open files"), "not an error we foresaw"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "A name is too long"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in []"), "TMPDIR"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero. This is"),
    ],
)
def test_an_error_is_a_sentence(error, says, capsys, monkeypatch):
    monkeypatch.delenv("ATTENTION_TOPOLOGY_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop, sentences():
        raise error
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1


def test_where_an_error_arose_can_be_seen(monkeypatch):
    monkeypatch.setenv("ATTENTION_TOPOLOGY_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError), sentences():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("number", "begins"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EFBIG, "A file is larger than may be written"),
        (errno.EIO, "The disk failed"),
    ],
)
def test_the_cure_of_a_disk_is_by_where_the_write_was(number, begins, tmp_path, monkeypatch):
    """Who fills outputs/ was told to move the work folder, which does nothing."""
    monkeypatch.setenv("ATTENTION_TOPOLOGY_WORK", str(tmp_path / "work"))
    there = console.sentence(OSError(number, "so it was", str(tmp_path / "work" / "a")))
    other = console.sentence(OSError(number, "so it was", str(tmp_path / "outputs" / "a")))
    assert there.startswith(begins)
    assert other.startswith(begins)
    assert "ATTENTION_TOPOLOGY_WORK" in there
    assert "ATTENTION_TOPOLOGY_WORK" not in other
    assert str(tmp_path / "outputs") in other


def test_marks_and_wide_letters_leave_columns_where_they_are():
    rows = [["token", "n"], ["猫", 1], ["שָׁ", 2], ["cat", 0.5]]
    assert console.table(rows).splitlines() == [
        "token    n",
        "猫       1",
        "שָׁ        2",
        "cat    0.5",
    ]


def test_a_reader_may_have_seen_enough():
    words = ["-c", "from pipeline.console import show; show('line\\n' * 100_000)"]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *words], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_fault_of_the_command_line_is_a_sentence_that_names_the_help():
    parser = console.Parser(prog="python -m commands.nothing")
    with pytest.raises(InputError, match=r"arguments: x; see python -m commands\.nothing --help\."):
        parser.parse_args(["x"])


@pytest.mark.parametrize(("status", "failed"), [(0, 1), (None, 1), (3, 1), (InputError("x"), 2)])
def test_a_command_ends_with_its_own_status_or_that_of_errors(status, failed):
    def main(words):
        if isinstance(status, Exception):
            raise status
        return status

    with pytest.raises(SystemExit) as stop:
        console.run(main, failed)
    assert stop.value.code == (failed if isinstance(status, Exception) else status)
