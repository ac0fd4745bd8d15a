"""Retries, resuming, limits, redirects, proxies and probes of single transfers."""

from __future__ import annotations

import contextlib
import email.utils
import io
import logging
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from mnist_spark.download import cache as caching
from mnist_spark.download import limits, transfer
from mnist_spark.download.transfer import Probe, UnusableError, probe
from tests.support.faults import Fault, Server, refused_url, serve

DATA = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_SECONDS", 0.01)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for each in (name, name.upper()):
            monkeypatch.delenv(each, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "published"
    made.mkdir()
    (made / "f").write_bytes(DATA)
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serve(folder) as running:
        yield running


def get(url: str, limit: int = len(DATA), **how: object) -> bytes:
    stream = io.BytesIO()
    moved = []
    how = {"poll": lambda: None, "advance": moved.append} | how
    answer = transfer.transfer(url, stream, limit, **how)  # type: ignore[arg-type]
    assert answer.size == len(stream.getvalue())
    if moved:
        assert sum(moved) == answer.size
    return stream.getvalue()


def ranges(server: Server) -> list[str | None]:
    return [headers.get("Range") for headers in server.headers]


# --- Retries and resuming -----------------------------------------------------------------------


def test_goes_on_where_it_was_cut(server):
    server.faults["f"] = [Fault(cut=1000), Fault(cut=1000), Fault(cut=1000)]
    assert get(server.url + "f") == DATA
    assert ranges(server) == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]
    assert {headers.get("If-Range") for headers in server.headers[1:]} == {'"v1"'}


def test_more_cuts_than_attempts(server):
    server.faults["f"] = [Fault(cut=100)] * 30
    assert get(server.url + "f") == DATA
    assert len(server.headers) == 31


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_starts_over_without_a_strong_etag(server, etag):
    server.faults["f"] = [Fault(cut=1000, headers={"ETag": etag})]
    assert get(server.url + "f") == DATA
    assert ranges(server) == [None, None]


def test_a_changed_file_is_not_mixed(server, folder):
    old = bytes(len(DATA))
    server.faults["f"] = [Fault(cut=1000, body=old, headers={"ETag": '"v0"'})]
    assert get(server.url + "f") == DATA
    assert ranges(server) == [None, "bytes=1000-"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 999-10239/10240"},
        {"Content-Range": "bytes 1000-10239/99999"},
        {"Content-Range": None},
        {"Content-Range": "bytes 1000-10239/10240", "ETag": '"v2"'},
    ],
)
def test_a_range_that_does_not_fit_is_not_taken(server, headers):
    bad = Fault(206, body=b"x" * 9240, headers=headers)
    server.faults["f"] = [Fault(cut=1000), bad]
    assert get(server.url + "f") == DATA
    assert ranges(server) == [None, "bytes=1000-", None]


def test_attempts(server):
    server.faults["f"] = Fault(503)
    with pytest.raises(UnusableError, match="HTTP 503") as caught:
        get(server.url + "f")
    assert caught.value.transient
    assert len(server.headers) == limits.ATTEMPTS
    with pytest.raises(UnusableError, match="HTTP 503"):
        get(server.url + "f", attempts=1)
    assert len(server.headers) == limits.ATTEMPTS + 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_not_tried_again(server, status):
    server.faults["f"] = Fault(status)
    with pytest.raises(UnusableError, match=f"HTTP {status}") as caught:
        get(server.url + "f")
    assert len(server.headers) == 1
    assert caught.value.missing == (status in (404, 410))


def test_retry_after_is_waited_for(server):
    for form in ("seconds", "date"):
        when = datetime.now(UTC) + timedelta(seconds=2)
        value = "1" if form == "seconds" else email.utils.format_datetime(when, usegmt=True)
        server.requests.clear()
        server.faults["f"] = [Fault(503, headers={"Retry-After": value})]
        start = time.monotonic()
        assert get(server.url + "f") == DATA
        assert time.monotonic() - start > 0.5


@pytest.mark.parametrize("value", ["-1", "soon", "", "Sun, 01 Nov 2015 00:00:00 GMT"])
def test_retry_after_that_says_nothing(server, value):
    server.faults["f"] = [Fault(503, headers={"Retry-After": value})]
    assert get(server.url + "f") == DATA


def test_pauses_grow_and_are_random(server, monkeypatch):
    pauses = []
    monkeypatch.setattr(transfer, "sleep", lambda seconds, _poll: pauses.append(seconds))
    monkeypatch.setattr(limits, "BACKOFF_SECONDS", 1.0)
    monkeypatch.setattr(limits, "BACKOFF_MAX_SECONDS", 8.0)
    monkeypatch.setattr(limits, "ATTEMPTS", 9)
    server.faults["f"] = Fault(500)
    for _ in range(20):
        with pytest.raises(UnusableError):
            get(server.url + "f")
    longest = [max(pauses[i::8]) for i in range(8)]
    assert all(p <= limit for p, limit in zip(longest, [1, 2, 4, 8, 8, 8, 8, 8], strict=True))
    assert longest[3] > 2  # 20 draws from 0 to 8
    assert len(set(pauses)) == len(pauses)


def test_a_pause_is_interrupted(server):
    server.faults["f"] = Fault(503, headers={"Retry-After": "50"})
    polls = iter(range(3))
    start = time.monotonic()

    def poll() -> None:
        if next(polls, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server.url + "f", poll=poll)
    assert time.monotonic() - start < 25


def test_total_limit(server, monkeypatch):
    monkeypatch.setattr(limits, "TOTAL_SECONDS", 0.5)
    for place in ("head", "body"):
        server.faults["f"] = Fault(trickle=place)
        with pytest.raises(UnusableError, match=r"not complete after 0.8"):
            get(server.url + "f")


def test_total_limit_without_a_length(server, monkeypatch):
    # The end that the limit makes isn't the body's.
    monkeypatch.setattr(limits, "TOTAL_SECONDS", 0.5)
    server.faults["f"] = Fault(trickle="body", length=-1)
    with pytest.raises(UnusableError, match=r"not complete after 0.8"):
        get(server.url + "f")


def test_a_disk_that_fails_is_no_network_error(server):
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        transfer.transfer(server.url + "f", Full(), len(DATA), lambda: None, lambda _: None)
    assert len(server.headers) == 1


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
RAW = {
    "nothing": b"",
    "zeros": bytes(1000),
    "no end of headers": OK + b"X: y",
    "another protocol": b"220 mail.example.com ESMTP\r\n",
    "a length of 5,000 digits": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a negative length": OK + b"Content-Length: -1\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length and half of it": OK + b"Content-Length: 8\r\n\r\nhalf",
    "a header of 100 KB": OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    "200 headers": OK + b"X: y\r\n" * 200 + b"\r\n",
    "half a chunk": CHUNKED + b"8\r\nhalf",
    "a chunk without a size": CHUNKED + b"zz\r\n",
    "a chunk of 16 EiB": CHUNKED + b"FFFFFFFFFFFFFFFF\r\nx",
    "a chunk of a negative size": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "redirect to nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n",
    "redirect to a name that isn't one": b"HTTP/1.1 302 Found\r\nLocation: http://\xff..x/\r\n\r\n",
    "redirect without an aim": b"HTTP/1.1 302 Found\r\n\r\n",
    "not asked for a part": b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/2\r\n\r\nxx",
    "continue for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("case", RAW)
def test_answers_that_are_not_http(case, monkeypatch):
    monkeypatch.setattr(limits, "TOTAL_SECONDS", 5.0)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve_raw() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.recv(65536)
                    client.sendall(RAW[case])
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1)

    thread = threading.Thread(target=serve_raw)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/f"
    try:
        with pytest.raises(UnusableError) as caught:
            get(url)
        assert str(caught.value)
        assert probe(url, '"v1"').status in ("unknown", "changed")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


# --- Redirects and secrets ----------------------------------------------------------------------


def test_credentials_stay_with_their_host(folder):
    with serve(folder) as server, serve(folder) as other:
        place = server.url.replace("http://", "http://user:pass@")
        server.faults["a"] = Fault(302, b"", headers={"Location": "/f"})
        server.faults["b"] = Fault(302, b"", {"Location": other.url + "f"})
        assert get(place + "a?sig=1") == get(place + "b?sig=2") == DATA
        assert ["Authorization" in headers for headers in server.headers] == [True] * 3
        assert "Authorization" not in other.headers[0]
        assert other.targets == ["/f"]


def test_no_query_in_the_log_of_urllib3(server, caplog):
    caplog.set_level(logging.DEBUG)
    get(server.url + "f?sv=1&sig=SECRET")
    assert "GET /f HTTP/1.1" in caplog.text
    assert "SECRET" not in caplog.text


# --- Proxies ------------------------------------------------------------------------------------


class Proxy(BaseHTTPRequestHandler):
    """A real forward proxy: requests with absolute URLs, and CONNECT."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(f"GET {self.path}")
        request = Request(self.path, headers={"Range": self.headers.get("Range", "bytes=0-")})
        with build_opener(ProxyHandler({})).open(request) as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.seen.append(f"CONNECT {self.path}")
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as server:
            self.send_response(200)
            self.end_headers()
            pair = [self.connection, server]
            while ready := select.select(pair, [], [], 10)[0]:
                for each in ready:
                    if not (data := each.recv(65536)):
                        return
                    pair[pair[0] is each].sendall(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Proxy,), {"seen": []})
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}", handler.seen
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    )
    command = [openssl, *make.split(), "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


def test_http_proxy(server, proxy, monkeypatch):
    address, seen = proxy
    monkeypatch.setenv("http_proxy", address)
    assert get(server.url + "f") == DATA
    assert seen == [f"GET {server.url}f"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(server.url + "f") == DATA
    assert len(seen) == 1


def test_https_through_a_proxy_with_a_certificate_of_ones_own(
    folder, proxy, certificate, monkeypatch
):
    key, cert = certificate
    address, seen = proxy
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    monkeypatch.setenv("https_proxy", address)
    with serve(folder, partial(context.wrap_socket, server_side=True)) as server:
        with pytest.raises(UnusableError, match=r"TLS: .*certificate") as caught:
            get(server.url + "f")
        assert not caught.value.transient
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
        server.faults["f"] = [Fault(cut=500), Fault(cut=500)]
        assert get(server.url + "f") == DATA
    assert set(seen) == {f"CONNECT {urlsplit(server.url).netloc}"}


# --- Probes -------------------------------------------------------------------------------------


def test_probe(server):
    date = "Sun, 01 Nov 2026 00:00:00 GMT"
    server.faults["f"] = Fault(headers={"Last-Modified": date})
    url = server.url + "f"
    assert probe(url) == Probe("unknown", '"v1"', date, "no ETag or Last-Modified to compare")
    assert probe(url, '"v1"', date).status == "unchanged"
    assert probe(url, 'W/"v1"').status == "unchanged"
    assert probe(url, None, date).status == "unchanged"
    changed = probe(url, '"v0"', date)
    assert (changed.status, changed.etag) == ("changed", '"v1"')
    assert set(server.methods) == {"HEAD"}


def test_probe_without_head(folder):
    with serve(folder) as server:
        server.faults["f"] = [Fault(405)]
        assert probe(server.url + "f", '"v0"').status == "changed"
        assert server.methods == ["HEAD", "GET"]
        server.faults["f"] = Fault(endless=True)
        assert probe(server.url + "f", '"v0"').status == "changed"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault(404), "HTTP 404 Not Found"), (Fault(500), "HTTP 500"), (Fault(hang="head"), "no answ")],
)
def test_probe_of_what_is_not_there(server, monkeypatch, fault, reason):
    monkeypatch.setattr(limits, "READ_SECONDS", 0.3)
    server.faults["f"] = fault
    answer = probe(server.url + "f?sig=SECRET", '"v1"')
    assert answer.status == "unknown"
    assert answer.reason.startswith(reason)
    assert probe(refused_url() + "f", '"v1"').reason == "Connection refused"
    assert probe("az:///", '"v1"').status == "unknown"


# --- Waiting for the cache's lock ----------------------------------------------------------------


def test_waiting_for_a_lock_is_told_once_and_ends(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(caching, "LOCK_NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(caching, "_LOCK_POLL_SECONDS", 0.02)
    path = tmp_path / "file"
    polls = iter(range(20))

    def poll() -> None:
        if next(polls, None) is None:
            raise KeyboardInterrupt

    with caching.locked(path):
        with pytest.raises(KeyboardInterrupt), caching.locked(path, poll):
            pass
        assert [r.message for r in caplog.records] == [
            f"waiting for another process that is busy with {path}"
        ]
    with caching.locked(path, poll):
        pass
