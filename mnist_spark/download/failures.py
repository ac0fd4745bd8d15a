"""What the network did wrong, as reasons short enough for one line and without secrets.

What servers answer properly, status codes for example, is :mod:`~mnist_spark.download.http`'s;
cloud storage's failures are :mod:`mnist_spark.storage.filesystem`'s.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from http.client import IncompleteRead

import requests
import urllib3

from mnist_spark.download import limits
from mnist_spark.download.answers import UnusableError


@contextlib.contextmanager
def network_errors() -> Iterator[None]:
    """Makes an UnusableError of whatever requests, urllib3 and the system raise in the block."""
    # ValueError: what urllib3 and the idna codec make of some malformed URLs.
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        system = _system_error(error)
        lasting = isinstance(error, ValueError) or isinstance(system, ssl.SSLCertVerificationError)
        if isinstance(system, socket.gaierror):
            lasting = system.errno != socket.EAI_AGAIN
        raise UnusableError(_reason(error), transient=not lasting) from error


def _reason(error: BaseException) -> str:
    """Never the error's own text, which has the whole URL with its query in it."""
    exceptions = requests.exceptions
    match error:
        case exceptions.ConnectTimeout():
            return f"no connection within {limits.CONNECT_SECONDS:g} s"
        case exceptions.ReadTimeout() | urllib3.exceptions.ReadTimeoutError():
            return f"no answer for {limits.READ_SECONDS:g} s"
        case urllib3.exceptions.ProtocolError(args=(*_, IncompleteRead())):
            return "truncated: the connection ended early"
        case exceptions.ProxyError():
            what = "proxy: "
        case exceptions.SSLError() | urllib3.exceptions.SSLError():
            what = "TLS: "
        case _:
            what = ""
    # Else the name of its class: "InvalidURL", "ConnectionError".
    system = _system_error(error)
    return what + ((system.strerror or str(system)) if system else type(error).__name__)


def _system_error(error: BaseException) -> OSError | None:
    """The operating system's error at the bottom of a chain of errors, if it has a message."""
    inner: list[object] = [error.__cause__ or error.__context__, getattr(error, "reason", None)]
    for below in (*inner, *error.args):
        if isinstance(below, BaseException) and (found := _system_error(below)):
            return found
    # requests' errors are OSErrors too, but only the system's have a message of their own.
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return error if error.strerror or str(error) else None
    return None
