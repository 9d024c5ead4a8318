"""The bulk stages on a few texts, measured, and what follows for all of them."""

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import attention, files, heads, jobs, pairs, store
from pipeline.config import Config
from pipeline.console import say
from pipeline.errors import InputError, TextError
from pipeline.jobs import comparison, estimates
from pipeline.jobs import context as contexts
from pipeline.jobs.diagrams import DiagramsJob
from pipeline.work.parts import Job, Part, runs
from stages import corpus

MOST_COUNTED = 10_000
# Where the pilot's corpora are: the whole one, a few of its texts, and fewer of these.
WHOLE, FEW, FEWER = "whole", "few", "fewer"


@dataclass(frozen=True)
class Estimate:
    """What a job will take on the whole corpus.

    start   seconds until a process does its first part
    do      seconds of all parts, written to the shelf; join: of their join
    """

    title: str
    stage: str
    parts: int
    start: float
    do: float
    join: float
    peak: float
    parts_bytes: float
    tables_bytes: float

    def seconds(self, workers: int) -> float:
        """From start to end, in so many processes at once."""
        return self.start + self.do / workers + self.join

    def tasks(self, size: int) -> list[float]:
        """Seconds of each task of so many parts."""
        count = ceil(self.parts / size)
        return [self.start + self.do / count] * count if count else []


class Tokens(NamedTuple):
    """Mean tokens of the few texts that are measured, and of all."""

    few: float
    all: float

    @property
    def longer(self) -> float:
        """How much longer a text of the corpus is than one of the few."""
        return self.all / self.few if self.few else 1.0


def here(found: Sequence[Estimate], workers: int) -> list[str]:
    """On this machine, stage after stage."""
    seconds = sum(one.seconds(workers) for one in found)
    parts, kept = (
        sum(getattr(one, f"{kind}_bytes") for one in found) for kind in ("parts", "tables")
    )
    peak = max(one.peak for one in found) * workers
    return [
        f"this machine, engine.workers={workers}: {duration(seconds)}, {peak / 2**20:.0f} MB of "
        f"memory, {(parts + 2 * kept) / 1e6:.0f} MB of disk (parts, tables, DVC's copy of these)",
    ]


def there(found: Sequence[Estimate], nodes: int, size: int) -> list[str]:
    """On a cluster: stages of models beside each other, then the comparison."""
    bulk = [one for one in found if one.stage != "comparison"]
    last = [one for one in found if one.stage == "comparison"]
    # Diagrams by head go first: what compares heads reads them.
    waves = [bulk, last[:1], last[1:]]
    tasks = [[seconds for one in wave for seconds in one.tasks(size)] for wave in waves]
    joins = [last[0].start + sum(one.join for one in wave) for wave in (bulk, last)]
    seconds = sum(estimates.makespan(wave, nodes) for wave in tasks) + sum(joins)
    return [
        f"{nodes} nodes like it, a task each: {duration(seconds)} in {sum(map(len, tasks))} tasks "
        f"of {size} parts at most, and 2 joins; waiting for the cluster comes on top",
        "Not counted: equivariance, a model at a time, and the page.",
    ]


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} seconds"


# ---- the pilot --------------------------------------------------------------------------


@contextmanager
def pilot(settings: Config, count: int) -> Iterator[Path]:
    """A folder on the disk of the work folder that holds the corpus, and a few of its texts."""
    work = store.work_folder()
    with files.scratch(work, "pilot") as home:
        whole = replace(settings, root=home / WHOLE)
        say(f"corpus: {corpus.run(whole)}")
        texts = store.read(whole.path("corpus"))
        if not len(texts):
            raise InputError("The corpus has no texts that could be measured.")
        sizes = pc.binary_length(texts["image" if "image" in texts.column_names else "text"])
        few = texts.take(estimates.spread(sizes.to_numpy(), count))
        for folder, some in ((FEW, few), (FEWER, few[:: 3 if len(few) > 3 else 1])):
            kind = "images" if "image" in few.column_names else "corpus"
            path = replace(settings, root=home / folder).path("corpus")
            store.write(path, kind, [some], {})
        # What was converted once is not converted again.
        (home / "work").mkdir()
        for made in work.glob("gguf-*"):
            (home / "work" / made.name).symlink_to(made)
        yield home


def measured(settings: Config, home: Path) -> Iterator[Estimate]:
    """Every bulk job, measured in a process of its own and extrapolated to the whole."""
    tokens: dict[str, Tokens] = {}
    for model in settings.models:
        say(f"measures {model}")
        found = _in_a_process(home, _diagrams, settings, home, model)
        tokens[model] = found.pop("tokens")
        yield Estimate(**found)
        yield Estimate(**_in_a_process(home, _context, settings, home, model, tokens[model]))
    say("measures the comparison")
    (home / FEWER / "outputs").symlink_to(home / FEW / "outputs")
    for found in _in_a_process(home, _comparison, settings, home, tokens):
        yield Estimate(**found)


def _in_a_process(home: Path, work: Any, *inputs: Any) -> Any:
    """What a function returns from a process of its own, whose memory is then its alone."""
    began = time.time()
    with ProcessPoolExecutor(1, get_context("spawn"), _begin, (home / "work",)) as pool:
        return pool.submit(work, began, *inputs).result()


def _begin(work: Path) -> None:
    os.environ["ATTENTION_TOPOLOGY_WORK"] = str(work)


def _diagrams(began: float, settings: Config, home: Path, model: str) -> dict[str, Any]:
    """Text by text; then the same texts as one part, which tells what a part costs."""
    whole, settings = (replace(settings, root=home / folder) for folder in (WHOLE, FEW))
    [job] = jobs.of(_cut(settings, 1), "diagrams", model)
    job.prepare()
    loaded = cast(DiagramsJob, job).loaded
    job.do(job.parts[0])  # loads the kernels
    start, run = time.time() - began, Measure(job)
    count, tokens = len(job.parts), _tokens(settings, loaded)
    [whole_job] = jobs.of(_cut(settings, count), "diagrams", model)
    one, peak = Measure(whole_job, [run.together()]), _peak()
    each, texts = _tokens(whole, loaded), _texts(whole)
    parts, total = ceil(texts / settings.engine.part_texts), float(each.mean()) * texts

    def extrapolated(kind: str) -> float:
        many, alone = getattr(run, kind), getattr(one, kind)
        return estimates.line(many, alone, count, float(tokens.sum())).at(parts, total)

    curve = estimates.curve(tokens, run.do)
    return {
        "title": job.title,
        "stage": "diagrams",
        "parts": parts,
        "start": start,
        "do": float(curve.at(each).mean()) * texts + extrapolated("put"),
        "join": extrapolated("join"),
        "peak": peak,
        "parts_bytes": extrapolated("parts_bytes"),
        "tables_bytes": one.tables_bytes * total / tokens.sum(),
        "tokens": Tokens(float(tokens.mean()), float(each.mean())),
    }


def _context(
    began: float, settings: Config, home: Path, model: str, tokens: Tokens
) -> dict[str, Any]:
    """All pairs of the few texts, and each text in one pair: a text costs, and so does a pair."""
    whole, settings = (replace(settings, root=home / folder) for folder in (WHOLE, FEW))
    drawn = contexts.pairs(whole)
    cut = list(runs(drawn, contexts.TEXT_PAIRS_A_PART))
    texts = sum(len({text for pair in run for text in pair}) for run in cut)
    spec = replace(settings.context, text_pairs="all", pairs=contexts.TEXT_PAIRS_A_PART)
    [job] = jobs.of(replace(settings, context=spec), "context", model)
    job.prepare()
    nothing = {"title": job.title, "stage": "context", "parts": len(cut)}
    if not cut or not job.parts:
        rest = dict.fromkeys(("do", "join", "parts_bytes", "tables_bytes"), 0.0)
        return {**nothing, **rest, "start": time.time() - began, "peak": _peak()}
    all_pairs = job.parts[0].inputs.pairs
    few = {text for pair in all_pairs for text in pair}
    disjoint = _disjoint(all_pairs)
    job.do(_of_pairs(disjoint))
    start, run = time.time() - began, Measure(job)
    began_disjoint = time.perf_counter()
    job.do(_of_pairs(disjoint))
    lone = time.perf_counter() - began_disjoint
    # As many texts both times, so that the rest is the pairs'.
    pair = max(sum(run.do) - lone, 0.0) / max(len(all_pairs) - len(disjoint), 1)
    text = max(lone - len(disjoint) * pair, 0.0) / len(few)
    longer = tokens.longer
    each = (run.put + run.join) / len(all_pairs)
    return {
        **nothing,
        "start": start,
        "do": (text * texts + pair * len(drawn)) * longer,
        "join": each * len(drawn) * longer,
        "peak": _peak(),
        "parts_bytes": run.parts_bytes / len(all_pairs) * len(drawn) * longer,
        "tables_bytes": run.tables_bytes / len(all_pairs) * len(drawn) * longer,
    }


def _disjoint(pairs: Sequence[contexts.TextPair]) -> list[contexts.TextPair]:
    """Pairs of which no two share a text."""
    seen: set[int] = set()
    found = []
    for pair in pairs:
        if not seen.intersection(pair):
            found.append(pair)
            seen.update(pair)
    return found


def _of_pairs(pairs: list[contexts.TextPair]) -> Part:
    return Part("", "", contexts.PairsRun(pairs, []))


def _comparison(
    began: float, settings: Config, home: Path, tokens: Mapping[str, Tokens]
) -> list[dict[str, Any]]:
    """All heads on the few texts, and on fewer: a pair of heads costs, and so does its text."""
    whole, few_texts, fewer_texts = (
        replace(settings, root=home / folder) for folder in (WHOLE, FEW, FEWER)
    )
    groups = store.read(whole.path("corpus"), ["group"])["group"]
    texts = len(groups)
    chosen = len(pairs.text_pairs(groups.combine_chunks(), settings.comparison))
    every = replace(settings.comparison, text_pairs="all")
    found = jobs.of(replace(few_texts, comparison=every), "comparison")
    head_major, compared, of_texts = found
    head_major.do(head_major.parts[0])
    start = time.time() - began
    # Twice: the first loads kernels, which is no text's time.
    _, few = ([Measure(job) for job in found] for _ in range(2))
    count, tiles = _texts(few_texts), len(compared.parts)
    of_fewer = jobs.of(replace(fewer_texts, comparison=every), "comparison")
    fewer, less = [Measure(job) for job in of_fewer[:2]], _texts(fewer_texts)
    # How much longer the corpus's texts are than the few; a head's bars grow with the tokens.
    longer = float(np.mean([one.longer for one in tokens.values()]))
    scale = texts / count * longer
    text_pairs = chosen / max(count * (count - 1) / 2, 1) * longer

    do = max(sum(few[1].do) - sum(fewer[1].do), 0.0) / max(count - less, 1)
    fixed = max(sum(few[1].do) - do * count, 0.0)
    common = {"stage": "comparison", "peak": _peak()}
    rows = (
        (head_major, few[0], sum(few[0].do) * scale, scale, start),
        (compared, few[1], fixed + do * texts * longer, 1.0, 0.0),
        (of_texts, few[2], sum(few[2].do) * text_pairs, text_pairs, 0.0),
    )
    parts = (ceil(texts / comparison.TEXTS_A_RUN), tiles, ceil(len(of_texts.parts) * text_pairs))
    return [
        {
            **common,
            "title": job.title,
            "parts": number,
            "start": begin,
            "do": seconds + run.put * more,
            "join": run.join * more,
            "parts_bytes": run.parts_bytes * more,
            "tables_bytes": run.tables_bytes * more,
        }
        for (job, run, seconds, more, begin), number in zip(rows, parts, strict=True)
    ]


# ---- measuring ----------------------------------------------------------------------------


class Measure:
    """The parts of a job done and joined here: seconds of each and of all, and bytes.

    made   tables of the parts, where they were done before
    """

    def __init__(self, job: Job, made: Sequence[Mapping[str, pa.Table]] | None = None) -> None:
        self.made: list[Mapping[str, pa.Table]] = []
        self.do: list[float] = []
        self.put = 0.0
        for number, part in enumerate(job.parts):
            began = time.perf_counter()
            self.made.append(made[number] if made else job.do(part))
            done = time.perf_counter()
            job.shelf.put(part, self.made[-1])
            self.do.append(done - began)
            self.put += time.perf_counter() - done
        self.parts_bytes = sum(_bytes(job.shelf.folder / part.digest) for part in job.parts)
        began = time.perf_counter()
        job.missing()
        job.join()
        self.join = time.perf_counter() - began
        self.tables_bytes = sum(path.stat().st_size for path in job.outputs.values())

    def together(self) -> dict[str, pa.Table]:
        """The tables of all parts, as one part."""
        return {name: pa.concat_tables([one[name] for one in self.made]) for name in self.made[0]}


def _cut(settings: Config, texts: int) -> Config:
    return replace(settings, engine=replace(settings.engine, part_texts=texts))


def _bytes(folder: Path) -> int:
    """What a folder's files take on a disk that gives them whole blocks."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def _peak() -> float:
    """Bytes of memory that this process had at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _texts(settings: Config) -> int:
    return len(store.read(settings.path("corpus"), ["text_id"]))


def _tokens(settings: Config, loaded: Any) -> NDArray[np.float64]:
    """Tokens of each text of the corpus here, cut where the model cuts; of many, of some."""
    path = settings.path("corpus")
    rows = store.read(path, list(heads.Text._fields))
    if len(rows) > MOST_COUNTED:
        rows = rows.take(np.linspace(0, len(rows) - 1, MOST_COUNTED).astype(np.int64))
    texts = (heads.Text(**row) for row in rows.to_pylist())
    return np.array([_length(loaded, text) for text in texts], np.float64)


def _length(loaded: Any, text: heads.Text) -> int:
    try:
        return len(attention.encode(loaded, text.content).token_ids)
    except TextError:
        return 0  # it will be skipped
