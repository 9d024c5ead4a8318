"""What several tests share."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pipeline import config
from pipeline.config import Config
from pipeline.models import Model
from tests import tiny

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


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, settings: Config) -> tuple[Path, Config]:
    """A folder with all tables of two tiny models, and the configuration they came from."""
    from tests import small

    folder = tmp_path_factory.mktemp("run")
    return folder, small.run_in(folder, settings)


@pytest.fixture
def one_torch_thread():
    """Plain forward passes on one thread, as ours are: last bits depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """A tiny model of each kind, made when first asked for."""
    return cache(lambda kind: tiny.make(kind, tmp_path_factory.mktemp(kind)))
