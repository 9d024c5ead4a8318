"""A figure as a file: a page that needs nothing beside it, or an image that a browser draws."""

import argparse
import asyncio
import os
import re
import shutil
from pathlib import Path

import plotly
import plotly.graph_objects as go

from commands.one_head import drawings, request
from pipeline import files
from pipeline.console import say
from pipeline.errors import InputError
from pipeline.figures import style
from pipeline.figures.style import plain

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def draw(options: argparse.Namespace) -> None:
    """Draw what one command line asks for, into its file."""
    browser = None if options.to.suffix == ".html" else _browser()
    if options.what == "heads":
        figure = drawings.heads(options)
        title = f"mean distance of heads, dimension {options.dimension}"
    else:
        asked = request.ask(options)
        figure, title = drawings.DRAWINGS[options.what](asked), asked.title
    _finish(figure, title if options.title is None else options.title, options)
    content = page(figure) if browser is None else _image(figure, options, browser)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    with files.written(options.to) as draft:
        draft.write_bytes(content)
    say(f"{options.what} -> {options.to}")


def _finish(figure: go.Figure, title: str, options: argparse.Namespace) -> None:
    """Give a figure its title and size, and its parts names that are the same every time."""
    if title:
        place = {"yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 12}, "x": 0.02}
        room = figure.layout.margin.t + 30
        figure.update_layout(title={"text": plain(title), "font": {"size": 15}, **place})
        figure.update_layout(margin_t=room, height=figure.layout.height + 30)
    for name in ("width", "height"):
        if (size := getattr(options, name)) is not None:
            figure.update_layout({name: size})
    for number, trace in enumerate(figure.data):
        trace.uid = f"t{number}"


def page(figure: go.Figure) -> bytes:
    """A page that needs nothing beside it, and asks and sends nothing."""
    drawing: str = figure.to_html(
        include_plotlyjs=False, full_html=False, div_id="figure", config=style.CONFIG
    )
    policy = f'<meta http-equiv="Content-Security-Policy" content="{style.POLICY}">'
    head = f'<meta charset="utf-8">{policy}<title>attention-topology</title>'
    script = f"<script>{style.script()}</script>"
    return f"<!doctype html><html><head>{head}{script}</head><body>{drawing}</body></html>".encode()


def _browser() -> Path:
    """The browser that draws; InputError where there is none."""
    named = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if named is None or not Path(named).is_file():
        said = "No Chrome or Chromium is here" if named is None else f"{named!r} is no browser"
        raise InputError(
            f"{said}, and an image needs one: apt-get install chromium, or name one in "
            "BROWSER_PATH; a figure --to FILE.html needs none."
        )
    return Path(named)


def _image(figure: go.Figure, options: argparse.Namespace, browser: Path) -> bytes:
    import kaleido

    kind = options.to.suffix[1:]
    size = {"width": figure.layout.width, "height": figure.layout.height}
    density = options.density if kind == "png" else 1
    # Left to itself, it would look for both scripts on the network.
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    drawing = kaleido.calc_fig(
        figure,
        {"format": kind, **size, "scale": density},
        kopts={"path": browser, "plotlyjs": script, "mathjax": False},
    )
    content: bytes = asyncio.run(drawing)
    return {"svg": _steady_svg, "pdf": _steady_pdf}.get(kind, bytes)(content)


def _steady_svg(content: bytes) -> bytes:
    """An SVG in which the number that plotly draws by lot, part of many names, is always 0."""
    lot = re.search(rb'<defs id="defs-([0-9a-f]{6})"', content)
    if lot is None:
        return content
    named = rb"""((?:id="|#)[a-z-]*)""" + lot[1]
    return re.sub(named, rb"\g<1>000000", content)


def _steady_pdf(content: bytes) -> bytes:
    """A PDF without the time it was made at, as long as before: it holds places in bytes."""
    made = rb"(/(?:Creation|Mod)Date \(D:)\d{14}"
    return re.sub(made, rb"\g<1>20000101000000", content)
