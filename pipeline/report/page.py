"""Tables -> one self-contained HTML page: no request leaves it, all text in it is escaped."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup, escape

from pipeline.figures import style
from pipeline.figures.style import KEYS, SAID_OF_KEYS
from pipeline.report import (
    chance,
    context,
    equivariance,
    heads,
    layers,
    made_by,
    pairs,
    parallel,
    what_went_in,
)
from pipeline.report.run import Run

# In the order of the page; a section's template has its module's name.
SECTIONS: tuple[ModuleType, ...] = (
    chance,
    what_went_in,
    heads,
    layers,
    pairs,
    parallel,
    context,
    equivariance,
    made_by,
)
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("pipeline.report", "."), autoescape=True, trim_blocks=True
)
HEIGHT = 450  # pixels of a figure that has none of its own


@dataclass(frozen=True)
class Section:
    """A section as HTML; its title is the first that stands in it."""

    name: str
    html: Markup

    @property
    def title(self) -> Markup:
        """What the table of contents calls it."""
        found = re.search(r"<h2[^>]*>(.*?)</h2>", self.html, re.DOTALL)
        return Markup(found[1] if found else escape(self.name))


def build(run: Run) -> str:
    """The page as HTML."""
    sections = [_section(module, run) for module in SECTIONS]
    return whole("page.html", [found for found in sections if found], run=run)


def whole(template: str, sections: Sequence[Section], **values: Any) -> str:
    """A page that needs nothing beside it, of sections, in the words of a template."""
    return ENVIRONMENT.get_template(template).render(
        plotly=Markup(style.script()),
        config=Markup(json.dumps(style.CONFIG)),
        policy=Markup(style.POLICY),
        keys=Markup(KEYS),
        said_of_keys=SAID_OF_KEYS,
        sections=sections,
        **values,
    )


def section(name: str, template: str, **values: Any) -> Section:
    """A section of a name, by a template."""
    html = ENVIRONMENT.get_template(template).render(embedded=embedded, **values)
    return Section(name, Markup(html))


def _section(module: ModuleType, run: Run) -> Section | None:
    build: Callable[[Run], dict[str, Any] | None] = module.build
    values = build(run)
    if values is None:
        return None
    name = module.__name__.rpartition(".")[2]
    return section(name, f"{name}.html", **values)


def embedded(figure: go.Figure, name: str, says: str = "") -> Markup:
    """A figure as the HTML of an element with this id, drawn when it comes into view.

    says: what it shows, for whoever hears the page.
    """
    # In JSON as it is in HTML, no text can end the element that holds it.
    data = figure.to_json().replace("<", "\\u003c")
    return Markup(
        '<figure tabindex="0" aria-label="{}"><div class="plot" id="{}" style="height: {}px"></div>'
        '<script type="application/json">{}</script></figure>'
    ).format(says or f"Figure {name}", name, figure.layout.height or HEIGHT, Markup(data))
