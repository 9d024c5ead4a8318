"""What several tests share."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from pipeline import config, store, vision
from pipeline.config import Config
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.explorer.app import Desk, Item
from pipeline.explorer.state import State
from pipeline.models import Model
from tests import tiny
from tests.clone import Clone, small

TEXTS = "the cat sat on the mat", "the dog sat on the cat and the mat"

ROOT = Path(__file__).resolve().parents[1]
# By these a person, a scheduler, git or Hydra says how our commands are to behave.
SETTINGS = ("ATTENTION_TOPOLOGY_", "BROWSER_PATH", "GIT_", "HYDRA_", "SBATCH_", "SLURM", "SRUN_")


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_machine() -> Iterator[None]:
    """The environment of the tests and of what they start, without settings meant for our commands.

    Threads, locale, time zone, HOME and umask stay: nothing may depend on them. So do the
    variables by which libraries choose their code: what computes must be one thing everywhere.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(SETTINGS)]:
            patch.delenv(name)
        yield


@pytest.fixture
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable set that `stages.repository.machine` shows, however the machine sets them."""
    from stages.repository import machine

    for name in machine.CHOSEN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def row_groups(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Change how many rows a row group of a table has."""

    def change(table: str, rows: int) -> None:
        entry = replace(store.TABLES[table], rows_per_group=rows)
        monkeypatch.setitem(store.TABLES, table, entry)

    return change


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


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A small clone that ran once, its dvc.lock committed; leave it as you found it."""
    clone = small(tmp_path_factory.mktemp("small"))
    clone.run("dvc", "repro")
    clone.head = clone.commit("dvc.lock of the first run")
    return clone


@pytest.fixture
def desk(made: Callable[[str], Model]) -> Desk:
    """A desk of the explorer with tiny models, a text and an image."""
    image = vision.noise(made("vit").processor, 0)
    return Desk(
        load=made,
        models=["bert", "gpt2", "vit"],
        texts={"c0": Item("a text of a corpus", "en")},
        images={"i0": Item("noise.png", None, image)},
        distances={
            "jensen_shannon": DistanceSpec("jensen_shannon", {"base": 2.0}),
            "hidden_cosine": DistanceSpec("hidden_cosine", {}),
        },
        homology=HomologySpec(1, 2, 0.0),
        default=State("bert", "jensen_shannon", a=TEXTS[0], b=TEXTS[1], image_a="i0", image_b="i0"),
    )
