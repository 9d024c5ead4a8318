"""What each model did with the corpus, and which records no model saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.report.run import Run

SHOWN = 50  # of the texts cut or skipped, and of the records rejected
EXCERPT = 120  # characters


@dataclass(frozen=True)
class Count:
    """What a model did with the corpus."""

    model: str
    texts: int
    tokens: int
    cut: int
    skipped: int


@dataclass(frozen=True)
class Change:
    """A text that a model did not take whole."""

    model: str
    what: str
    text_id: str
    excerpt: str


def build(run: Run) -> dict[str, Any]:
    """Variables of the template."""
    beginnings = _beginnings(run.records)
    changes = [
        change
        for model, texts in run.texts.items()
        for change in _changes(model, texts, beginnings)
    ]
    return {
        "corpus": run.corpus,
        "records": len(run.records),
        "languages": _languages(run.records),
        "counts": [_count(model, table) for model, table in run.texts.items()],
        "changes": changes[:SHOWN],
        "changes_left": len(changes) - SHOWN,
        "rejects": run.rejects.head(SHOWN).to_dict("records"),
        "rejects_all": len(run.rejects),
    }


def _beginnings(records: pd.DataFrame) -> dict[str, str]:
    return {
        text_id: text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"
        for text_id, text in zip(records["text_id"], records["text"], strict=True)
    }


def _languages(records: pd.DataFrame) -> list[str]:
    return sorted(records["language"].dropna().unique())


def _count(model: str, texts: pd.DataFrame) -> Count:
    skipped = int(texts["reason"].notna().sum())
    tokens, cut = int(texts["tokens"].sum()), int(texts["cut"].sum())
    return Count(model, len(texts) - skipped, tokens, cut, skipped)


def _changes(model: str, texts: pd.DataFrame, beginnings: Mapping[str, str]) -> list[Change]:
    touched = texts[texts["reason"].notna() | texts["cut"]]
    return [
        Change(model, _what(row), row["text_id"], beginnings.get(row["text_id"], ""))
        for row in touched.to_dict("records")
    ]


def _what(row: Mapping[Any, Any]) -> str:
    if pd.notna(row["reason"]):
        return f"skipped: {row['reason']}"
    return f"cut from {row['total_tokens']:,} tokens to {row['tokens']:,}"
