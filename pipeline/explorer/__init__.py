"""The live page: two texts, or images, under one head of one model, seen from every side.

Served by Dash: it is plotly's own, so the figures of the report are its figures; its controls
are reached by keyboard and their state is plain values; and a callback can run in the browser,
where the complex is redrawn at every move of its slider without a word to the server.

    reader.py  models, maps and hidden states, each made when first asked for
    state.py   what a person chose <-> the query of a link
    views.py   one view of two texts -> components
    asked.py   requests of another shape -> a sentence
    app.py     the page: controls, callbacks, server
    assets/    what runs in the browser

No state of a person is on the server: every request carries all that its answer needs.
"""

# Bytes of maps and hidden states that are kept: nine texts of 512 tokens under 270 heads.
MEMORY = 5 * 2**29
