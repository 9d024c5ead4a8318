"""One thin Hydra application for each DVC stage."""
