"""What git answers: the one place that asks it."""

import subprocess
from pathlib import Path


def ask(*words: str, home: Path | None = None) -> str | None:
    """What git says, of the repository of a folder (else of this one); None where it refuses.

    It refuses where there is no repository, no commit yet, or no git at all.
    """
    try:
        done = subprocess.run(["git", *words], cwd=home, capture_output=True, text=True, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None
    return done.stdout.strip("\n")


def lines(*words: str, home: Path | None = None) -> list[str]:
    """The lines that git says; none where it refuses."""
    return (ask(*words, home=home) or "").splitlines()


def known(home: Path | None = None) -> bool:
    """Whether git knows commits here: not in an archive of the sources, which has none."""
    return ask("rev-parse", "--git-dir", home=home) is not None


def changed() -> list[str]:
    """The tracked files that are not as the last commit has them."""
    return [line[3:] for line in lines("status", "--porcelain", "--untracked-files=no")]


def committed(name: str) -> bytes | None:
    """The bytes of a file at the last commit; None where it has none."""
    done = subprocess.run(["git", "show", f"HEAD:./{name}"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None
