"""obstore as this process may use it: calls that can be given up, and life after a fork."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import TypeVar

from mnist_spark.errors import UsageError
from mnist_spark.storage.urls import redact, scheme

_EXTENSION = "obstore._obstore"
_MOMENT_SECONDS = 0.5
_Result = TypeVar("_Result")
_forked = False


def load_obstore(url: str, extra: str) -> None:
    """Imports ``obstore`` as this process may use it. ``url`` and ``extra`` are for the error.

    Raises:
        UsageError: it isn't installed.
    """
    global _forked  # noqa: PLW0603 - a process has forked, or it hasn't
    if _forked:
        _load_again()
        _forked = False
    require("obstore", url, extra)


def require(module: str, url: str, extra: str) -> None:
    """Imports a module of an extra; see :func:`load_obstore`."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{scheme(url)}:// needs {module.partition('.')[0]}",
            url=redact(url),
            got=f"no module {error.name}",
            hint=f"Install it with: pip install 'mnist-spark[{extra}]'",
        ) from error


def call(work: Callable[[], _Result], seconds: float | None = None) -> _Result:
    """What ``work`` returns or raises; Ctrl-C and the deadline end the wait for it.

    obstore's own calls see neither. Its asynchronous ones would, but now and then Python aborts
    at its exit if one was used. A call that is given up ends by its time-outs, in a thread that the
    process doesn't wait for.

    Raises:
        TimeoutError: it takes longer than so many seconds.
    """
    future = start(work)
    wait_for([future], seconds)
    return future.result(0)


def wait_for(futures: Collection[Future[_Result]], seconds: float | None = None) -> None:
    """Waits until all are done, one has failed, or so many seconds have passed. Ctrl-C ends it.

    A signal that comes just before a thread begins to wait is noticed only when it stops waiting.
    So this waits for moments.
    """
    end = math.inf if seconds is None else time.monotonic() + seconds
    with _ctrl_c():
        while (left := end - time.monotonic()) > 0:
            found = wait(futures, min(left, _MOMENT_SECONDS), FIRST_EXCEPTION)
            if not found.not_done or any(each.exception() for each in found.done):
                return


def start(work: Callable[[], _Result]) -> Future[_Result]:
    """Has a thread do the work, which ends with the process in whatever state it is.

    Not a ThreadPoolExecutor: Python waits for the executor's threads before it exits, up to the
    time-outs if a server hangs.
    """
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            future.set_exception(error)

    with _ctrl_c():
        threading.Thread(target=run, daemon=True).start()
    return future


@contextlib.contextmanager
def _ctrl_c() -> Iterator[None]:
    """Raises KeyboardInterrupt where Python makes a RuntimeError of a Ctrl-C.

    It does if the signal comes just after a wait has released its lock: the lock's ``with`` block
    ends and releases it once more.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def _note_fork() -> None:
    global _forked  # noqa: PLW0603
    _forked = _forked or _EXTENSION in sys.modules


os.register_at_fork(after_in_child=_note_fork)


def _load_again() -> None:
    """Gives a forked process an obstore of its own.

    The extension keeps one runtime per process, whose threads a fork leaves behind, so every call
    would hang. Loaded from another file it is another library, with a runtime of its own.

    Raises:
        UsageError: this system has no files in memory.
    """
    spec = importlib.util.find_spec(_EXTENSION)
    if spec is None or spec.origin is None or not hasattr(os, "memfd_create"):
        raise UsageError(
            "cloud storage was used before this process was forked",
            hint='Start processes with multiprocessing.get_context("spawn")',
        )
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
        del sys.modules[name]
    copy = os.memfd_create("obstore")
    with open(spec.origin, "rb") as library:
        while os.sendfile(copy, library.fileno(), None, 1 << 30):
            pass
    path = f"/proc/self/fd/{copy}"  # stays open: the loader may read it later
    loader = importlib.machinery.ExtensionFileLoader(_EXTENSION, path)
    module = importlib.util.module_from_spec(
        importlib.machinery.ModuleSpec(_EXTENSION, loader, origin=path)
    )
    sys.modules[_EXTENSION] = module
    loader.exec_module(module)
