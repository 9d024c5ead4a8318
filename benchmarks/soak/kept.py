"""Flips of what DVC keeps: its dvc.lock, and the files of its cache."""

import random
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.soak.flips import flipped, harm
from pipeline import store
from pipeline.errors import InputError
from pipeline.files import sha256
from tests import clone
from tests.clone import Clone

SHARE = 0.04  # of all flips: DVC takes seconds
CACHE = ".dvc/cache/files/md5"
UNFORESEEN = ("Traceback (most recent", "not an error we foresaw")


def attack_kept(
    count: int,
    folder: Path,
    ends: Counter[str],
    wrong: list[str],
    say: Callable[[str], None],
) -> int:
    """Change so many bytes of dvc.lock and of DVC's cache, by turns; how many were tried."""
    folder.mkdir(parents=True)
    draw = random.Random(count)
    ran = clone.small(folder)
    ran.run("python", "-m", "dvc", "repro")
    ran.commit("A run")
    made = _tables(ran.folder)
    whole = folder / "whole"
    shutil.copytree(ran.folder, whole, symlinks=True)
    for number in range(count):
        say(f"flips: {number}/{count} of what DVC keeps")
        shutil.rmtree(ran.folder)
        shutil.copytree(whole, ran.folder, symlinks=True)
        end, fault = (_of_the_lock, _of_the_cache)[number % 2](ran, draw, made)
        ends[end] += 1
        wrong += [fault] * bool(fault)
    return count


def _of_the_lock(ran: Clone, draw: random.Random, made: dict[str, str]) -> tuple[str, str]:
    """DVC says that it cannot read it, or runs what it takes for changed, to the same bytes."""
    file = ran.folder / "dvc.lock"
    place, byte = flipped(file.read_bytes(), draw)
    harm(file, place, byte)
    answer = ran.say("python", "-m", "dvc", "repro")
    said, what = answer.stdout + answer.stderr, f"dvc.lock, byte {place} to {byte:#04x}"
    if answer.returncode == 0:
        same = _tables(ran.folder) == made
        return "same bytes", "" if same else f"{what}: other bytes without a word"
    # DVC says of a file that is no YAML where it is not, in a form of its own.
    if any(words in said for words in UNFORESEEN) or not ("ERROR" in said or "dvc.lock" in said):
        return "no sentence", f"{what}: {' '.join(said.split())[-300:]}"
    return "a sentence", ""


def _of_the_cache(ran: Clone, draw: random.Random, made: dict[str, str]) -> tuple[str, str]:
    """What a checkout brings is as it was, or is told from it: by its seal, or by `dvc status`."""
    files = sorted(path for path in (ran.folder / CACHE).rglob("*") if path.is_file())
    file = draw.choice(files)
    place, byte = flipped(file.read_bytes(), draw)
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    harm(file, place, byte)
    file.chmod(stat.S_IRUSR)
    what = f"the cache's {file.name[:8]}, byte {place} to {byte:#04x}"
    for name in made:
        (ran.folder / name).unlink()
    answer = ran.say("python", "-m", "dvc", "checkout", "--force")
    said = answer.stdout + answer.stderr
    if any(words in said for words in UNFORESEEN):
        return "no sentence", f"{what}: {' '.join(said.split())[-300:]}"
    now = _tables(ran.folder)
    others = [name for name, digest in now.items() if made.get(name) != digest]
    if not others and not answer.returncode:
        return "same bytes", ""
    status = ran.say("python", "-m", "dvc", "status").stdout
    quiet = [
        name for name in others if not _sealed_against(ran.folder / name) and name not in status
    ]
    quiet = [name for name in quiet if str(Path(name).parent) not in status]
    return "a sentence", f"{what}: {', '.join(quiet)} changed without a word" if quiet else ""


def _sealed_against(path: Path) -> bool:
    """Whether a changed table is refused by who reads it."""
    if path.suffix != ".parquet":
        return False
    try:
        store.verify(path)
    except InputError:
        return True
    return False


def _tables(folder: Path) -> dict[str, str]:
    """The SHA-256 of all that the stages made and DVC keeps, by its path."""
    return {
        str(path.relative_to(folder)): sha256(path)
        for top in ("data/corpus", "outputs")
        for path in (folder / top).rglob("*")
        if path.is_file()
        and not path.is_relative_to(folder / store.LOGS)
        and not path.is_relative_to(folder / store.SAMPLES)
        and path.name != "checked.txt"
    }
