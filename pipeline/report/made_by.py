"""What made the run, and the command that makes it again."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.run import Run


@dataclass(frozen=True)
class Weights:
    """Where a model came from and what its weights are."""

    model: str
    source: str
    form: str
    sha256: str


def build(run: Run) -> dict[str, Any]:
    """Variables of the template."""
    made_from = run.provenance.get("made_from", {})
    return {
        "recorded": run.recorded,
        "commands": _commands(run.overrides),
        "settings": {group: _shown(values) for group, values in _groups(run.config)},
        "weights": [_weights(model, found) for model, found in made_from.items()],
        "code": {file: found["code"] for file, found in run.made.items() if "code" in found},
        "libraries": run.provenance.get("libraries", {}),
        "provenance": json.dumps(run.provenance, indent=2, sort_keys=True, ensure_ascii=False),
    }


def _commands(words: Sequence[str]) -> list[str]:
    """The same run, without a git identity and with one."""
    switched = [part for word in words for part in ("-S", word)]
    return [
        shlex.join(["python", "-m", "commands.demo", *words]),
        shlex.join(["dvc", "exp", "run", *switched]),
    ]


def _groups(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for group, values in config.items():
        if group == "models":
            yield from ((f"models.{name}", model) for name, model in values.items())
        else:
            yield group, values


def _shown(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
        if value is not None and key != "watch"
    )


def _weights(model: str, made: Mapping[str, Any]) -> Weights:
    spec, found = made["config"]["model"], made["weights"][model]
    revision = found["revision"] or spec["revision"]
    place = [spec["requirement"] or spec["path"], spec["gguf_file"]]
    return Weights(
        model,
        " ".join([spec["source"], *filter(None, place), *([f"at {revision}"] if revision else [])]),
        ", ".join(filter(None, [spec["dtype"], found["quantisation"]])),
        found["weights_sha256"] or "",
    )
