"""One thin Hydra application for each DVC stage."""

import os

# Arrow's own allocator keeps what was freed, a hundred megabytes after an hour; the C library
# gives it back. Arrow reads this when it is first imported.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
