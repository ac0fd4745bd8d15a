"""A real standalone cluster: a master and two workers, hosts of their own by name and mounts.

What the workers run on is the pip-installed Spark, the base Python (not the virtual environment's)
and numpy and pyarrow alone. Over the checkout, the virtual environment and the driver's folder lie
empty ones: neither the package nor a payload is there unless the job brings it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import psutil
import pyspark

from mnist_spark.spark import session
from mnist_spark.spark.java import find_java
from tests.support import jvm
from tests.support.processes import INTERPRETED, until
from tests.support.servers import free_port

PROJECT = Path(__file__).resolve().parents[2]
SITE_PACKAGES = Path(pyspark.__file__).parents[1]
LIBRARIES = ("numpy", "numpy.libs", "pyarrow")
PYTHON = Path(sys.executable).resolve()  # the virtual environment's is a link to it


def can_hide() -> str:
    """Why this machine can't hide folders from a process; empty if it can."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return done.stderr.strip()


def numpy_and_pyarrow(folder: Path) -> Path:
    """A folder of links to the libraries that executors need."""
    folder.mkdir()
    for name in LIBRARIES:
        if (SITE_PACKAGES / name).is_dir():
            (folder / name).symlink_to(SITE_PACKAGES / name)
    return folder


def package_zip(folder: Path) -> Path:
    """The package as ``--py-files`` takes it."""
    path = folder / "mnist_spark.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((PROJECT / "mnist_spark").rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(PROJECT))
    return path


class Cluster:
    """Master and workers, each a process group of its own below ``home``.

    Attributes:
        home: ``driver`` is what only drivers see, all else is shared.
        java_options: what its JVMs start with.
    """

    def __init__(self, home: Path, hidden: Sequence[Path] = ()) -> None:
        self.home = home
        self.driver_only = home / "driver"
        self.shared = home / "shared"
        for folder in (self.driver_only, self.shared, home / "lib", home / "spark"):
            folder.mkdir()
        self._hidden = [PROJECT, Path(sys.prefix), self.driver_only, *hidden]
        self._libraries = home / "lib"
        # The last is for the planner, which runs beside the driver: executors don't see it.
        self.python_path = f"{self._libraries}:{SITE_PACKAGES}"
        self.cloud_python_path = home / "cloud-lib"  # with obstore and boto3 too
        self.cloud_python_path.mkdir()
        # The archive fits where the jars lie at the same paths; so there lies Spark.
        self._spark = (SITE_PACKAGES / "pyspark").resolve()
        self._archive = home / "classes.jsa"
        self._archive.touch()
        self.java_options = jvm.options(self._archive)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.master = self._start_master()
        self.workers = [self.start_worker() for _ in range(2)]

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more worker, a host to Spark; returns when the master knows it.

        Both have room for two executors of each driver that the tests may have at a time: one that
        does not get its own waits for ever.
        """
        number = len(self._processes)
        process = self._spawn(
            f"worker{number}",
            "org.apache.spark.deploy.worker.Worker",
            *(
                "--host",
                f"127.0.0.{number + 1}",
                "--cores",
                "4",
                "--memory",
                "4g",
                "--webui-port",
                "0",
            ),
            *("--work-dir", str(self.home / f"work{number}"), self.master),
        )
        self._wait_for(process, f"worker{number}", "Successfully registered with master")
        return process

    def replace_dead_worker(self) -> None:
        """Starts another worker for the one that was killed."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        self.workers.append(self.start_worker())

    def executors(self) -> list[psutil.Process]:
        """The JVMs of all executors that live."""
        workers = [psutil.Process(w.pid) for w in self.workers if w.poll() is None]
        return [
            process
            for worker in workers
            for process in children(worker)
            if "CoarseGrainedExecutorBackend" in command_line(process)
        ]

    def python_workers(self) -> list[psutil.Process]:
        """The processes that decode, not the daemons that fork them."""
        daemons = [child for jvm in self.executors() for child in children(jvm)]
        return [worker for daemon in daemons for worker in children(daemon)]

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Kills a daemon and what it has started."""
        if process.poll() is None:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()

    def close(self) -> None:
        for process in reversed(self._processes):
            self.stop(process)

    def start_connect_server(self, conf: str) -> tuple[subprocess.Popen[bytes], str]:
        """A Connect server whose application runs on this cluster; process and ``sc://…``."""
        port = free_port()
        settings = session.DELTA_SETTINGS | {
            "spark.jars.packages": session.delta_package(),
            "spark.connect.grpc.binding.port": str(port),
            "spark.pyspark.python": str(PYTHON),
            "spark.executorEnv.PYTHONPATH": self.python_path,
        }
        settings |= INTERPRETED
        process = self._spawn(
            "connect",
            "org.apache.spark.deploy.SparkSubmit",
            *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
            *("--master", self.master, *shlex.split(conf)),
            *(f"--conf={key}={value}" for key, value in settings.items()),
            "spark-internal",
            memory="1g",
        )
        self._wait_for(process, "connect", "Spark Connect server started at")
        return process, f"sc://127.0.0.1:{port}"

    def _start_master(self) -> str:
        process = self._spawn(
            "master",
            "org.apache.spark.deploy.master.Master",
            *("--host", "127.0.0.1", "--port", str(free_port()), "--webui-port", "0"),
        )
        return self._wait_for(process, "master", r"Starting Spark master at (spark://\S+)")

    def _spawn(
        self, name: str, main: str, *arguments: str, memory: str = "256m"
    ) -> subprocess.Popen[bytes]:
        """Starts a daemon of Spark's within its own namespace."""
        hosts = self.home / f"{name}.hosts"
        hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {name}\n")
        mounts = [
            f"hostname {name}",
            "mount --make-rprivate /",
            f"mount --bind '{hosts}' /etc/hosts",
            f"mount --bind '{self._spark}' '{self.home / 'spark'}'",
            f"mount --bind '{jvm.archive()}' '{self._archive}'",
            f"mount --bind '{SITE_PACKAGES}' '{self.cloud_python_path}'",
            f"mount -t tmpfs none '{self._libraries}'",
        ]
        for package in LIBRARIES:
            if (SITE_PACKAGES / package).is_dir():
                place = self._libraries / package
                mounts.append(f"mkdir '{place}'")
                mounts.append(f"mount --bind '{SITE_PACKAGES / package}' '{place}'")
        mounts += [f"mount -t tmpfs none '{path}'" for path in outermost(self._hidden)]
        mounts.append(f"mkdir -p '{self._spark}'")
        mounts.append(f"mount --bind '{self.home / 'spark'}' '{self._spark}'")
        command = [str(self._spark / "bin/spark-class"), main, *arguments]
        script = " && ".join([*mounts, 'exec "$@"'])
        environment = {
            "PATH": os.environ["PATH"],
            "JAVA_HOME": find_java(),
            "SPARK_HOME": str(self._spark),
            "PYTHONPATH": self.python_path,  # for the planner of a Connect server
            "SPARK_DAEMON_MEMORY": memory,
            "SPARK_DAEMON_JAVA_OPTS": self.java_options,
            "SPARK_SUBMIT_OPTS": self.java_options,
            "SPARK_LOCAL_DIRS": str(self.home / "local"),
        }
        process = subprocess.Popen(
            ["unshare", "-m", "-u", "bash", "-c", script, "bash", *command],
            cwd=self.home,
            env=environment,
            stdout=(self.home / f"{name}.log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        self._processes.append(process)
        return process

    def _wait_for(self, process: subprocess.Popen[bytes], name: str, pattern: str) -> str:
        log = self.home / f"{name}.log"

        def found() -> re.Match[str] | None:
            text = log.read_text()
            assert process.poll() is None, text
            return re.search(pattern, text)

        match = until(found, f"{name}: {pattern}", pause=0.05)
        return match[match.re.groups]


def children(process: psutil.Process) -> list[psutil.Process]:
    """Those that live; none of a process that has just ended.

    Linux tells them by thread. psutil would look at all processes of the machine.
    """
    pids: list[str] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                pids += (thread / "children").read_text().split()
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(int(pid)))
    return found


def command_line(process: psutil.Process) -> str:
    """Empty for a process that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def outermost(folders: Sequence[Path]) -> list[Path]:
    """Those that lie in none of the others: what is within an emptied folder is gone already."""
    return [folder for folder in folders if not any(other in folder.parents for other in folders)]
