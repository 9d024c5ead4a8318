"""What a person calls: `python -m commands`, or `attention-topology`, lists them.

A module here is a command's words: what it takes, and what it says of itself. It imports what
does the work only when its words have been understood, so that --help is there at once, also
where nothing is installed that a model needs. No command imports another: what two share is in
one_head/ and whole_run/ beside them, or in the stages and the pipeline.
"""

import stages  # noqa: F401  Arrow's setting, and what is said of an interrupt
