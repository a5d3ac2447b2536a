"""The engines that agents are tested on: plain subprocesses, an sshd, a Slurm, a Dask; each is started once per session.

They run in sessions of their own, not as children of the tests, which look after every child; `timeout` ends them should
the tests be killed. What can't be had is skipped, and the reason says what is missing.
"""

import contextlib
import getpass
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import free_port, is_gone
from warm import write_stub

from trio_process.cluster import dask_agents, local_agents, slurm_agents, ssh_agents

MINUTES = 30
PATIENCE = 60.0


class Engine:
    """Some daemons in a directory, and the end of them."""

    def __init__(self, directory):
        self.directory = directory
        self.pid_files = []

    def daemon(self, name, *argv, env=None):
        """Start a daemon that is nobody's child, and keeps its output in a file."""
        pid_file = self.directory / f"{name}.pid"
        self.pid_files.append(pid_file)
        environment = {name: value for name, value in os.environ.items() if name != "TRIO_PROCESS_TESTS"}
        script = 'echo $$ > "$1"; exec > "$2" 2>&1 < /dev/null; shift 2; exec timeout "$@"'
        log = self.directory / f"{name}.out"
        command = ["setsid", "--fork", "sh", "-c", script, "sh", pid_file, log, f"{MINUTES}m", *argv]
        subprocess.run(command, env=environment | (env or {}), check=True, timeout=PATIENCE)

    def until(self, ready, what):
        """Wait until something is there."""
        end = time.monotonic() + PATIENCE
        while not ready():
            if time.monotonic() > end:
                said = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in self.directory.glob("*.out"))
                pytest.fail(f"{what} is not ready after {PATIENCE:g} s\n{said}", pytrace=False)
            time.sleep(0.05)

    def stop(self):
        """End all of it: there is nothing that any of them would have to save."""
        groups = []
        for pid_file in reversed(self.pid_files):
            with contextlib.suppress(OSError, ValueError):
                groups.append(int(pid_file.read_text()))
                os.killpg(groups[-1], signal.SIGKILL)
        end = time.monotonic() + 5
        while time.monotonic() < end and not all(map(is_gone, groups)):
            time.sleep(0.01)


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _need(*programs):
    found = {}
    for program in programs:
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{program} is not installed; .ci/run says which package has it")
        found[program] = path
    return found


def _engine(tmp_path_factory, name):
    directory = tmp_path_factory.mktemp(name)
    directory.chmod(0o755)
    return Engine(directory)


# a warm start, for the contract suite


def _warm(tmp_path_factory, module):
    engine = _engine(tmp_path_factory, "warm")
    engine.daemon("warm", sys.executable, Path(__file__).with_name("warm.py"), engine.directory / "socket", module)
    stub = engine.directory / "python"
    write_stub(stub, engine.directory / "socket")
    engine.until((engine.directory / "socket").exists, module)
    return engine, str(stub)


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory):
    """Start what agents are forked from; return what stands for the Python that runs them."""
    engine, stub = _warm(tmp_path_factory, "trio_process.agent")
    yield stub
    engine.stop()


@pytest.fixture(scope="session")
def warm_helper(tmp_path_factory):
    """Start what Dask's helpers are forked from; return what stands for the Python that runs them."""
    engine, stub = _warm(tmp_path_factory, "trio_process.cluster.dask_helper")
    yield stub
    engine.stop()


# plain subprocesses


@pytest.fixture
def warm_agents(warm_python, monkeypatch):
    """Let the agents that `local_agents` starts be forked."""
    monkeypatch.setattr("trio_process.cluster.launchers.python_argv", lambda: [warm_python])


@pytest.fixture
def agent_launcher(warm_agents):
    """Return a launcher of agents that are plain subprocesses."""
    return local_agents(1)


# ssh


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    """Start an sshd on loopback, with a key and a port of its own; return the options of ssh that lead to it."""
    found = _need("sshd", "ssh", "ssh-keygen")
    engine = _engine(tmp_path_factory, "sshd")
    where = engine.directory
    for key in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", where / key]
        subprocess.run(command, check=True, timeout=PATIENCE)
    shutil.copy(where / "user.pub", where / "authorized")
    port = free_port()
    (where / "sshd_config").write_text(
        f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {where}/host
AuthorizedKeysFile {where}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
AcceptEnv *
MaxStartups 100
MaxSessions 100
"""
    )
    Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
    engine.daemon("sshd", found["sshd"], "-D", "-e", "-f", where / "sshd_config")
    engine.until(lambda: _answers(port), "sshd")
    options = ["-F", "none", "-p", str(port), "-i", str(where / "user"), "-o", "StrictHostKeyChecking=no"]
    options += ["-o", f"UserKnownHostsFile={where}/known", "-o", "LogLevel=ERROR", "-l", getpass.getuser()]
    yield options
    engine.stop()


@pytest.fixture(scope="session")
def ssh_master(sshd, tmp_path_factory):
    """Open a connection that others go by; return the options of ssh for that."""
    engine = _engine(tmp_path_factory, "master")
    path = engine.directory / "master"
    options = [*sshd, "-o", f"ControlPath={path}"]
    engine.daemon("master", shutil.which("ssh"), *options, "-o", "ControlMaster=yes", "-N", "127.0.0.1")
    engine.until(path.exists, "the master")
    yield options
    engine.stop()


@pytest.fixture
def ssh_launcher(ssh_master, warm_python):
    """Return a launcher of one agent over ssh."""
    return ssh_agents("127.0.0.1", python=warm_python, options=ssh_master)


# Slurm


@pytest.fixture(scope="session")
def slurm_conf(tmp_path_factory):
    """Start a Slurm of two nodes on this machine; return the path of its configuration."""
    found = _need("munged", "slurmctld", "slurmd", "srun")
    if os.geteuid() != 0:
        pytest.skip("a Slurm of its own needs root")
    engine = _engine(tmp_path_factory, "slurm")
    where = engine.directory
    (where / "munge.key").write_bytes(os.urandom(1024))
    (where / "munge.key").chmod(0o400)
    socket_path = where / "munge.socket"
    engine.daemon(
        "munged",
        found["munged"],
        "--foreground",
        "--force",
        f"--key-file={where}/munge.key",
        f"--socket={socket_path}",
        f"--log-file={where}/munge.log",
        f"--pid-file={where}/munge.pid",
        f"--seed-file={where}/munge.seed",
    )
    engine.until(socket_path.exists, "munged")
    host = socket.gethostname()
    controller, first, second = free_port(), free_port(), free_port()
    for folder in ("state", "spool-n1", "spool-n2"):
        (where / folder).mkdir()
    (where / "slurm.conf").write_text(
        f"""
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket_path}
CredType=cred/munge
StateSaveLocation={where}/state
SlurmdSpoolDir={where}/spool-%n
SlurmctldPidFile={where}/slurmctld.real.pid
SlurmdPidFile={where}/slurmd-%n.real.pid
SlurmctldLogFile={where}/slurmctld.log
SlurmdLogFile={where}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=10
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=8 RealMemory=1000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=8 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
    )
    env = {"SLURM_CONF": str(where / "slurm.conf")}
    engine.daemon("slurmctld", found["slurmctld"], "-D", "-i", env=env)
    engine.until(lambda: _answers(controller), "slurmctld")
    for node in ("n1", "n2"):
        engine.daemon(f"slurmd-{node}", found["slurmd"], "-D", "-N", node, env=env)

    def idle():
        command = [shutil.which("sinfo"), "-h", "-o", "%T %D"]
        done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout.split() == ["idle", "2"]

    engine.until(idle, "Slurm")
    yield where / "slurm.conf"
    engine.stop()


@pytest.fixture
def slurm(slurm_conf, monkeypatch):
    """Let this test's Slurm commands find the Slurm of the tests."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    return slurm_conf


class SlurmNode:
    """A node of the Slurm of the tests, which can fail and come back."""

    def __init__(self, conf, name):
        self.name = name
        self._engine = Engine(conf.parent)
        self._env = {"SLURM_CONF": str(conf)}

    def fail(self):
        """Kill its slurmd, and have Slurm give the node up, which it would do by itself after some ten seconds."""
        os.killpg(int((self._engine.directory / f"slurmd-{self.name}.pid").read_text()), signal.SIGKILL)
        update = ["scontrol", "update", f"NodeName={self.name}", "State=DOWN", "Reason=test"]
        subprocess.run(update, check=True, timeout=PATIENCE)
        self._engine.until(lambda: self.state.startswith("down"), f"the end of {self.name} in Slurm")

    def come_back(self):
        """Start its slurmd again."""
        slurmd = _need("slurmd")["slurmd"]
        self._engine.daemon(f"slurmd-{self.name}", slurmd, "-D", "-N", self.name, env=self._env)
        self._engine.until(lambda: self.state == "idle", f"slurmd on {self.name}")

    @property
    def state(self):
        """Its state, as sinfo(1) shows it."""
        command = ["sinfo", "-h", "-n", self.name, "-o", "%T"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()


@pytest.fixture
def slurm_node(slurm):
    """Return a node that may fail in the test; it has come back at the end."""
    node = SlurmNode(slurm, "n1")
    yield node
    if node.state != "idle":
        node.come_back()


@pytest.fixture
def slurm_launcher(slurm, warm_python):
    """Return a launcher of one agent on Slurm."""
    return slurm_agents(1, "-c4", "--mem=200", python=warm_python)


# Dask

# what its processes would do while they wait, which is most of the time that the tests take: the statistics of their loops,
# of what they run, and of the machine
_QUIET = {
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}


@pytest.fixture(scope="session")
def dask_address(tmp_path_factory):
    """Start a Dask scheduler and two workers under nannies; return the scheduler's address."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("distributed is not installed; it is in the test group")
    engine = _engine(tmp_path_factory, "dask")
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    env = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", **_QUIET}
    python = [sys.executable, "-m"]
    common = ["--no-dashboard"]
    engine.daemon(
        "scheduler",
        *python,
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *common,
        env=env,
    )
    engine.until(lambda: _answers(port), "the scheduler")
    where = str(engine.directory)
    workers = ["--nworkers", "2", "--nthreads", "4", "--name", "w", "--host", "127.0.0.1", "--local-directory", where]
    engine.daemon("workers", *python, "distributed.cli.dask_worker", address, *workers, "--no-dashboard", env=env)
    yield address
    engine.stop()


@pytest.fixture(scope="session")
def warm_worker(dask_address, warm_python, tmp_path_factory):
    """Start a further worker, whose agents are forked; return its name."""
    engine = _engine(tmp_path_factory, "worker")
    preload = engine.directory / "preload.py"
    preload.write_text(
        f"""
import types
import trio_process.cluster.dask_task
trio_process.cluster.dask_task.sys = types.SimpleNamespace(executable={warm_python!r})
"""
    )
    where = ["--host", "127.0.0.1", "--local-directory", str(engine.directory), "--preload", str(preload)]
    options = ["--no-nanny", "--nthreads", "4", "--name", "warm", "--no-dashboard", *where]
    engine.daemon("worker", sys.executable, "-m", "distributed.cli.dask_worker", dask_address, *options, env=_QUIET)
    yield "warm"
    engine.stop()


@pytest.fixture
def warm_dask_helper(warm_helper, monkeypatch):
    """Let the helper that speaks with Dask be forked: Dask's own import takes longer than most tests."""
    monkeypatch.setattr("trio_process.cluster.dask.module_argv", lambda module: [warm_helper, module])


@pytest.fixture
def dask_launcher(dask_address, warm_worker, warm_dask_helper):
    """Return a launcher of agents on one worker of Dask's."""
    return dask_agents(dask_address, workers=[warm_worker])


def make_certificate(directory, name="cluster"):
    """Make a certificate that signs itself, and its key; return their paths."""
    openssl = _need("openssl")["openssl"]
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command = [openssl, "req", "-x509", *kind, "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return str(cert), str(key)


@pytest.fixture(scope="module")
def dask_tls(tmp_path_factory):
    """Start a Dask of one worker that speaks TLS; return its address, and the certificate and key of all."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("distributed is not installed; it is in the test group")
    engine = _engine(tmp_path_factory, "dask-tls")
    cert, key = make_certificate(engine.directory)
    port = free_port()
    address = f"tls://127.0.0.1:{port}"
    common = ["--no-dashboard", "--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key]
    python = [sys.executable, "-m"]
    where = ["--protocol", "tls", "--host", "127.0.0.1", "--port", str(port)]
    engine.daemon("scheduler", *python, "distributed.cli.dask_scheduler", *where, *common, env=_QUIET)
    where = ["--host", "tls://127.0.0.1", "--local-directory", str(engine.directory), "--no-nanny", "--nthreads", "2"]
    engine.daemon("worker", *python, "distributed.cli.dask_worker", address, *where, *common, env=_QUIET)
    engine.until(lambda: _answers(port), "the scheduler")
    yield address, cert, key
    engine.stop()


@pytest.fixture
def make_launcher(request):
    """Return a function of an engine's name and a number of agents (1 or 2) that returns a launcher; by `warm` they are forked."""

    def make(engine, count, warm=None):
        match engine:
            case "agent":
                if warm is not None:
                    request.getfixturevalue("warm_agents")
                return local_agents(count)
            case "ssh":
                options = request.getfixturevalue("sshd")
                return ssh_agents(*["127.0.0.1"] * count, python=warm or sys.executable, options=options)
            case "slurm":
                request.getfixturevalue("slurm")
                return slurm_agents(count, "-c4", "--mem=200", python=warm)
            case "dask":
                address = request.getfixturevalue("dask_address")
                request.getfixturevalue("warm_dask_helper")
                return dask_agents(address, workers=["w-0", "w-1"][:count])

    return make
