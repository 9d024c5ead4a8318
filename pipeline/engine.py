"""Who does the parts: so far, this process, one after the other."""

import sys
import time

from tqdm import tqdm

from pipeline.parts import Job


def run(job: Job) -> dict[str, int]:
    """Do every part that is missing, join them, and return the rows of each table.

    Shows a bar with an estimate on a terminal, one line a part elsewhere.
    """
    missing = job.missing()
    if len(missing) < len(job.parts):
        say(f"{job.title}: {len(job.parts) - len(missing)} of {len(job.parts)} parts done before")
    terminal = sys.stderr.isatty()
    started = time.perf_counter()
    with tqdm(missing, job.title, disable=not terminal, unit="part", leave=False) as bar:
        for done, part in enumerate(bar, 1):
            job.shelf.put(part, job.do(part))
            if not terminal:
                left = (time.perf_counter() - started) / done * (len(missing) - done)
                say(f"{job.title}: {done}/{len(missing)} {part.label}, about {left:.0f} s left")
    return job.join()


def say(line: str) -> None:
    """One line for the person at the terminal."""
    print(line, file=sys.stderr, flush=True)
