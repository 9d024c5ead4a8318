"""Two runs side by side: what became of each head."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pipeline.figures.style import INK, PALETTE, SYMBOLS, laid_out, plain


def moves(heads: pd.DataFrame, x: str, y: str) -> go.Figure:
    """Each head by its mean distance from others in run x and in run y; ringed: changed cluster.

    heads  the rows of `lineup.Lineup.heads` of these runs in one dimension
    """
    figure = go.Figure()
    for number, (model, rows) in enumerate(heads.groupby("model")):
        about = [
            f"{plain(str(model))} {row.layer}.{row.head}<br>move {row.move:.4f}"
            f"<br>cluster {row.cluster_x} to {row.cluster_y}"
            for row in rows.itertuples()
        ]
        figure.add_scatter(
            x=rows["distance_x"],
            y=rows["distance_y"],
            mode="markers",
            name=plain(str(model)),
            marker={
                "color": PALETTE[number % len(PALETTE)],
                "symbol": SYMBOLS[number % len(SYMBOLS)],
                "size": 9,
                "opacity": 0.8,
                "line": {"color": INK, "width": np.where(rows["changed"], 2.0, 0.0)},
            },
            hovertext=about,
            hovertemplate="%{hovertext}<br>%{x:.4f} to %{y:.4f}<extra></extra>",
        )
    figure.update_xaxes(title=f"mean distance from other heads: {plain(x)}", zeroline=False)
    figure.update_yaxes(title=plain(y), zeroline=False)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return laid_out(figure, height=520, legend=legend, hovermode="closest", showlegend=True)
