"""Flips: one byte of one file of a finished run is another, and what reads it is run.

It must end in a sentence that names the file, or make the same bytes as before (anew, or because
the byte says nothing), or, where the file is a person's own input, count as another input: other
tables, whose provenance says that they are of other inputs. Never another number without a word.
"""

import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple

from benchmarks.soak import Attack, run
from benchmarks.soak.run import CORPUS, MODEL, TEXTS, WORK, Ended
from pipeline import store
from pipeline.errors import InputError


class Kind(NamedTuple):
    """Files of one kind, and the stages that read them.

    pattern   of the files, in a run's folder
    readers   stages, each of which alone must not be misled
    anew      what a reader makes is removed before, so that it has to read
    input     it is a person's own: another byte may be another input
    share     of the flips
    """

    name: str
    pattern: str
    readers: tuple[str, ...]
    anew: bool = False
    input: bool = False
    share: float = 1.0


KINDS = (
    Kind("corpus", f"data/corpus/{CORPUS}.parquet", ("diagrams", "context")),
    Kind("rejects", f"data/corpus/{CORPUS}.rejects.parquet", ("report",), share=0.3),
    Kind("diagrams", f"outputs/diagrams/{MODEL}/*.parquet", ("diagrams", "comparison"), share=2.0),
    Kind("diagrams of a null", f"outputs/diagrams/{MODEL}-*/*.parquet", ("nulls", "head_tests")),
    Kind("diagrams, for samples", "outputs/diagrams/*/*.parquet", ("samples",)),
    Kind("context", "outputs/context/*/*.parquet", ("context", "samples")),
    Kind("distances", "outputs/tables/*_distances.parquet", ("comparison", "samples")),
    Kind("tests", "outputs/tables/*_tests.parquet", ("head_tests", "samples")),
    Kind("equivariance", "outputs/equivariance/*.parquet", ("samples",)),
    Kind("kept maps", "outputs/attention/*/*.parquet", ("samples",)),
    Kind("tables, for the page", "outputs/[acd]*/*/*.parquet", ("report",), share=0.3),
    Kind("distances, for the page", "outputs/[et]*/*.parquet", ("report",), share=0.3),
    Kind("parts of diagrams", f"{WORK}/diagrams/*/*.parquet", ("diagrams",), anew=True),
    Kind("parts of context", f"{WORK}/context/*/*.parquet", ("context",), anew=True),
    Kind("parts of distances", f"{WORK}/comparison/*/*.parquet", ("comparison",), anew=True),
    Kind("manifests of diagrams", f"{WORK}/diagrams/*/*.json", ("diagrams",), anew=True),
    Kind("manifests of context", f"{WORK}/context/*/*.json", ("context",), anew=True),
    Kind("manifests of distances", f"{WORK}/comparison/*/*.json", ("comparison",), anew=True),
    Kind("samples", "outputs/samples/**/*.parquet", ("samples",)),
    Kind("page", "outputs/report/*.html", ("report",), share=0.1),
    Kind("plots", "outputs/plots/*.csv", ("report",), share=0.1),
    Kind("params.yaml", "params.yaml", ("corpus", "diagrams", "comparison"), input=True, share=2.0),
    Kind("texts", TEXTS, ("corpus",), input=True),
    Kind("weights", f"{MODEL}/model.safetensors", ("diagrams",), input=True),
    Kind("a model's settings", f"{MODEL}/*.json", ("diagrams",), input=True, share=2.0),
    Kind("a model's words", f"{MODEL}/*.txt", ("diagrams",), input=True),
)
# What each reader writes, by which it is judged.
WRITES = {
    "corpus": ("data/corpus/",),
    "diagrams": (f"outputs/diagrams/{MODEL}/",),
    "nulls": (f"outputs/diagrams/{MODEL}-",),
    "context": ("outputs/context/",),
    "comparison": ("outputs/tables/head_distances", "outputs/tables/text_distances"),
    "head_tests": ("outputs/tables/head_tests", "outputs/tables/model_tests"),
    "report": ("outputs/report/", "outputs/plots/"),
    "samples": ("outputs/samples/",),
}


class Flip(NamedTuple):
    """A byte of a file, what it becomes, and who then reads the file."""

    kind: Kind
    file: str
    place: int
    byte: int
    reader: str

    def __str__(self) -> str:
        return (
            f"{self.kind.name}, {self.file}, byte {self.place} to {self.byte:#04x}, {self.reader}"
        )


def attack(count: int, folder: Path, seed: int, say: Callable[[str], None]) -> Attack:
    """Change so many bytes, each in a run that is whole but for it."""
    from benchmarks.soak import kept

    found = Attack("flips")
    whole = run.undisturbed(folder.parent / "run").whole
    of_dvc = int(count * kept.SHARE)
    flips = list(_chosen(count - of_dvc, whole, random.Random(seed)))
    ends: Counter[str] = Counter()
    for number, flip in enumerate(flips):
        say(f"flips: {number}/{count} {flip}")
        end, wrong = _trial(flip, whole, folder / "trial")
        found.tried += 1
        ends[end] += 1
        found.wrong += [f"{flip}: {wrong}"] * bool(wrong)
    if of_dvc:
        found.tried += kept.attack_kept(of_dvc, folder / "dvc", ends, found.wrong, say)
    kinds = len({flip.kind for flip in flips}) + 2 * bool(of_dvc)
    found.figures = [
        f"{kinds} kinds of file",
        ", ".join(f"{number} ended in {words}" for words, number in sorted(ends.items())),
    ]
    return found


def _chosen(count: int, whole: Path, draw: random.Random) -> Iterator[Flip]:
    """So many flips, each kind its share, over its files in turn; half of the bytes by one bit."""
    ends = [*accumulate(kind.share for kind in KINDS)]
    places = [(number + 0.5) / count * ends[-1] for number in range(count)]
    for kind, of_kind in groupby(places, lambda place: KINDS[bisect(ends, place)]):
        files = sorted(path for path in whole.glob(kind.pattern) if path.is_file())
        draw.shuffle(files)
        for number, _ in enumerate(of_kind):
            file = files[number % len(files)]
            place, byte = flipped(file.read_bytes(), draw)
            reader = kind.readers[number // len(files) % len(kind.readers)]
            yield Flip(kind, str(file.relative_to(whole)), place, byte, reader)


def flipped(good: bytes, draw: random.Random) -> tuple[int, int]:
    """A place, and another byte for it: one bit, or any."""
    place = draw.randrange(len(good))
    other = 1 << draw.randrange(8) if draw.random() < 0.5 else draw.randrange(1, 256)
    return place, good[place] ^ other


def _trial(flip: Flip, whole: Path, folder: Path) -> tuple[str, str]:
    """How it ended, and what was wrong with that."""
    run.copy(whole, folder)
    for name in run.hashes(folder) if flip.kind.anew else ():
        if name.startswith(WRITES[flip.reader]):
            (folder / name).unlink()
    harm(folder / flip.file, flip.place, flip.byte)
    ended = run.ended(partial(run.do, flip.reader), folder)
    if ended.status == 0:
        return _of_bytes(flip, folder, whole)
    return judged(ended, flip.file, flip.kind.input)


def harm(file: Path, place: int, byte: int) -> None:
    """Put another byte in a file."""
    content = bytearray(file.read_bytes())
    content[place] = byte
    file.write_bytes(content)


def judged(ended: Ended, file: str, is_input: bool) -> tuple[str, str]:
    """Of a run that ended in an error: whether that is a sentence that says which file."""
    if not ended.sentence:
        return "no sentence", ended.story
    # What is wrong with a configuration or a model is told by its keys and its name.
    named = is_input or file in ended.said or Path(file).name in ended.said
    return ("a sentence", "") if named else ("a sentence", f"does not name {file}: {ended.story}")


def _of_bytes(flip: Flip, folder: Path, whole: Path) -> tuple[str, str]:
    """Of a run that ended well: whether what the reader wrote is as it was."""
    made = run.hashes(whole)
    found = [name for name in run.differ(folder, made) if name.startswith(WRITES[flip.reader])]
    if not found:
        return "same bytes", ""
    # A corpus is known by the hash of its table, which is in the provenance of all that follow.
    if flip.kind.input and all(flip.file == TEXTS or _told(folder, whole, name) for name in found):
        return "another input", ""
    return "other bytes", f"other bytes without a word: {', '.join(found)}"


def _told(folder: Path, whole: Path, name: str) -> bool:
    """Whether a table is whole, and says that it is made of other inputs than before."""
    try:
        now = store.read_provenance(folder / name)
    except InputError:
        return False
    return not (whole / name).is_file() or now != store.read_provenance(whole / name)
