"""The words of commands.submit."""

import pytest

from commands import submit
from pipeline.errors import InputError


def test_a_stage_that_is_not_in_parts_is_named():
    with pytest.raises(InputError, match="--stage: invalid choice: 'report'"):
        submit.main(["--stage", "report"])


def test_stages_and_overrides_may_stand_in_any_order():
    found = submit.parse(["a=1", "--stage", "diagrams", "~b", "--stage", "context", "+c=2"])
    assert (found.stage, found.override) == (["diagrams", "context"], ["a=1", "~b", "+c=2"])
