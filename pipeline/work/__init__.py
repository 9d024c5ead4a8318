"""Work in parts: on the shelf or not, who holds it, who does it, here or on a cluster."""
