"""Two runs or more, compared."""
