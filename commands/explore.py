"""The live page: two texts under one head, on this machine only.

Models are those of params.yaml and of conf/model, distances those of conf/distance; texts are
those of the configured corpus. The address it prints opens the page.
"""

import argparse
import ctypes
import webbrowser
from collections.abc import Sequence

from pipeline import console
from pipeline.console import say
from pipeline.explorer import MEMORY

PORT = 8050
ARENA_MAX, MMAP_THRESHOLD = -8, -3  # glibc's numbers of these settings


def main(words: Sequence[str]) -> None:
    """Serve the page until it is interrupted."""
    options = parse(words)
    _return_memory()
    from omegaconf import OmegaConf

    from commands.one_head import desk
    from pipeline.explorer import app
    from stages.app import params

    values = dict(OmegaConf.to_container(params(), resolve=True))
    server = app.listen(app.build(desk.desk(values, options.memory_mb * 2**20)), options.port)
    address = f"http://{server.host}:{server.port}/"
    say(f"explorer  {address}  (Ctrl+C ends it)")
    if options.open:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("explorer ended")
    finally:
        server.server_close()


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = console.Parser(prog="python -m commands.explore", description=__doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"(default {PORT}; 0: a free one)")
    parser.add_argument(
        "--memory-mb",
        type=_megabytes,
        default=MEMORY // 2**20,
        help="for maps and hidden states that are kept, beside the models (default %(default)s)",
    )
    parser.add_argument("--no-open", dest="open", action="store_false", help="open no browser")
    return parser.parse_args(words)


def _megabytes(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 64 <= int(word[:12]) <= 2**24):
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number of megabytes from 64")
    return int(word)


def _return_memory() -> None:
    """Have what is let go return to the system: glibc keeps it, a heap for every thread."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(ARENA_MAX, 2)
        mallopt(MMAP_THRESHOLD, 2**18)


if __name__ == "__main__":
    console.run(main)
