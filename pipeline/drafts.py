"""Drafts: what a process writes before it is whole, under a name that says whose it is.

A killed process leaves its drafts behind; whoever comes next on the same host removes them.
"""

import errno
import os
import platform
import re
import shutil
import uuid
from pathlib import Path

_NAME = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]{32}\.draft")


def draft_of(path: Path) -> Path:
    """A name beside a path, that no other process and no other call gives."""
    return path.with_name(f".{path.name}.{host()}.{os.getpid()}.{uuid.uuid4().hex}.draft")


def sweep(folder: Path) -> None:
    """Remove the drafts in a folder that processes of this host left which are dead."""
    if folder.is_dir():
        # Only what starts with a dot: whole parts may be very many.
        for path in folder.glob(".*.draft"):
            match = _NAME.fullmatch(path.name)
            if match and match["host"] == host() and not alive(int(match["pid"])):
                discard(path)


def discard(path: Path) -> None:
    """Remove a folder, or a file, as far as that can be done."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def host() -> str:
    """This host, in a word without dots."""
    return platform.node().partition(".")[0] or "localhost"


def alive(pid: int) -> bool:
    """Whether there is a process of this number on this host, and not only its exit status."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    try:
        about = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # gone just now; or there is no /proc to ask
        return not Path("/proc/self/stat").is_file()
    return about.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
