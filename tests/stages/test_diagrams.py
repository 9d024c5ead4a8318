"""`stages.diagrams`: what it says of the texts that were skipped."""

from dataclasses import replace

import pytest

from pipeline.errors import InputError
from stages import diagrams
from stages.diagrams import Count


def test_more_skipped_than_the_engine_allows_is_an_error_with_the_cure(settings):
    found = Count(texts=30, tokens=9, cut=0, skipped=10, reasons=["it is blank", "it is odd"])

    def judge(most: float) -> None:
        engine = replace(settings.engine, max_aside=most)
        diagrams._refuse_too_many(replace(settings, engine=engine), "m", found)

    judge(0.34)
    with pytest.raises(InputError, match=r"10 of 30 texts were skipped, 33\.3%") as error:
        judge(0.33)
    assert "engine.max_aside is 33.0% (it is blank; it is odd)" in str(error.value)
    assert "outputs/diagrams/m/texts.parquet" in str(error.value)
    # What it says to give is enough.
    judge(float(str(error.value).partition("engine.max_aside=")[2].partition(",")[0]))
