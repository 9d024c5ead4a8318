"""What look, figure and explore share: one head, asked for on a text."""
