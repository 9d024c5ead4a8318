"""What several tests share."""

import os
from pathlib import Path

# Before torch is imported: the plain forward passes that ours are compared with run on one
# thread as well, since the last bits depend on their number.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

from pipeline import config
from pipeline.config import Config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def composed() -> dict:
    """The default configuration, composed from the real conf/."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(ROOT / "params.yaml"))


@pytest.fixture(scope="session")
def settings(composed: dict) -> Config:
    """The default configuration, checked."""
    return config.check(composed)
