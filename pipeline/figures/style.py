"""What all figures share: colours that every eye tells apart, and words shown as they are."""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

# Okabe and Ito 2008: told apart with every kind of colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
# What tells the same things apart in a print without colour.
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")
QUANTITY = "Viridis"  # even steps to the eye, and in grey
QUIET = "#888888"
INK, FAINT = "#1a1a1a", "#555555"
# The script that lets the keyboard move the figures of a page, and what the page says of it.
KEYS = Path(__file__).with_name("keys.js").read_text("utf-8")
SAID_OF_KEYS = (
    "Tab goes to a figure. There + and - zoom, arrows turn it or move what is zoomed, 0 goes back, "
    "1 to 9 switch an entry of its legend, s saves a picture."
)

# Of every figure that a browser draws: no button sends its data anywhere.
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendChartToCloud"],
}
# Of every page we write: it asks no server for anything, and sends nothing.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'none'; form-action 'none'; base-uri 'none'"
)
# A name of the namespace of SVG and the like is no address that is asked for.
_SERVER = re.compile(r"https?://(?!www\.w3\.org/)(?=[\w{$])")


@cache
def script() -> str:
    """plotly.js as our pages hold it: `without_servers`."""
    return without_servers(get_plotlyjs())


def without_servers(text: str) -> str:
    """A script with no server's address left: of tiles, fonts, maps, licences, or to upload to.

    No figure of ours asks for one; what would, finds a scheme that no browser follows.
    """
    return _SERVER.sub("no-server:", text)


# & comes first, for the others bring it in. plotly knows a few tags and all entities, takes %{ for
# a field of a hover template, and hands what stands between two $ to MathJax where a page has it.
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "%{": "%&#123;", "$": "&#36;"}
_FROM_THE_RIGHT = ("R", "AL")


def plain(text: str) -> str:
    """A text that plotly shows as it is: no tag, no entity, no template of its own in it.

    Hebrew and the like is set apart (Unicode's isolates), so that the digits and arrows beside
    it in a label stay where they are. Not for text drawn by WebGL, where entities are not read:
    write in a scene by its annotations.
    """
    for found, shown in _ESCAPED.items():
        text = text.replace(found, shown)
    if any(unicodedata.bidirectional(character) in _FROM_THE_RIGHT for character in text):
        return f"\u2068{text}\u2069"
    return text


def laid_out(figure: go.Figure, **layout: Any) -> go.Figure:
    """The same figure in the house style, with this layout."""
    figure.update_layout(
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "color": INK},
        hoverlabel={"bgcolor": INK, "bordercolor": "white", "font": {"color": "white"}},
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
    )
    figure.update_layout(**layout)
    return figure
