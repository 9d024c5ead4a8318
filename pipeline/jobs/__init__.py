"""What the parts of each bulk stage are, how one is done, where the joined tables go.

A job knows nothing of who does its parts: that is the engine's business.
"""
