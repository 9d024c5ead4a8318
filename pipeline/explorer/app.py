"""The page: controls, what happens when they change, and a server on this machine only."""

import base64
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import flask
from dash import ClientsideFunction, Dash, Input, Output, dcc, html, no_update
from dash import State as Given
from dash.development.base_component import Component
from dash.exceptions import DependencyException
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.errors import InputError, TextError
from pipeline.explorer import MEMORY, asked, views
from pipeline.explorer.asked import UPLOAD
from pipeline.explorer.reader import Content, Reader
from pipeline.explorer.state import SIDES, VIEWS, Choices, State, chosen, parse, query
from pipeline.explorer.views import Scene, ViewError, message
from pipeline.figures import style
from pipeline.figures.style import KEYS, SAID_OF_KEYS
from pipeline.models import Model

ADDRESS = "127.0.0.1"
PICKED = 500  # texts of a corpus that the lists offer
AT_ONCE = 4  # answers that are made at the same time: each holds its figures meanwhile
# Everything comes from this server; plotly compiles its shaders' wrappers, hence eval.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
)

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%css%}</head>
<body>
{%app_entry%}
<p id="still">The attention explorer shows two texts under one head of a model: its attention,
graph, divergences, diagrams and complex. It draws in the browser, so it needs JavaScript;
<code>python -m commands.look</code> prints the same numbers without.</p>
<script>{keys}</script>
<footer>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>"""


class Item(NamedTuple):
    """A text of the corpus, or an image: its file's bytes, and its name as the text."""

    text: str
    language: str | None = None
    image: bytes | None = None


@dataclass(frozen=True)
class Desk:
    """What the explorer is given: models by name, texts and images by id, the settings."""

    load: Callable[[str], Model]
    models: Sequence[str]
    texts: Mapping[str, Item]
    images: Mapping[str, Item]
    distances: Mapping[str, DistanceSpec]
    homology: HomologySpec
    default: State
    memory: int = MEMORY  # bytes of maps and hidden states that are kept
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", Reader(self.load, self.memory))

    @property
    def choices(self) -> Choices:
        """What a link may name."""
        texts = {text_id: item.text for text_id, item in self.texts.items()}
        return Choices(self.models, list(self.distances), texts, self.images)


# ---------------------------------------------------------------- what is seen


def _field(label: str, control: Component, name: str, only: str = "") -> Component:
    return html.Div([_label(label, name), control], className=f"field {only}")


def _label(label: str, name: str, shown: str = "") -> Component:
    # Dash's lists take their name from the element of this id, which one of single values lacks.
    return html.Label(label, htmlFor=name, id=f"{name}-value-count", className=shown)


def layout(desk: Desk) -> Component:
    """The page before anything is chosen."""
    return html.Div(
        id="page",
        className="view-attention reads-texts",
        children=[
            dcc.Location(id="address", refresh=False),
            *(dcc.Store(id=name) for name in ("texts", "link", "space", "scale", "reads")),
            html.Header(
                [
                    html.H1("Attention explorer"),
                    html.P(
                        "Two texts under one head of a model. Layers, heads and positions count "
                        "from 0. The address of this page holds what you chose: send it. "
                        + SAID_OF_KEYS
                    ),
                ]
            ),
            html.Main(
                [
                    html.Div([_texts(desk, side) for side in SIDES], className="sides reads-text"),
                    html.Div(
                        [_images(desk, side) for side in SIDES], className="sides reads-image"
                    ),
                    _choices(desk),
                    _views(),
                    _view_controls(),
                    html.Div(id="opening", role="status"),
                    html.Div(id="notice", role="status"),
                    html.P(id="status", role="status"),
                    html.Div(id="view"),
                    _space(),
                ]
            ),
        ],
    )


def _texts(desk: Desk, side: str) -> Component:
    box = dcc.Textarea(id=side, rows=3, dir="auto", spellCheck="false", className="text")
    options = [
        {"label": _beginning(item), "value": text_id}
        for text_id, item in list(desk.texts.items())[:PICKED]
    ]
    more = f" (the first {PICKED} of {len(desk.texts):,})" * (len(desk.texts) > PICKED)
    picker = dcc.Dropdown(
        id=f"pick_{side}", options=options, placeholder=f"or take one of the corpus{more}"
    )
    return html.Div(
        [
            _field(f"Text {SIDES[side]}", box, side),
            _label(f"Text {SIDES[side]} from the corpus", f"pick_{side}", "unseen"),
            picker,
        ]
    )


def _beginning(item: Item) -> str:
    start = item.text if len(item.text) <= 70 else f"{item.text[:69]}…"
    return f"{item.language or ''}  {start}"


def _images(desk: Desk, side: str) -> Component:
    name, key = f"Image {SIDES[side]}", f"image_{side}"
    options = [{"label": item.text, "value": key} for key, item in desk.images.items()]
    picker = dcc.Dropdown(id=key, options=options, placeholder="one of the corpus")
    upload = dcc.Upload(
        id=f"upload_{side}",
        max_size=UPLOAD,
        accept="image/*",
        children=html.Button(f"{name}: a file of yours, up to 16 MB", type="button"),
    )
    return html.Div([_field(name, picker, key), upload, html.P(id=f"file_{side}")])


def _choices(desk: Desk) -> Component:
    models = dcc.Dropdown(id="model", options=list(desk.models), clearable=False)
    rules = dcc.Dropdown(id="rule", options=list(desk.distances), clearable=False)
    number = {"type": "number", "min": 0, "step": 1, "debounce": 0.2, "className": "number"}
    return html.Div(
        [
            _field("Model", models, "model", "wide-field"),
            _field("Layer", dcc.Input(id="layer", **number), "layer"),
            _field("Head", dcc.Input(id="head", **number), "head"),
            _field("Distance between tokens", rules, "rule", "wide-field"),
        ],
        className="row",
    )


def _views() -> Component:
    options = [{"label": name, "value": view} for view, name in VIEWS.items()]
    tabs = dcc.RadioItems(id="view_name", options=options, inline=True, className="tabs")
    return html.Fieldset([html.Legend("View", className="unseen"), tabs])


def _view_controls() -> Component:
    graph = [{"label": "directed", "value": False}, {"label": "symmetrised", "value": True}]
    sides = [{"label": f"{name}", "value": side} for side, name in SIDES.items()]
    number = {"type": "number", "min": 0, "step": 0.01, "debounce": 0.2, "className": "number"}
    return html.Div(
        [
            _radio("Edges", dcc.RadioItems(id="symmetrised", options=graph, inline=True), "graph"),
            _field(
                "Leave out edges below",
                dcc.Input(id="threshold", **number),
                "threshold",
                "for-graph for-image",
            ),
            _radio("Of", dcc.RadioItems(id="side", options=sides, inline=True), "complex"),
            *(
                _field(
                    f"Token of {SIDES[side]}",
                    dcc.Dropdown(id=f"token_{side}", options=[], placeholder="none chosen"),
                    f"token_{side}",
                    "wide-field for-context for-image",
                )
                for side in SIDES
            ),
        ],
        className="row",
        id="view-controls",
    )


def _radio(name: str, control: Component, view: str) -> Component:
    return html.Fieldset([html.Legend(name), control], className=f"field for-{view}")


def _space() -> Component:
    """Where the browser draws the complex; React leaves the insides of these to the script."""
    return html.Div(
        [
            html.Div(id="slider"),
            html.P(id="counts", role="status"),
            html.Div(
                [
                    html.Div(
                        id="plot",
                        tabIndex=0,
                        role="img",
                        **{"aria-label": "The complex", "data-config": json.dumps(style.CONFIG)},
                    ),
                    html.Div(
                        [
                            html.H3("Clusters at this scale"),
                            html.Ol(id="clusters"),
                            html.Div(id="marked", dir="auto"),
                        ]
                    ),
                ],
                className="sides",
            ),
            html.Div(
                dcc.Graph(config=style.CONFIG), hidden=True
            ),  # so that Dash loads plotly for the script
        ],
        id="space-view",
        className="for-complex",
        hidden=True,
    )


# ---------------------------------------------------------------- what happens

# A control's value is the state's field of the same name; a view's name is an element's already.
CONTROLS = {
    name: "view_name" if name == "view" else name
    for name in vars(State("", ""))
    if name not in (*SIDES, "scale")
}
SEEN = (
    Output("view", "children"),
    Output("notice", "children"),
    Output("link", "data"),
    Output("space", "data"),
    Output("reads", "data"),
    Output("layer-value-count", "children"),
    Output("head-value-count", "children"),
    Output("token_a", "options"),
    Output("token_b", "options"),
)


class Seen(NamedTuple):
    """What changes on the page, in the order of the outputs of `render`."""

    view: Any
    notice: Any
    link: str
    space: Any = None
    reads: str = "texts"
    layer: str = "Layer"
    head: str = "Head"
    tokens_a: Any = ()
    tokens_b: Any = ()


def render(desk: Desk, values: Mapping[str, Any]) -> Seen:
    """All that is seen, from the values of the controls."""
    state, faults = chosen(values, desk.default, desk.choices)
    link, left_out = query(state, desk.choices)
    try:
        model = desk.reader.model(state.model)
    except InputError as error:
        return Seen(message(str(error)), _notes([*faults, *left_out]), link)
    scene = Scene(
        desk.reader,
        model,
        state,
        _contents(desk, model, state, values),
        desk.distances[state.rule],
        desk.homology,
    )
    if model.reads == "images" and any(values.get(f"upload_{side}") for side in SIDES):
        left_out.append("A link does not hold an image of yours.")
    return Seen(
        *_view(scene, _notes([*faults, *left_out]), link),
        model.reads,
        f"Layer, 0 to {model.layers - 1}",
        f"Head, 0 to {model.heads - 1}",
        *(_tokens(scene, side) for side in SIDES),
    )


def _view(scene: Scene, notice: Any, link: str) -> tuple[Any, Any, str, Any]:
    try:
        children = views.VIEWS[scene.state.view](scene)
        space = views.complex_data(scene) if scene.state.view == "complex" else None
    except (ViewError, InputError, TextError) as error:
        return message(str(error)), notice, link, None
    return children, notice, link, space


def _notes(sentences: Sequence[str]) -> list[Component]:
    return [message(sentence) for sentence in sentences]


def _contents(
    desk: Desk, model: Model, state: State, values: Mapping[str, Any]
) -> dict[str, Content]:
    if model.reads == "texts":
        return {"a": state.a, "b": state.b}
    return {
        side: _uploaded(values.get(f"upload_{side}"))
        or _of_corpus(desk, getattr(state, f"image_{side}"))
        for side in SIDES
    }


def _uploaded(contents: str | None) -> bytes:
    """The bytes of "data:TYPE;base64,BYTES"; what is none of it is no image, as is said later."""
    try:
        return base64.b64decode((contents or "").partition(",")[2], validate=True)
    except ValueError:
        return b"?"


def _of_corpus(desk: Desk, image_id: str | None) -> bytes:
    item = desk.images.get(image_id or "")
    return (item.image if item else None) or b""


def _tokens(scene: Scene, side: str) -> list[dict[str, Any]]:
    try:
        tokens = scene.reader.maps(scene.model, scene.contents[side]).encoding.tokens
    except (InputError, TextError):
        return []
    return [{"label": f"{i} {token}", "value": i} for i, token in enumerate(tokens)]


def build(desk: Desk) -> Dash:
    """The application."""
    app = Dash(
        __name__,
        title="Attention explorer",
        update_title="",
        index_string=INDEX.replace("{keys}", KEYS),
        serve_locally=True,
        enable_mcp=False,
        add_log_handler=False,
    )
    app.layout = layout(desk)
    _guard(app)
    _answer(app, desk)
    _in_the_browser(app)
    return app


def _answer(app: Dash, desk: Desk) -> None:
    def opened(search: str | None) -> Any:
        state, faults = parse(search or "", desk.default, desk.choices)
        values = [getattr(state, name) for name in CONTROLS]
        # An empty value would look chosen.
        values = [None if value == "" else value for value in values]
        return *values, state.a, state.b, state.scale, _notes(faults)

    app.callback(
        *(Output(name, "value") for name in (*CONTROLS.values(), *SIDES)),
        Output("scale", "data"),
        Output("opening", "children"),
        Input("address", "search"),
    )(opened)
    _answer_changes(app, desk)
    for side in SIDES:
        _pick(app, desk, side)


def _answer_changes(app: Dash, desk: Desk) -> None:
    given = {name: Input(control, "value") for name, control in CONTROLS.items()}
    given |= {f"upload_{side}": Input(f"upload_{side}", "contents") for side in SIDES}
    turns = threading.BoundedSemaphore(AT_ONCE)

    def changed(controls: dict[str, Any], texts: dict[str, str] | None) -> Seen:
        values = controls | {side: (texts or {}).get(side) or "" for side in SIDES}
        try:
            with turns:
                return render(desk, values)
        except Exception as error:  # a dead page would say less
            logging.getLogger(__name__).exception("the explorer failed")
            return Seen(message(_unforeseen(error)), [], "")

    app.callback(
        output=list(SEEN),
        inputs={"controls": given, "texts": Input("texts", "data")},
        running=[
            (Output("status", "children"), WORKING, ""),
            (Output("view", "className"), "busy", ""),
        ],
        prevent_initial_call=True,
    )(changed)


WORKING = (
    "Working. A model loads when it is first asked for, which takes some seconds to a minute; "
    "a text runs through it once."
)


def _unforeseen(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {error}. This is not an error we foresaw; the terminal that "
        "serves this page shows where it arose."
    )


def _pick(app: Dash, desk: Desk, side: str) -> None:
    """A text taken from the corpus is written where one types; the list is ready for the next."""

    def picked(text_id: str | None) -> Any:
        found = desk.texts.get(text_id or "")
        return (found.text, None) if found else (no_update, no_update)

    app.callback(
        Output(side, "value", allow_duplicate=True),
        Output(f"pick_{side}", "value"),
        Input(f"pick_{side}", "value"),
        prevent_initial_call=True,
    )(picked)


def _in_the_browser(app: Dash) -> None:
    def script(function: str, *parts: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("explorer", function), *parts, **options)

    script("settle", Output("texts", "data"), Input("a", "value"), Input("b", "value"))
    script("show", Output("page", "className"), Input("view_name", "value"), Input("reads", "data"))
    script("draw", Input("space", "data"), Input("scale", "data"))
    script("link", Input("link", "data"))
    for side in SIDES:
        script(
            "either",
            Output(f"upload_{side}", "contents"),
            Output(f"image_{side}", "value", allow_duplicate=True),
            Output(f"file_{side}", "children"),
            Input(f"upload_{side}", "contents"),
            Input(f"image_{side}", "value"),
            Given(f"upload_{side}", "filename"),
            prevent_initial_call=True,
        )


# ---------------------------------------------------------------- the server


def _guard(app: Dash) -> None:
    """Answer only pages of this server: not a name that someone else's site points here."""
    server: flask.Flask = app.server
    server.config["MAX_CONTENT_LENGTH"] = asked.BODY
    server.register_error_handler(HTTPException, asked.answer)

    @server.errorhandler(DependencyException)
    def unknown(_: DependencyException) -> flask.Response:
        return flask.Response("This page has no such file.\n", 404, mimetype="text/plain")

    @server.before_request
    def refuse() -> Any:
        request = flask.request
        name = request.host.rpartition(":")[0] or request.host
        origin = request.headers.get("Origin", request.host_url.rstrip("/"))
        if name not in (ADDRESS, "localhost") or origin != request.host_url.rstrip("/"):
            return flask.Response(
                "This page is for this machine only.\n", 403, mimetype="text/plain"
            )
        asked.check(app)
        return None

    @server.after_request
    def only_from_here(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        if "plotly" in flask.request.path and str(response.mimetype).endswith("javascript"):
            response.direct_passthrough = False
            response.set_data(style.without_servers(response.get_data(as_text=True)))
        return response


def listen(app: Dash, port: int) -> BaseWSGIServer:
    """A server of the page, a thread a request; port 0 takes a free one."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        place = socket.create_server((ADDRESS, port))
    except (OSError, OverflowError) as error:
        raise InputError(
            f"Port {port} cannot be used ({error}); take another: --port N."
        ) from error
    with place:
        number = place.getsockname()[1]
        return make_server(
            ADDRESS,
            number,
            app.server,
            threaded=True,
            request_handler=_Requests,
            fd=place.detach(),
        )


class _Requests(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Say nothing: werkzeug would read the address, and not every one can be read."""

    def parse_request(self) -> bool:
        """Answer a first line without an address, as `GET http://[`, before werkzeug reads it."""
        if not super().parse_request():
            return False
        try:
            urlsplit(self.path)
        except ValueError:
            self.send_error(400, "Bad address")
            return False
        return True
