"""A real SLURM of two nodes on this machine, in a folder of its own, and its end.

Debian's slurm-wlm and munge, as root, without systemd, cgroups or accounting. Everything is
in the folder: key, sockets, configuration, spool, logs; ports are whatever is free. So two of
them, or one beside a real cluster, do not meet.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "setpriv")
# A job of a lost node waits for SlurmdTimeout; one that was requeued, for two minutes anyhow.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,default_queue_depth=1000
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge=600
MaxArraySize={array_size}
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool.%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.%n.log
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str | None:
    """Why there can be no SLURM here; None: there can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)}: not on this machine (apt install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "its daemons run as root, and this process does not"
    return None


class Slurm:
    """Two nodes of one CPU each. `environment` makes sbatch and its like talk to them."""

    def __init__(self, home: Path, array_size: int = 1001) -> None:
        self.home = home
        self.conf = home / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._array_size = array_size

    def start(self) -> None:
        """Start all daemons; return when both nodes are idle."""
        ports = _free_ports(1 + len(NODES))
        host = socket.gethostname()
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1"
            " RealMemory=4000"
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        self.conf.write_text(
            CONF.format(
                host=host,
                home=self.home,
                ports=ports,
                array_size=self._array_size,
                nodes="\n".join(nodes),
                names=",".join(NODES),
            )
        )
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (self.home / name).mkdir()
        self._start_munge()
        self._daemon("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        for node in NODES:
            self.start_node(node)
        wait_until(lambda: self.say("sinfo", "-h", "-o", "%D %t") == "2 idle", 60, self.faults)

    def _start_munge(self) -> None:
        key = self.home / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(64))
        files = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munge.pid"}
        files |= {"log-file": "munge.log", "seed-file": "munge.seed"}
        words = [f"--{word}={self.home / name}" for word, name in files.items()]
        self._daemon("munged", "munged", "--foreground", "--force", "--num-threads=1", *words)
        wait_until((self.home / "munge.socket").exists, 20, self.faults)

    def start_node(self, node: str) -> None:
        """Start one node's daemon."""
        self._daemon(node, "slurmd", "-D", "-N", node, "-f", str(self.conf))

    def end_node(self, node: str) -> None:
        """End a node as if its power went: its daemon, and all that runs on it."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait(10)
        self._kill_jobs(lambda environment: f"SLURMD_NODENAME={node}" in environment)

    def _daemon(self, key: str, *words: str) -> None:
        # The kernel ends it when this process ends, however that happens.
        with (self.home / f"{key}.said").open("ab") as said:
            self._daemons[key] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def say(self, *words: str) -> str:
        """What a command of SLURM answers."""
        answer = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False
        )
        return answer.stdout.strip()

    def queue(self) -> list[list[str]]:
        """Every task there is: job, index, state, node."""
        lines = self.say("squeue", "-h", "-r", "-o", "%F|%K|%T|%N").splitlines()
        return [line.split("|") for line in lines]

    def faults(self) -> str:
        """The ends of all logs, for an error."""
        logs = sorted([*self.home.glob("*.log"), *self.home.glob("*.said")])
        return "\n".join(
            f"== {log.name}\n{log.read_text('utf-8', 'replace')[-1500:]}" for log in logs
        )

    def stop(self) -> None:
        """End every job and daemon of this cluster, and nothing else."""
        daemons = list(self._daemons.values())
        for daemon in daemons:
            daemon.kill()
        for daemon in daemons:
            daemon.wait(10)
        self._daemons.clear()
        self._kill_jobs(lambda environment: f"SLURM_CONF={self.conf}" in environment)

    def _kill_jobs(self, ours: Callable[[list[str]], bool]) -> None:
        # A job's steward outlives its node's daemon; all are told by their environment.
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes().decode("utf-8", "replace")
                words = environment.split("\0")
                mine = int(process.name) == os.getpid()
                if f"SLURM_CONF={self.conf}" in words and ours(words) and not mine:
                    os.kill(int(process.name), signal.SIGKILL)
            except (OSError, ValueError):
                continue


def wait_until(met: Callable[[], object], seconds: float, said: Callable[[], str]) -> None:
    """Wait until something holds; say what there is to say when it does not come to hold."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s\n{said()}")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
