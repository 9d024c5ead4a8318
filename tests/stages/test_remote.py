"""Push to a remote, clone elsewhere, pull: nothing is computed again."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from pipeline import store
from tests.clone import Clone, cloned, stages_run

pytestmark = pytest.mark.integration
BUCKET = "tables"


class Remote:
    """A DVC remote of some kind: where it is, and what a person sets for it."""

    def __init__(self, url: str, options: dict[str, str], environment: dict[str, str]) -> None:
        self.url, self.options, self.environment = url, options, environment

    def join(self, clone: Clone) -> None:
        """Make it a clone's default remote, as a person with access would."""
        clone.environment |= self.environment
        dvc(clone, "remote", "add", "--local", "-d", "store", self.url)
        for name, value in self.options.items():
            dvc(clone, "remote", "modify", "--local", "store", name, value)


def dvc(clone: Clone, *words: str) -> str:
    return clone.run(sys.executable, "-m", "dvc", *words)


@pytest.fixture(scope="module", params=["folder", "s3"])
def remote(request, tmp_path_factory) -> Iterator[Remote]:
    if request.param == "folder":
        yield Remote(str(tmp_path_factory.mktemp("remote")), {}, {})
        return
    yield from s3_like()


def s3_like() -> Iterator[Remote]:
    """An S3 server on this machine, of nobody else."""
    command = "from moto.server import ThreadedMotoServer as S\nimport sys\n"
    command += "s = S('127.0.0.1', 0, verbose=False); s.start()\n"
    command += "print(s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    keys = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "open"}
    keys |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    with subprocess.Popen(
        [sys.executable, "-c", command],
        env={**os.environ, **keys},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        made = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made, timeout=30).close()
        yield Remote(f"s3://{BUCKET}/dvc", {"endpointurl": endpoint}, keys)
        server.stdin.close()


def test_what_one_pushes_another_pulls_and_computes_nothing(ran, remote, tmp_path):
    remote.join(ran)
    try:
        assert f"{ran.kept_files()} files pushed" in dvc(ran, "push")
    finally:
        (ran.folder / ".dvc/config.local").unlink()
    other = cloned(ran, tmp_path)
    remote.join(other)
    assert [path.name for path in (other.folder / "outputs").iterdir()] == [store.SAMPLES.name]
    # A fresh clone without data: all that is missing is fetched where something needs it.
    assert stages_run(dvc(other, "repro", "--pull", "--allow-missing")) == []
    dvc(other, "pull")
    assert "up to date" in dvc(other, "status")
    assert "in sync" in dvc(other, "status", "--cloud")
    assert stages_run(dvc(other, "repro")) == []
    for name in ("outputs/tables/head_distances.parquet", "outputs/report/index.html"):
        assert (other.folder / name).read_bytes() == (ran.folder / name).read_bytes()
    assert not (tmp_path / "work").exists()


def test_a_fresh_clone_verifies_what_the_remote_holds(ran, remote, tmp_path):
    """commands.reproduce pulls by itself."""
    other = cloned(ran, tmp_path)
    remote.join(other)
    answer = other.run(sys.executable, "-m", "commands.reproduce")
    count = len(ran.outputs())
    assert f"{count} outputs: {count} same bytes" in answer


def test_runs_are_shared_too(ran, tmp_path):
    """After `dvc push --run-cache`, a run once done anywhere is not done again."""
    remote = Remote(str(tmp_path / "remote"), {}, {})
    remote.join(ran)
    try:
        dvc(ran, "push", "--run-cache")
    finally:
        (ran.folder / ".dvc/config.local").unlink()
    other = cloned(ran, tmp_path)
    remote.join(other)
    (other.folder / "dvc.lock").unlink()
    dvc(other, "pull", "--run-cache", "--allow-missing")
    assert "is cached - skipping run" in dvc(other, "repro", "--pull", "corpus")
