import errno

import pytest

from pipeline.errors import InputError
from stages.app import sentences


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InputError("What came, and the cure."), "error: What came, and the cure.\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "set ATTENTION_TOPOLOGY_WORK to a"),
        (OSError(errno.EIO, "Input/output error"), "not an error we foresaw"),
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
