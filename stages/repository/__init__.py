"""The repository that a run is of: its revisions, locks, pins, and the machine."""
