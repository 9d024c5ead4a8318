"""What stands in a PATH as `python` and `dvc`: ask the server, or start the true one.

The values of the capitals are put in when it is written there.
"""

import json
import os
import socket
import sys

PYTHON = None
SOCKET = None
FREE = None
FREE_NAMES = None
ANSWERS = None
STARTED = None


def decisive(environment):
    """As tests.warm has it."""
    return {
        name: value
        for name, value in environment.items()
        if value and not name.startswith(FREE) and name not in FREE_NAMES
    }


def served(words):
    """Whether the server can do it: a module that it knows, in its own environment."""
    module = words[1].partition(".")[0] if len(words) > 1 and words[0] == "-m" else ""
    return module in ANSWERS and decisive(os.environ) == STARTED


def ask(words):
    """Have the server do it; its exit status, negative for a signal."""
    question = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()  # noqa: PTH109
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(SOCKET)
        socket.send_fds(line, [len(question).to_bytes(4, "big")], [0, 1, 2])
        line.sendall(question)
        answer = line.makefile().readline()
    return int(answer) if answer else 70


words = sys.argv[1:]
if os.path.basename(sys.argv[0]) == "dvc":  # noqa: PTH119
    words = ["-m", "dvc", *words]
if not served(words):
    os.execv(PYTHON, [PYTHON, *words])
status = ask(words)
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
