"""An HTTP proxy before an object store that loses answers, or makes some up.

It is a process of its own: delta-rs holds Python's global lock while it waits for some answers.
As a program it takes the port to lead to, prints its own, and then does as it is told: a line of
JSON in, one out.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.processes import PROJECT

BODY = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>Tested</Code></Error>'


@dataclass(frozen=True)
class Fault:
    """What becomes of some requests.

    Attributes:
        pattern: regular expression of ``METHOD path?query``, searched.
        status: what is answered; None: the connection breaks instead.
        done: whether the store gets the request all the same.
        times: so many requests.
        then: pattern of the requests that meet the same, once one of ``pattern`` has.
        hold: whether the first such request waits for :meth:`Proxy.go_on`.
    """

    pattern: str
    status: int | None
    done: bool
    times: int = 1
    then: str | None = None
    hold: bool = False


class Proxy:
    """A running one, as its user sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port: int = self._answer()

    def put(self, *faults: Fault) -> None:
        """From now on these faults are in force, or none."""
        self._tell(do="put", faults=[asdict(fault) for fault in faults])

    def hits(self) -> list[str]:
        """The requests that have met a fault."""
        return self._tell(do="hits")

    def seen(self) -> list[str]:
        """All requests since the last :meth:`put`."""
        return self._tell(do="seen")

    def wait_held(self) -> None:
        """Until a request waits."""
        self._tell(do="wait")

    def go_on(self) -> None:
        """Lets it go."""
        self._tell(do="go")

    def _tell(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextlib.contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    """Leads to a port on this machine."""
    command = [sys.executable, "-m", "tests.support.proxy", str(target)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=PROJECT) as process:
        try:
            yield Proxy(process)
        finally:
            process.kill()


class State:
    """What the process has been told, and what it has seen."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held, self.free = threading.Event(), threading.Event()
        self.put([])

    def put(self, faults: list[dict[str, Any]]) -> None:
        with self.lock:
            self.faults = [Fault(**fault) for fault in faults]
            self.met = [0] * len(faults)
            self.hits: list[str] = []
            self.seen: list[str] = []
            self.held.clear()
            self.free.clear()

    def take(self, request: str) -> Fault | None:
        """The fault that this request meets."""
        with self.lock:
            self.seen.append(request)
            for number, fault in enumerate(self.faults):
                met = self.met[number]
                pattern = fault.then if met and fault.then is not None else fault.pattern
                if met < fault.times and re.search(pattern, request):
                    self.met[number] += 1
                    self.hits.append(request)
                    break
            else:
                return None
        if fault.hold and not met:
            self.held.set()
            self.free.wait()
        return fault


def serve(target: int, state: State) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else a body waits 40 ms for the client to acknowledge its headers.
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:  # the client has gone
                self.close_connection = True

        def answer_request(self) -> None:
            fault = state.take(f"{self.command} {self.path}")
            body = self._body()
            status, content = 0, b""
            headers: list[tuple[str, str]] = []
            if fault is None or fault.done:
                status, headers, content = self._forward(body)
            if fault is not None:
                if fault.status is None:
                    self.close_connection = True
                    return
                status, headers, content = fault.status, [("Content-Type", "text/xml")], BODY
            self.send_response_only(status)
            size = str(len(content))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    size = value
                elif name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", size)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer_request  # noqa: N815

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(chunks)

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", target)) as store:
                store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in ("transfer-encoding", "content-length", "expect"):
                        store.putheader(name, value)
                if body or self.command in ("PUT", "POST"):
                    store.putheader("Content-Length", str(len(body)))
                store.endheaders(body)
                answer = store.getresponse()
                return answer.status, answer.getheaders(), answer.read()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main(target: str) -> None:
    state = State()
    print(serve(int(target), state).server_port, flush=True)
    for line in sys.stdin:
        answer: Any = None
        match json.loads(line):
            case {"do": "put", "faults": faults}:
                state.put(faults)
            case {"do": "wait"}:
                state.held.wait()
            case {"do": "go"}:
                state.free.set()
            case {"do": ("hits" | "seen") as name}:
                answer = getattr(state, name)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
