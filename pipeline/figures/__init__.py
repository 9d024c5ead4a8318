"""Arrays and frames in, plotly figures out: for the page, the explorer and for files."""
