"""Mirrors, the cache and what they have to survive, against a real server on 127.0.0.1."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import hashlib
import json
import os
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import fetch as download
from mnist_spark.download import limits
from mnist_spark.download.check import check_file
from mnist_spark.download.fetch import Fetched, fetch
from mnist_spark.download.inputs import Inputs, cache_folder
from mnist_spark.errors import CatalogError, DownloadError, UsageError
from tests.support.faults import (
    ALL_KNOWN,
    Fault,
    Server,
    mere_mortal,
    parse_dataset,
    read_only,
    refused_url,
    serve,
    write_dataset,
)

NOWHERE = "http://no-such-host.invalid/"
IMAGES = "train-images.gz"
LABELS = "train-labels.gz"
NAMES = [IMAGES, LABELS, "test-images.gz", "test-labels.gz"]
HINT = "--source or MNIST_SPARK_SOURCE"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_SECONDS", 0.02)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    write_dataset(folder, mirrors=[NOWHERE])
    return folder


@pytest.fixture
def server(published: Path) -> Iterator[Server]:
    with serve(published) as running:
        yield running


@pytest.fixture
def second(published: Path) -> Iterator[Server]:
    with serve(published) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def dataset(published: Path) -> Callable[..., catalog.Dataset]:
    def build(*mirrors: str, **how: object) -> catalog.Dataset:
        return parse_dataset(
            write_dataset(published, mirrors=list(mirrors), **how),  # type: ignore[arg-type]
            published,
        )

    return build


def get(
    dataset: catalog.Dataset, cache: Path, *, split: str = "train", source: str | None = None
) -> dict[str, Fetched]:
    return fetch(dataset, dataset.select(split), Inputs(source, cache))


def visible(cache: Path) -> list[str]:
    """All files in the cache but locks; temporary ones would show."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def complete(*names: str) -> list[str]:
    return sorted([*names, *(f"{name}.json" for name in names)])


# --- The plain cases ----------------------------------------------------------------------------


def test_downloads_all_files_once(server, dataset, cache, published):
    data = dataset(server.url)
    first = get(data, cache, split="all")
    assert list(first) == NAMES
    for name, got in first.items():
        assert got.path == cache / "tiny" / name
        assert got.path.read_bytes() == (published / name).read_bytes()
        assert got.downloaded == got.file.size == got.path.stat().st_size
        assert got.url == server.url + name
    assert visible(cache) == complete(*NAMES)
    assert set(server.requests.values()) == {1}

    again = get(data, cache, split="all")
    assert {got.downloaded for got in again.values()} == {0}
    assert {name: got.url for name, got in again.items()} == {n: server.url + n for n in NAMES}
    assert set(server.requests.values()) == {1}


def test_only_the_wanted_split(server, dataset, cache):
    assert list(get(dataset(server.url), cache, split="train")) == [IMAGES, LABELS]
    assert sorted(server.requests) == [IMAGES, LABELS]


def test_sidecar_keeps_what_a_refresh_needs(server, dataset, cache):
    server.faults[LABELS] = Fault(headers={"Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT"})
    got = get(dataset(server.url), cache)[LABELS]
    assert json.loads(got.path.with_name(f"{LABELS}.json").read_text()) == {
        "url": server.url + LABELS,
        "sha256": got.file.sha256,
        "etag": '"v1"',
        "last_modified": "Sun, 01 Nov 2026 00:00:00 GMT",
    }


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"url": 1}'])
def test_cached_file_without_a_good_sidecar_is_still_good(server, dataset, cache, text):
    path = get(dataset(server.url), cache)[LABELS].path
    sidecar = path.with_name(f"{LABELS}.json")
    sidecar.unlink() if text is None else sidecar.write_text(text)
    got = get(dataset(server.url), cache)[LABELS]
    assert (got.url, got.downloaded) == (path.as_uri(), 0)


def test_request_asks_for_the_bytes_as_published(server, dataset, cache):
    get(dataset(server.url), cache)
    assert {h["Accept-Encoding"] for h in server.headers} == {"identity"}


@pytest.mark.parametrize("known", [(), ("size",), ("md5",), ("sha256",), ALL_KNOWN])
def test_whatever_the_catalog_knows(server, second, dataset, cache, known):
    wrong = gzip.compress(b"x" * 340)
    server.faults[IMAGES] = Fault(body=wrong)
    data = dataset(server.url, second.url, known=known)
    assert get(data, cache)[IMAGES].url == second.url + IMAGES
    assert get(data, cache)[IMAGES].downloaded == 0


def test_uncompressed_published_files(published, tmp_path, cache):
    folder = tmp_path / "plain"
    toml = write_dataset(folder, mirrors=[NOWHERE], suffix="", known=())
    with serve(folder) as server:
        data = parse_dataset(toml, folder)
        got = get(data, cache, source=server.url)["train-images"]
        assert got.path.read_bytes() == (folder / "train-images").read_bytes()
        server.faults["test-images"] = Fault(body=b"short")
        with pytest.raises(DownloadError, match=r"size: expected 112 bytes, got 5 bytes"):
            get(data, cache, split="test", source=server.url)


# --- Fail-over ----------------------------------------------------------------------------------

FAULTS = {
    "404": (Fault(status=404), "HTTP 404 Not Found"),
    "503": (Fault(status=503), "HTTP 503 Service Unavailable"),
    "unknown status": (Fault(status=599), "HTTP 599"),
    "204": (Fault(status=204, body=b""), "HTTP 204 No Content"),
    "partial": (Fault(status=206), "HTTP 206 Partial Content"),
    "html": (
        Fault(body=b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"}),
        "got 19 bytes (an HTML page)",
    ),
    "empty": (Fault(body=b""), "got 0 bytes"),
    "wrong bytes": (Fault(body=b"\0" * 359), "SHA-256: expected"),
    "cut": (Fault(cut=100, ranges=False), "truncated: 100 of 359 bytes"),
    "cut, no length": (Fault(cut=100, length=-1), "got 100 bytes"),
    "longer than promised": (Fault(body=b"\0" * 10_000, length=-1), "more than 359 bytes"),
    "promises too much": (Fault(length=9_999_999), "Content-Length 9,999,999, at most 359"),
    "reset": (Fault(reset=True), "Remote end closed connection without response"),
    "encoded": (
        Fault(body=gzip.compress(b"\0" * 100), headers={"Content-Encoding": "gzip"}),
        "(Content-Encoding is set)",
    ),
    "redirect loop": (Fault(status=302, headers={"Location": "train-images.gz"}), "5 redirects"),
    "redirect to a file": (
        Fault(status=302, headers={"Location": "file:///etc/hosts"}),
        "to file:///",
    ),
    "hangs at once": (Fault(hang="head"), "no answer for 0.3 s"),
    "hangs halfway": (Fault(hang="body"), "no answer for 0.3 s"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_next_mirror_on_any_failure(server, second, dataset, cache, monkeypatch, case):
    monkeypatch.setattr(limits, "READ_SECONDS", 0.3)
    fault, reason = FAULTS[case]
    server.faults[IMAGES] = fault
    got = get(dataset(server.url, second.url), cache)
    assert got[IMAGES].url == second.url + IMAGES
    # From the second too, if the first had failed before.
    assert got[LABELS].url in (server.url + LABELS, second.url + LABELS)
    assert visible(cache) == complete(IMAGES, LABELS)

    shutil.rmtree(cache)
    with pytest.raises(DownloadError) as caught:
        get(dataset(server.url), cache)
    assert f"{server.url}{IMAGES}: " in str(caught.value)
    assert reason in str(caught.value)
    assert LABELS not in str(caught.value)
    assert HINT in str(caught.value)
    assert visible(cache) == complete(LABELS)


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        (NOWHERE, "no-such-host.invalid/: "),
        pytest.param(refused_url(), "Connection refused", id="refused"),
        ("https://127.0.0.1:1/", "Connection refused"),
        ("/no/such/folder", "/no/such/folder/: No such file"),
    ],
)
def test_next_mirror_if_there_is_none(second, dataset, cache, mirror, reason):
    assert get(dataset(mirror, second.url), cache)[IMAGES].url == second.url + IMAGES
    with pytest.raises(DownloadError) as caught:
        get(dataset(mirror), cache.with_name("other"))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mirror_that_failed_comes_last_for_the_following_files(
    server, second, dataset, cache, monkeypatch
):
    monkeypatch.setattr(download, "PARALLEL", 1)
    data = dataset(server.url, second.url)
    for name in NAMES:
        server.faults[name] = Fault(status=503)
    got = get(data, cache, split="all")
    assert {each.url.rpartition("/")[0] + "/" for each in got.values()} == {second.url}
    assert (server.total, second.total) == (1, 4)
    # Remembered for one call only.
    server.faults.clear()
    shutil.rmtree(cache)
    assert get(data, cache)[IMAGES].url == server.url + IMAGES


def test_mirrors_get_more_chances_when_each_had_one(server, second, dataset, cache):
    for each in (server, second):
        each.faults[IMAGES] = Fault(status=503, times=2)
    second.faults[LABELS] = server.faults[LABELS] = Fault(status=404)
    data = dataset(server.url, second.url)
    with pytest.raises(DownloadError, match=f"{LABELS}: HTTP 404"):
        get(data, cache)
    assert visible(cache) == complete(IMAGES)
    assert server.requests[IMAGES] + second.requests[IMAGES] == 4
    # What is not there won't be there a moment later.
    assert (server.requests[LABELS], second.requests[LABELS]) == (1, 1)


def test_retry_after_is_kept_while_another_mirror_is_asked(server, second, dataset, cache):
    server.faults[IMAGES] = [Fault(status=429, headers={"Retry-After": "1"})]
    second.faults[IMAGES] = Fault(status=404)
    start = time.monotonic()
    assert get(dataset(server.url, second.url), cache)[IMAGES].url == server.url + IMAGES
    assert time.monotonic() - start >= 1


def test_every_file_url_and_reason_in_one_line(server, second, dataset, cache):
    for name in NAMES:
        server.faults[name] = Fault(status=404)
    second.faults[NAMES[0]] = Fault(status=500)
    second.faults[NAMES[3]] = Fault(body=b"no")
    data = dataset(server.url, second.url)
    with pytest.raises(DownloadError) as caught:
        get(data, cache, split="all")
    assert caught.value.file == f"{NAMES[0]}, {NAMES[3]}"
    line, *details = caught.value.lines()
    assert line == (
        f"no mirror gave the files (dataset tiny, file {NAMES[0]}, {NAMES[3]})."
        f" Name a folder that has the files with {HINT}"
    )
    assert details == [
        f"{server.url}: HTTP 404 Not Found",
        f"{second.url}{NAMES[0]}: HTTP 500 Internal Server Error",
        f"{second.url}{NAMES[3]}: size: expected {data.splits[1].labels.size} bytes, got 2 bytes",
    ]
    assert "; ".join(details) in str(caught.value)
    assert visible(cache) == complete(NAMES[1], NAMES[2])


def test_files_that_share_a_reason_are_told_together(server, dataset, cache):
    for name in NAMES:
        server.faults[name] = Fault(status=404)
    server.faults[NAMES[2]] = Fault(status=410)
    with pytest.raises(DownloadError) as caught:
        get(dataset(server.url), cache, split="all")
    assert caught.value.lines() == [
        f"no mirror gave the files (dataset tiny). Name a folder that has the files with {HINT}",
        f"{server.url}: HTTP 404 Not Found ({NAMES[0]}, {NAMES[1]}, {NAMES[3]})",
        f"{server.url}{NAMES[2]}: HTTP 410 Gone",
    ]


def test_stored_encoding_is_not_undone(server, dataset, cache):
    # Blob stores keep a Content-Encoding beside a gzip file; a client that obeys unpacks it.
    server.faults[IMAGES] = Fault(headers={"Content-Encoding": "gzip"})
    assert get(dataset(server.url), cache)[IMAGES].downloaded


def test_redirect_is_followed(server, second, dataset, cache):
    server.faults[IMAGES] = Fault(status=302, headers={"Location": second.url + IMAGES})
    assert get(dataset(server.url), cache)[IMAGES].url == server.url + IMAGES
    assert second.requests[IMAGES] == 1


def test_unknown_size_is_bounded_too(server, dataset, cache):
    server.faults[IMAGES] = Fault(body=b"\0" * 100_000, length=-1)
    with pytest.raises(DownloadError, match=r"more than 1,360 bytes"):
        get(dataset(server.url, known=()), cache)


def test_secrets_stay_out_of_messages_and_records(server, dataset, cache):
    base = server.url.replace("http://", "http://user:s3cret@") + "?sig=t0ken"
    got = get(dataset(NOWHERE), cache, source=base)[IMAGES]
    assert got.url == server.url + IMAGES
    assert f"/{IMAGES}?sig=t0ken" in server.targets
    assert "Authorization" in server.headers[0]
    assert "s3cret" not in got.path.with_name(f"{IMAGES}.json").read_text()

    server.faults[IMAGES] = Fault(status=403)
    server.faults[LABELS] = Fault(reset=True)
    with pytest.raises(DownloadError) as caught:
        get(dataset(NOWHERE), cache.with_name("other"), source=base)
    with pytest.raises(DownloadError) as refused:
        get(dataset(NOWHERE), cache.with_name("other"), source="http://u:s3cret@127.0.0.1:1/?t0ken")
    for text in (str(caught.value), str(refused.value)):
        assert "s3cret" not in text
        assert "t0ken" not in text


def test_proxy_of_the_environment(server, dataset, cache, monkeypatch):
    monkeypatch.setenv("http_proxy", refused_url())
    with pytest.raises(DownloadError, match="proxy: Connection refused"):
        get(dataset(server.url), cache)


def test_tls_is_verified(published, dataset, cache, tmp_path, monkeypatch):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [openssl, *make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with serve(published, partial(context.wrap_socket, server_side=True)) as server:
        with pytest.raises(DownloadError, match=r"TLS: .*certificate"):
            get(dataset(server.url), cache)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
        assert get(dataset(server.url), cache)[IMAGES].url.startswith("https://")
        with serve(published) as plain:
            server.faults["test-images.gz"] = Fault(
                status=302, headers={"Location": plain.url + "test-images.gz"}
            )
            with pytest.raises(DownloadError, match="redirected from https to http://127"):
                get(dataset(server.url), cache, split="test")


# --- Folders and other sources ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["path", "url", "relative", "mirror", "mirror after a bad one"])
def test_folder_is_used_in_place(dataset, cache, published, monkeypatch, form):
    monkeypatch.chdir(published.parent)
    source = {"path": str(published), "url": published.as_uri(), "relative": "published"}.get(form)
    mirrors = [NOWHERE, "."] if form.endswith("bad one") else ["."]
    data = dataset(*mirrors)
    with read_only(published):
        got = get(data, cache, source=source)
    assert got[IMAGES] == Fetched(
        got[IMAGES].file, published / IMAGES, (published / IMAGES).as_uri(), 0
    )
    if len(mirrors) == 1:
        assert not cache.exists()


@pytest.mark.parametrize("known", [(), ("md5",), ALL_KNOWN])
def test_damaged_file_in_a_folder(dataset, cache, published, known):
    data = dataset(NOWHERE, known=known)
    damaged = bytearray((published / IMAGES).read_bytes())
    damaged[200] ^= 1
    (published / IMAGES).write_bytes(damaged)
    (published / LABELS).unlink()
    with pytest.raises(DownloadError) as caught:
        get(data, cache, source=str(published))
    assert f"{published}/{IMAGES}: " in str(caught.value)
    assert f"{published}/{LABELS}: No such file" in str(caught.value)
    assert (published / IMAGES).read_bytes() == damaged


@pytest.mark.parametrize(
    "source",
    [
        *("", "ftp://host/x", "file://host/x", "dbfs://host/x", "hdfs:///x"),
        *("http:///mnist/", "http://host:port/", "http://[::1/", "https://user:pa/ss@host/"),
    ],
)
def test_unsupported_source(dataset, cache, source):
    with pytest.raises(UsageError, match=r"expected a path, file:///…, dbfs:/…, http://…, "):
        get(dataset(NOWHERE), cache, source=source)
    assert not cache.exists()


def test_unsupported_source_keeps_secrets(dataset, cache):
    for source in ("https://user:pa/ss@host/", "ftp://user:pass@host/?ss@"):
        with pytest.raises(UsageError) as caught:
            get(dataset(NOWHERE), cache, source=source)
        assert "ss@" not in str(caught.value)


# --- The cache ----------------------------------------------------------------------------------


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("MNIST_SPARK_CACHE", raising=False)
    assert cache_folder().is_absolute()
    assert cache_folder().name == "mnist-spark"
    monkeypatch.setenv("MNIST_SPARK_CACHE", "~/elsewhere")
    assert cache_folder() == tmp_path / "home" / "elsewhere"
    assert cache_folder("here") == cache_folder(Path("here")) == tmp_path / "here"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="--cache or MNIST_SPARK_CACHE"):
        cache_folder("~no-such-user/x")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", ".hidden", "payloads", "a\nb", "C:x"]
)
def test_no_name_leaves_the_cache(server, dataset, cache, name):
    data = dataclasses.replace(dataset(server.url), name=name)
    with pytest.raises(CatalogError, match="name of dataset"):
        get(data, cache)
    assert not cache.exists()
    assert server.total == 0


def test_no_file_name_leaves_the_cache(server, dataset, cache):
    data = dataset(server.url)
    labels = dataclasses.replace(data.splits[0].labels, name="..")
    split = dataclasses.replace(data.splits[0], labels=labels)
    with pytest.raises(CatalogError, match="name of file"):
        fetch(data, [split], Inputs(None, cache))


@pytest.mark.parametrize("name", ["mnist", "Ünï 数字", "my set, v1.2+x=y@z"])
def test_names_that_are_fine(server, dataset, cache, name):
    data = dataclasses.replace(dataset(server.url), name=name)
    assert get(data, cache)[IMAGES].path == cache / name / IMAGES


@pytest.mark.parametrize("known", [(), ("md5",), ALL_KNOWN])
def test_damaged_cached_file_is_replaced(server, dataset, cache, published, known, caplog):
    data = dataset(server.url, known=known)
    path = get(data, cache)[IMAGES].path
    for byte in (200, 210):
        damaged = bytearray(path.read_bytes())
        damaged[byte] ^= 1
        path.write_bytes(damaged)
        got = get(data, cache)[IMAGES]
        assert got.downloaded == path.stat().st_size
        assert path.read_bytes() == (published / IMAGES).read_bytes()
        aside = f"{IMAGES}.bad-{hashlib.sha256(damaged).hexdigest()[:8]}"
        assert visible(cache) == sorted([*complete(IMAGES, LABELS), aside])
    assert "cached file is damaged" in caplog.text
    assert server.requests == {IMAGES: 3, LABELS: 1}


def test_without_a_digest_the_origin_decides(server, second, dataset, cache, published):
    data = dataset(server.url, known=())
    get(data, cache)
    assert get(data, cache, source=second.url)[IMAGES].url == second.url + IMAGES
    # With a digest, the same bytes are as good from anywhere.
    assert get(dataset(NOWHERE), cache, source=NOWHERE)[IMAGES].downloaded == 0
    # Nothing was damaged, so nothing is aside.
    assert visible(cache) == complete(IMAGES, LABELS)


def test_read_only_cache_with_good_files(server, dataset, cache):
    data = dataset(server.url)
    before = get(data, cache)
    for path in cache.rglob(".*.lock"):
        path.unlink()
    with read_only(cache):
        after = get(data, cache)
    assert {n: (g.path, g.url) for n, g in after.items()} == {
        n: (g.path, g.url) for n, g in before.items()
    }
    assert server.total == 2


def test_read_only_cache_that_lacks_a_file(server, dataset, cache):
    path = get(dataset(server.url), cache)[IMAGES].path
    for each in (path, *cache.rglob(".*.lock")):
        each.unlink()
    with read_only(cache), pytest.raises(DownloadError) as caught:
        get(dataset(server.url), cache)
    assert caught.value.file == str(path)
    assert "Permission denied" in str(caught.value)
    assert "--cache or MNIST_SPARK_CACHE" in str(caught.value)
    assert server.total == 2


def test_cached_file_that_cannot_be_read(server, dataset, cache):
    path = get(dataset(server.url), cache)[IMAGES].path
    path.chmod(0)
    with mere_mortal(), pytest.raises(DownloadError, match="Permission denied"):
        get(dataset(server.url), cache)


def test_cache_folder_is_a_file(server, dataset, cache):
    cache.write_text("")
    with pytest.raises(DownloadError, match="cannot use the cache"):
        get(dataset(server.url), cache)
    assert server.total == 0


def test_disk_full_while_writing(server, second, dataset, cache):
    data = dataset(server.url, second.url, rows=330)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(DownloadError) as caught:
            get(data, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.file == str(cache / "tiny" / IMAGES)
    assert "File too large" in str(caught.value)
    assert second.total == 0
    assert IMAGES not in visible(cache)
    assert not [name for name in visible(cache) if name.endswith(".part")]


def test_disk_full_at_the_end(server, second, dataset, cache, monkeypatch):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DownloadError, match=r"No space left on device. Choose .*--cache"):
        get(dataset(server.url, second.url), cache)
    assert not [n for n in visible(cache) if not n.endswith(".json")]
    assert second.total == 0


# --- Several processes, killed and interrupted ones ---------------------------------------------

CHILD = """
import sys
from pathlib import Path
from mnist_spark.catalog import dataset as catalog
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs, cache_folder
from mnist_spark.download.transfer import limits
limits.READ_SECONDS = 600
dataset = catalog.find(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
got = fetch(dataset, dataset.splits, Inputs(None, Path(sys.argv[2])))
print(sum(each.downloaded for each in got.values()))
"""


def start(published: Path, server: Server, cache: Path) -> subprocess.Popen[str]:
    toml = published.parent / "tiny.toml"
    toml.write_text(write_dataset(published.with_name("again"), mirrors=[server.url]))
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, toml, cache],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_share_a_cache(server, cache, published):
    for name in NAMES:
        server.faults[name] = Fault(pause=0.3)
    children = [start(published, server, cache) for _ in range(3)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        go(child)
    out = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], out
    assert sum(int(stdout) for stdout, _ in out) == sum(
        (published / name).stat().st_size for name in NAMES
    )
    # Not a terminal: no bars.
    assert [stderr for _, stderr in out] == ["", "", ""]
    assert set(server.requests.values()) == {1}
    assert visible(cache) == complete(*NAMES)


def test_killed_process_leaves_nothing_behind(server, dataset, cache, published):
    server.faults[IMAGES] = Fault(hang="body", times=1)
    child = start(published, server, cache)
    with child:
        go(child)
        until(lambda: server.requests[IMAGES] == 1)
        child.kill()
    assert any(name.endswith(".part") for name in visible(cache))
    get(dataset(server.url), cache, split="all")
    assert visible(cache) == complete(*NAMES)


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(server, dataset, cache, published):
    server.faults[IMAGES] = Fault(hang="body", times=1)
    server.faults[LABELS] = Fault(hang="head", times=1)
    child = start(published, server, cache)
    with child:
        go(child)
        until(lambda: server.total == 4)
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=60)  # of the child's time-out of 600 s
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    get(dataset(server.url), cache, split="all")
    assert visible(cache) == complete(*NAMES)


def test_progress_bar_on_demand_and_never_for_cached_files(server, dataset, cache, capsys):
    data = dataset(server.url)
    fetch(data, data.splits, Inputs(None, cache), progress=False)
    fetch(data, data.splits, Inputs(None, cache), progress=True)
    assert capsys.readouterr().err == ""
    shutil.rmtree(cache)
    fetch(data, data.splits, Inputs(None, cache), progress=True)
    assert IMAGES in capsys.readouterr().err


# --- The real files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_real_files(real_data, cache, name):
    dataset = catalog.find(name)
    with serve(real_data / name) as server:
        got = get(dataset, cache, split="test", source=server.url)
    assert {n: check_file(g.path, g.file) for n, g in got.items()} == {
        f.name: f.sha256 for f in dataset.splits[1].files
    }
    in_place = get(dataset, cache, split="all", source=str(real_data / name))
    assert {g.path.parent for g in in_place.values()} == {real_data / name}


def test_one_dataset_is_not_taken_for_another(real_data, cache):
    # Fashion-MNIST's host once served MNIST's digits.
    with pytest.raises(DownloadError, match="size: expected 26,421,880 bytes, got 9,912,422 bytes"):
        get(catalog.find("fashion-mnist"), cache, source=str(real_data / "mnist"))
