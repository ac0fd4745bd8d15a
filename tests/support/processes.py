"""Ingests in processes of their own, as the tests that kill, race and measure need them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

TIMEOUT = 180
PROJECT = Path(__file__).resolve().parents[2]

# Spark interprets expressions: most queries of tests run once, over few rows, and to compile code
# for them takes longer. Examples, commands and the standalone cluster generate code, as users do.
INTERPRETED = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


def until(condition: Callable[[], Any], what: str, pause: float = 0.001) -> Any:
    """Waits for the condition; returns its value, which is true."""
    end = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(pause)
    return value


class Driver:
    """A live process with a Spark session, which interprets expressions or generates code."""

    def __init__(
        self,
        home: Path,
        master: str = "local[2]",
        *,
        delta: bool = True,
        tables: str = "",
        conf: str = "",
        generate: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        home.mkdir(parents=True)
        self.log = home / "stderr"
        if not generate:
            conf += "".join(f" --conf {key}={value}" for key, value in INTERPRETED.items())
        submit = f"--driver-memory 1g {conf} pyspark-shell"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.driver", master),
                f"delta {tables}" * delta,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            cwd=home,
            # Its executors' Python is this one, unless the test says otherwise: not what an
            # earlier test has left in the environment, nor the PATH's.
            env=os.environ
            | {
                "PYSPARK_SUBMIT_ARGS": submit,
                "PYSPARK_PYTHON": sys.executable,
                "PYTHONPATH": str(PROJECT),
            }
            | (environment or {}),
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def wait_ready(self) -> None:
        line = self._answers.get(timeout=TIMEOUT)
        assert line == "ready\n", self.log.read_text()[-2000:]

    def start(self, **order: Any) -> None:
        """Has it ingest; ``forever=True`` again and again."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order, default=str) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        answer = self.poll(TIMEOUT)
        assert answer, "waited in vain for an answer"
        return answer

    def poll(self, seconds: float) -> dict[str, Any] | None:
        """The answer, if there is one within so many seconds."""
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        assert line, f"the driver died: {self.log.read_text()[-2000:]}"
        return json.loads(line)

    def ingest(self, **order: Any) -> dict[str, Any]:
        self.start(**order)
        return self.answer()

    def alive(self) -> bool:
        return self.process.poll() is None

    def tree(self) -> list[psutil.Process]:
        """The driver, its JVM, its Python workers."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL to the driver's Python and JVM; returns when no process of it is left."""
        tree = self.tree()
        for process in tree:
            if process == tree[0] or "java" in process.name():
                process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(tree[1:], timeout=TIMEOUT)
        assert not alive

    def close(self) -> None:
        if self.alive():
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(TIMEOUT)


class Drivers:
    """Live drivers on ``local[2]``; those that tests have killed are replaced when needed."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._started: list[Driver] = []

    def take(self, count: int) -> list[Driver]:
        """So many that wait for orders."""
        alive = [driver for driver in self._started if driver.alive()]
        new = [self._new() for _ in range(count - len(alive))]
        for driver in new:
            driver.wait_ready()
        return [*alive, *new][:count]

    def _new(self) -> Driver:
        driver = Driver(self._home / f"driver{len(self._started)}")
        self._started.append(driver)
        return driver

    def close(self) -> None:
        for driver in self._started:
            driver.close()


def open_files(
    processes: list[psutil.Process], suffix: str
) -> Iterator[tuple[psutil.Process, str]]:
    """Which of the processes has a file open whose name ends so."""
    for process in processes:
        try:
            for file in process.open_files():
                if file.path.endswith(suffix):
                    yield process, file.path
        except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
            continue
