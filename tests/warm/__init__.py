"""`python` and `dvc` for the clones of tests, without the seconds in which libraries are imported.

A server (server.py) has imported the libraries, and nothing of ours; what is typed in a clone is
done in a fork of it, which imports the clone's own code, ends as any process does, and answers
for the `python` that was typed (client.py). What the server cannot stand for is started truly:
other modules, scripts, and an environment in which libraries may behave otherwise.

All forks of a server share the seed of Python's hashes: who compares two runs takes two servers.
tests/commands/test_demo.py runs the whole pipeline outside(), where each stage imports its own.
"""

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
# In these two processes may differ and libraries be the same: none reads them as it is imported.
FREE = ("ATTENTION_TOPOLOGY_", "AWS_", "DVC_", "GIT_", "HYDRA_", "PYTEST_")
FREE_NAMES = (
    *("OLDPWD", "PATH", "PWD", "SHLVL", "SLURM_CONF", "VIRTUAL_ENV", "_"),
    *("ARROW_DEFAULT_MEMORY_POOL", "TORCHINDUCTOR_CACHE_DIR"),  # set as we, torch, begin
)
ANSWERS = ("commands", "dvc", "stages")


def decisive(environment: dict[str, str]) -> dict[str, str]:
    """The variables in which the server and who asks it must agree."""
    return {
        name: value
        for name, value in environment.items()
        if value and not name.startswith(FREE) and name not in FREE_NAMES
    }


def outside() -> dict[str, str]:
    """The environment of a person whose `python` is this one, and who sees none of our code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": ""}


def environment(**decisive: str) -> dict[str, str]:
    """An environment in which `python` and `dvc` are a server's, which began with these values."""
    folder, started = _server(tuple(decisive.items()))
    return started | {"PATH": f"{folder}{os.pathsep}{started['PATH']}"}


@cache
def _server(more: tuple[tuple[str, str], ...]) -> tuple[Path, dict[str, str]]:
    """Start one; the folder of its programs, and the environment that it has."""
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    environment = outside() | dict(more)
    client = (HERE / "client.py").read_text("utf-8")
    for name, value in (
        ("PYTHON", sys.executable),
        ("SOCKET", str(folder / "socket")),
        ("FREE", FREE),
        ("FREE_NAMES", FREE_NAMES),
        ("ANSWERS", ANSWERS),
        ("STARTED", decisive(environment)),
    ):
        client = client.replace(f"{name} = None", f"{name} = {value!r}")
    for name in ("python", "dvc"):
        (folder / name).write_text(f"#!{sys.executable} -IS\n{client}", "utf-8")
        (folder / name).chmod(0o755)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "socket"))
        door.listen(64)  # who asks before all is imported waits
        # Not as __main__, whose names the module of a command replaces.
        start = f"import sys; sys.path.insert(0, {str(HERE)!r}); import server; "
        start += f"server.main({door.fileno()}, {str(folder / 'python')!r})"
        server = subprocess.Popen(
            [sys.executable, "-P", "-c", start],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[door.fileno()],
        )

    def end() -> None:
        server.communicate()  # at the end of what it reads, it ends
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return folder, environment
