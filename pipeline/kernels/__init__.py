"""The hot loops, and nothing else: arrays in, arrays out."""
