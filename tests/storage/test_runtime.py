"""What obstore can't do by itself: be given up, and live on in a forked process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.cloudpickle import cloudpickle

import mnist_spark
from mnist_spark.storage import objects
from mnist_spark.storage.failures import ObjectError
from mnist_spark.storage.files import new_file, read_file
from tests.support.faults import Fault, serve
from tests.support.outcomes import run
from tests.support.processes import until
from tests.support.servers import NO_RETRIES, make_bucket

MODIFIED = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
NAMES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")


KEYS = {"AWS_ACCESS_KEY_ID": "AKIATESTS", "AWS_SECRET_ACCESS_KEY": "x"}


@pytest.mark.parametrize("fault", [Fault(trickle="body", headers=MODIFIED), Fault(hang="body")])
def test_a_deadline_holds(real_data, tmp_path, fault):
    """The whole download ends, though the server sends a byte now and then, or none any more."""
    with serve(real_data / "mnist") as server:
        server.faults = dict.fromkeys(NAMES, Fault(**(vars(fault) | {"headers": MODIFIED})))
        outcome = run(
            f"s3://, {'trickles' if fault.trickle else 'hangs in'} the body",
            "mnist",
            tmp_path,
            source="s3://mnist",
            env=KEYS | {"AWS_ENDPOINT_URL": server.url.rstrip("/")},
        )
    assert outcome.error == "DownloadError"
    assert re.search("not complete after 4 s|no answer in time", outcome.text)


WORK = {
    "download": "from mnist_spark.download.fetch import fetch;"
    "from mnist_spark.catalog import dataset;"
    "found = dataset.find('mnist');"
    "from mnist_spark.download.inputs import Inputs;"
    "fetch(found, found.splits, Inputs('s3://mnist', pathlib.Path(sys.argv[1])))",
    "list": "from mnist_spark.ranges.staging import unstage; unstage('s3://mnist/staged')",
    "upload": "from mnist_spark.storage import objects;"
    "objects.put_file(pathlib.Path(sys.executable).resolve(), 's3://mnist/x')",
}


@pytest.fixture
def silent(monkeypatch) -> Iterator[socket.socket]:
    """A listener that takes connections and never answers, and the environment that leads there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": address}).items():
            monkeypatch.setenv(name, value)
        yield listener


@pytest.mark.parametrize("work", WORK)
def test_ctrl_c_does_not_wait_for_storage_that_hangs(silent, tmp_path, work):
    """The time-outs, with their retries, come to more than a minute."""
    child = subprocess.Popen(
        [sys.executable, "-c", f"import pathlib, sys; {WORK[work]}", str(tmp_path)],
        cwd=Path(mnist_spark.__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate(timeout=20)
    assert stderr.rstrip().endswith("KeyboardInterrupt")


WAITS = {
    "call": "from mnist_spark.storage.runtime import call; call(hang)",
    "in_parallel": "from mnist_spark.download.fetch import in_parallel;"
    "in_parallel(lambda _: hang(), [1, 2], threading.Event())",
}


def end_of(wait: str, before: str) -> str:
    """What Python says last when it waits for a call that hangs, after other code."""
    code = f"import signal, threading, time\nhang = lambda: time.sleep(60)\n{before}{WAITS[wait]}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(mnist_spark.__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stderr.rstrip().splitlines()[-1]


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_that_does_not_wake_the_wait(wait):
    """Like one that comes just before a wait begins: here another thread gets the signal."""
    before = (
        "me = lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)\n"
        "threading.Timer(1, me).start()\n"
    )
    assert end_of(wait, before) == "KeyboardInterrupt"


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_between_two_steps_of_python(wait):
    """Python has released the lock that it waits with, and would release it again."""
    before = (
        "def wait(self, timeout=None):\n"
        "    self._release_save()\n"
        "    raise KeyboardInterrupt\n"
        "threading.Condition.wait = wait\n"
    )
    assert end_of(wait, before) == "KeyboardInterrupt"


def test_what_is_given_up_ends(silent, monkeypatch):
    monkeypatch.setattr("mnist_spark.storage.options._LIMITS", NO_RETRIES | {"timeout": "1s"})
    before = threading.active_count()
    with pytest.raises(ObjectError, match="no answer in time") as caught:
        objects.head("s3://mnist/x", 0.1)
    assert caught.value.transient
    until(lambda: threading.active_count() == before, "the thread's end")


def test_code_that_travels_takes_no_credentials_along(s3_endpoint, monkeypatch):
    """By value, with a task, as executors don't have the package."""
    make_bucket(s3_endpoint, "travels")
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": s3_endpoint}).items():
        monkeypatch.setenv(name, value)

    def work() -> bytes:
        with new_file("s3://travels/table", "part/x") as stream:
            stream.write(b"abc")
        return read_file("s3://travels/table", "part/x", 2)

    assert work() == b"ab"  # now there is something open, with its credentials
    cloudpickle.register_pickle_by_value(mnist_spark)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        code = cloudpickle.dumps(work)
    finally:
        cloudpickle.unregister_pickle_by_value(mnist_spark)
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert KEYS["AWS_ACCESS_KEY_ID"].encode() not in code
    bare = "import pickle, sys; sys.modules['mnist_spark'] = sys.modules['tests'] = None;"
    bare += "print(pickle.loads(sys.stdin.buffer.read())())"
    done = subprocess.run(
        [sys.executable, "-c", bare], input=code, capture_output=True, check=False
    )
    assert done.stdout == b"b'ab'\n", done.stderr


def test_a_forked_process_reads_and_writes(s3_endpoint, monkeypatch):
    """Spark's and multiprocessing's workers are forked, maybe after their parent has used it."""
    make_bucket(s3_endpoint, "forked")
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": s3_endpoint}).items():
        monkeypatch.setenv(name, value)

    def write(name: str) -> None:
        with objects.open_writer(f"s3://forked/{name}") as stream:
            stream.write(name.encode())
        assert objects.read(f"s3://forked/{name}", 0, 100) == name.encode()

    def waited(process: int) -> tuple[int, int] | None:
        found = os.waitpid(process, os.WNOHANG)
        return found if found[0] else None

    def child(name: str, then: list[str]) -> None:
        process = os.fork()
        if process:
            until(lambda: os.waitpid(process, os.WNOHANG) == (process, 0), name)
            return
        code = 1
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            write(name)
            if then:
                child(then[0], then[1:])
            code = 0
        os._exit(code)

    write("parent")
    child("child", ["grandchild"])
    child("another", [])
    write("parent-again")
    assert objects.names("s3://forked") == [
        "another",
        "child",
        "grandchild",
        "parent",
        "parent-again",
    ]
