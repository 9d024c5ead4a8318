"""The server of tests.warm: libraries imported once, and a fork for each command.

It ends when what it reads ends: with the process that started it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Nothing of ours: that is each clone's own. What is not here, a fork imports by itself.
NEEDED = (
    "accelerate",
    "datasets",
    "dvc.cli",
    "dvc.cli.parser",
    "dvc.commands.repro",
    "dvc.repo",
    "dvc.repo.reproduce",
    "gguf",
    "gudhi",
    "hydra.main",
    "jinja2",
    "joblib",
    "networkx",
    "numba.typed",
    "pandas",
    "plotly.graph_objects",
    "plotly.io",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "scipy.optimize",
    "scipy.spatial",
    "scipy.stats",
    "sklearn.cluster",
    "tabulate",
    "torch.distributed.tensor",  # which transformers asks of a model as it loads it
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.modeling_gguf_pytorch_utils",
)


def main(number: int, python: str) -> None:
    """Answer who comes to the door with this number; end in a fork when it did a command."""
    with socket.socket(fileno=number) as door:
        warm()
        while True:
            ready, _, _ = select.select([door, 0], [], [])
            if 0 in ready:
                os._exit(0)
            line, _ = door.accept()
            with line:
                if os.fork() == 0 and keep(line, python):
                    break
            reap()
    finish(sys.orig_argv[2])


def warm() -> None:
    """Import, and compute nothing, which would start threads."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as `import stages` does
    for name in NEEDED:
        importlib.import_module(name)
    importlib.import_module("hydra.core.plugins").Plugins.instance()
    importlib.import_module("numba.core.registry").cpu_target.target_context.refresh()
    gc.collect()
    gc.freeze()  # or a fork's collector would write to, and so copy, all that is here


def reap() -> None:
    """Let those go that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def keep(line: socket.socket, python: str) -> bool:
    """Start what is asked for and say how it ended; in that process itself, return True."""
    head, files, _, _ = socket.recv_fds(line, 4, 3)
    with line.makefile("rb") as rest:
        words, folder, environment = json.loads(rest.read(int.from_bytes(head, "big")))
    child = os.fork()
    if child == 0:
        become(words, folder, environment, files, python)
        return True
    for file in files:
        os.close(file)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if select.select([line], [], [], 0.01)[0]:  # who asked is gone
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(OSError):
        line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def lend(folder: Path) -> None:
    """Give a copy of the tree what numba compiled here, which it knows by the sources' times."""
    ours, theirs = ROOT / "pipeline/kernels", folder / "pipeline/kernels"
    if not theirs.is_dir() or (theirs / "__pycache__").exists():
        return
    for source in ours.glob("*.py"):
        same = theirs / source.name
        if same.is_file() and same.read_bytes() == source.read_bytes():
            os.utime(same, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    draft = folder / f"pipeline/__pycache__/kernels.{os.getpid()}"  # where git and DVC look away
    with contextlib.suppress(OSError):  # nothing compiled yet, or another was first
        shutil.copytree(ours / "__pycache__", draft)
        draft.rename(theirs / "__pycache__")
    shutil.rmtree(draft, ignore_errors=True)


def become(
    words: list[str], folder: str, environment: dict[str, str], files: list[int], python: str
) -> None:
    """Be as the process is that these words would start; what it starts in turn comes here too."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    lend(Path(folder))
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = python
    sys.orig_argv = [python, *words]
    sys.argv = ["-m", *words[2:]]
    sys.path[0] = folder


def finish(module: str) -> None:
    """Do what `python -m` does, and end as the interpreter does, but leave the memory as it is."""
    status = 0
    try:
        runpy._run_module_as_main(module)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)
