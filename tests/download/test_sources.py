"""Where files are found: kinds of sources, and names other than the published ones."""

from __future__ import annotations

import dataclasses
import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import payload
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs, parse_source
from mnist_spark.errors import DownloadError, UsageError
from mnist_spark.storage.options import locate
from mnist_spark.storage.stores import check_url
from mnist_spark.storage.urls import is_cloud, redact
from tests.support.faults import Fault, parse_dataset, serve, write_dataset

NOWHERE = "http://no-such-host.invalid/"
IMAGES = "train-images-idx3-ubyte"


def tiny(folder: Path, known: tuple[str, ...] = ("size", "sha256", "payload_sha256")):
    """A dataset whose files have MNIST's names, and its files in ``folder``."""
    toml = write_dataset(folder, name="fashion-mnist", mirrors=[NOWHERE], known=known)
    for path in list(folder.iterdir()):
        kind = "idx3" if "images" in path.name else "idx1"
        new = path.name.replace(".gz", f"-{kind}-ubyte.gz")
        path.rename(folder / new)
        toml = toml.replace(f'"{path.name}"', f'"{new}"')
    toml = toml.replace('title = "x"', 'title = "Fashion-MNIST"')
    return parse_dataset(toml, folder)


@pytest.fixture
def published(tmp_path):
    return tmp_path / "published"


@pytest.fixture
def dataset(published):
    return tiny(published)


def get(dataset, source, cache):
    return fetch(dataset, dataset.select("train"), Inputs(str(source), cache))


LAYOUTS = {
    "as published": ("{name}.gz", True),
    "uncompressed": ("{name}", False),
    "dotted": ("{dotted}", False),
    "dotted, gzip": ("{dotted}.gz", True),
    "torchvision": ("FashionMNIST/raw/{name}", False),
    "torchvision, gzip": ("FashionMNIST/raw/{name}.gz", True),
    "raw": ("raw/{name}", False),
    "a folder per dataset": ("fashion-mnist/{name}.gz", True),
}


def lay_out(published: Path, root: Path, layout: str) -> None:
    form, gzipped = LAYOUTS[layout]
    for path in published.iterdir():
        name = path.name.removesuffix(".gz")
        new = root / form.format(name=name, dotted=name.replace("-idx", ".idx"))
        new.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        new.write_bytes(data if gzipped else gzip.decompress(data))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["folder", "URL"])
def test_layouts(published, dataset, tmp_path, layout, kind):
    root, cache = tmp_path / "root", tmp_path / "cache"
    lay_out(published, root, layout)
    gzipped = LAYOUTS[layout][1]
    if kind == "folder":
        got = get(dataset, root, cache)
        assert not cache.exists()
    else:
        with serve(root, tree=True) as server:
            got = get(dataset, server.url, cache)
            asked = server.total
            assert {each.downloaded for each in get(dataset, server.url, cache).values()} == {0}
            assert server.total == asked
    # By the names that the caller knows.
    assert list(got) == [file.name for file in dataset.splits[0].files]
    assert {each.file.gzipped for each in got.values()} == {gzipped}
    unpacked = payload.unpack(got[f"{IMAGES}.gz"], cache)
    assert unpacked.sha256 == dataset.splits[0].images.payload_sha256
    assert (unpacked.path == got[f"{IMAGES}.gz"].path) is not gzipped


def test_order(published, dataset, tmp_path):
    root = tmp_path / "root"
    found = []
    for layout in reversed(list(LAYOUTS)):
        lay_out(published, root, layout)
        found.append(get(dataset, root, tmp_path)[f"{IMAGES}.gz"].path.relative_to(root).as_posix())
    dotted = IMAGES.replace("-idx", ".idx")
    expected = [
        f"fashion-mnist/{IMAGES}.gz",
        f"raw/{IMAGES}",
        *(f"FashionMNIST/raw/{IMAGES}{end}" for end in (".gz", ".gz")),
        *(f"{dotted}{end}" for end in (".gz", ".gz")),
        IMAGES,
        f"{IMAGES}.gz",
    ]
    assert found == expected


def test_wrong_uncompressed_file(published, dataset, tmp_path):
    lay_out(published, root := tmp_path / "root", "uncompressed")
    data = bytearray((root / IMAGES).read_bytes())
    data[-1] ^= 1
    (root / IMAGES).write_bytes(data)
    with serve(root, tree=True) as server:
        for source in (root, server.url):
            with pytest.raises(DownloadError, match=f"{IMAGES}.gz: SHA-256: expected"):
                get(dataset, source, tmp_path / "cache")
        (root / IMAGES).write_bytes(data[:-1])
        with pytest.raises(DownloadError, match="size: expected 336 bytes, got 335 bytes"):
            get(dataset, server.url, tmp_path / "cache")
    assert not (tmp_path / "cache" / "fashion-mnist" / IMAGES).exists()


def test_uncompressed_is_refused_without_a_digest_to_check_it(published, tmp_path):
    # As for KMNIST: the gzip's digest is published, the payload's isn't.
    dataset = tiny(published, known=("sha256",))
    lay_out(published, root := tmp_path / "root", "uncompressed")
    with pytest.raises(DownloadError, match="No such file"):
        get(dataset, root, tmp_path)
    assert (
        get(tiny(tmp_path / "again", known=()), root, tmp_path)[f"{IMAGES}.gz"].path
        == root / IMAGES
    )


@pytest.mark.parametrize("known", [("sha256",), ("payload_sha256",)])
def test_published_uncompressed_and_found_gzipped(tmp_path, known):
    toml = write_dataset(tmp_path / "plain", mirrors=[NOWHERE], suffix="", known=known)
    dataset = parse_dataset(toml, tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    for path in (tmp_path / "plain").iterdir():
        (root / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    with serve(root) as server:
        for source in (root, server.url):
            got = get(dataset, source, tmp_path / "cache")["train-images"]
            assert got.path.name == "train-images.gz"
            unpacked = payload.unpack(got, tmp_path / "cache")
            assert unpacked.path.read_bytes() == (tmp_path / "plain/train-images").read_bytes()
        wrong = bytearray(gzip.decompress((root / "train-images.gz").read_bytes()))
        wrong[-1] ^= 1
        server.faults["train-images.gz"] = Fault(body=gzip.compress(wrong))
        shutil.rmtree(tmp_path / "cache")
        with pytest.raises(DownloadError, match="SHA-256 of the payload: expected"):
            get(dataset, server.url, tmp_path / "cache")


def test_mirrors_of_the_catalog_are_asked_for_published_names_only(published, dataset, tmp_path):
    lay_out(published, root := tmp_path / "root", "uncompressed")
    with serve(root) as server:
        with pytest.raises(DownloadError, match="HTTP 404"):
            fetch(
                dataclasses.replace(dataset, mirrors=(server.url,)),
                dataset.splits,
                Inputs(None, tmp_path),
            )
        assert server.total == 4


def test_signed_url_keeps_its_query(published, dataset, tmp_path):
    with serve(published) as server:
        get(dataset, f"{server.url}container/?sv=1&sig=a%2Fb", tmp_path)
        assert f"/container/{IMAGES}.gz?sv=1&sig=a%2Fb" in server.targets
        toml = write_dataset(tmp_path / "other", mirrors=[f"{server.url}c?sig=x"])
        assert parse_dataset(toml, tmp_path).mirrors == (f"{server.url}c/?sig=x",)


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("/Volumes/main/default/mnist", "/Volumes/main/default/mnist"),
        ("dbfs:/Volumes/main/default/mnist", "/Volumes/main/default/mnist"),
        ("dbfs:/mnt/mnist/", "/dbfs/mnt/mnist"),
        ("dbfs:///mnt/mnist", "/dbfs/mnt/mnist"),
        ("/dbfs/mnt/mnist", "/dbfs/mnt/mnist"),
        ("file:/data/my%20mnist", "/data/my mnist"),
        ("file:///data/mnist", "/data/mnist"),
        ("file://localhost/data/mnist", "/data/mnist"),
    ],
)
def test_folders(dataset, tmp_path, source, folder):
    assert parse_source(source) == Path(folder)
    with pytest.raises(DownloadError) as caught:
        get(dataset, source, tmp_path)
    assert f"{folder}/: No such file" in str(caught.value)


# --- Cloud storage ------------------------------------------------------------------------------


@pytest.fixture
def _no_credentials(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("AZURE_", "AWS_", "GOOGLE_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("_no_credentials")
@pytest.mark.parametrize("scheme", ["abfss", "abfs", "wasbs", "wasb", "az"])
def test_azure_urls(scheme):
    host = "account.dfs.core.windows.net"
    place = locate(f"{scheme}://box@{host}/a b/c.gz?sv=1&sig=s%2Fe")
    assert (place.bucket, place.key) == ("box", "a b/c.gz")
    assert place.options["azure_storage_account_name"] == "account"
    assert place.options["azure_storage_endpoint"] == "https://account.blob.core.windows.net"
    assert place.options["azure_storage_sas_token"] == "sv=1&sig=s%2Fe"
    assert "sig" not in repr(place)
    anonymous = locate(f"{scheme}://box@{host}").options
    assert anonymous["azure_skip_signature"] == "true"
    assert "azure_storage_sas_token" not in anonymous


@pytest.mark.usefixtures("_no_credentials")
def test_azure_identity_is_asked_if_the_environment_has_one(monkeypatch):
    # That it is asked: tests/storage/test_credentials.py.
    url = "abfss://box@account.dfs.core.windows.net/"
    monkeypatch.setenv("AZURE_CLIENT_ID", "00000000-0000-0000-0000-000000000000")
    assert "azure_skip_signature" not in locate(url).options


@pytest.mark.usefixtures("_no_credentials")
@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("az://box/x", "URL without an account"),
        ("az://", "not a URL of Azure's storage"),
        ("abfss://box@account.dfs.core.example.com/x?sig=SECRET", "not a URL of Azure's storage"),
        ("abfss://box:SECRET@account.dfs.core.windows.net/x", "isn't valid"),
        ("gs:///x", "URL has no bucket"),
        ("ftp://u:SECRET@host/x", "expected one of az://, abfs://"),
        ("/a/folder", "expected one of az://"),
    ],
)
def test_urls_that_are_no_good(dataset, tmp_path, url, what):
    with pytest.raises(UsageError, match=what) as caught:
        check_url(url)
    assert "SECRET" not in str(caught.value)
    if is_cloud(url):
        with pytest.raises(UsageError, match=what):
            get(dataset, url, tmp_path)


@pytest.mark.parametrize(
    ("url", "backend", "extra"),
    [
        ("s3://b/k", "obstore", "s3"),
        ("s3://b/k", "boto3", "s3"),
        ("gs://b/k", "obstore", "gcs"),
        ("az://c/x", "obstore", "azure"),
    ],
)
def test_missing_extra(monkeypatch, url, backend, extra):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setitem(sys.modules, backend, None)  # what import takes for "not there"
    with pytest.raises(UsageError) as caught:
        check_url(url)
    assert f"needs {backend} " in str(caught.value)
    assert f"pip install 'mnist-spark[{extra}]'" in str(caught.value)


@pytest.mark.usefixtures("_no_credentials")
def test_another_account_than_the_environments(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sig=SECRET")
    # That it is sent, and a renewed one too: tests/storage/test_credentials.py.
    assert "azure_skip_signature" not in locate("abfss://box@mine.dfs.core.windows.net/").options
    with pytest.raises(UsageError, match="another account's"):
        check_url("abfss://box@theirs.dfs.core.windows.net/")


def test_redact():
    cases = {
        "https://u:p@host:1/a?sig=x#f": "https://host:1/a",
        "https://user:pa/ss@host/": "https://(malformed)",
        "abfss://box@a.dfs.core.windows.net/x?sig=y": "abfss://box@a.dfs.core.windows.net/x",
        "abfss://k:ey@a.dfs.core.windows.net/x": "abfss://a.dfs.core.windows.net/x",
        "s3://key:secret@bucket/x": "s3://bucket/x",
        "http://[::1/": "http://(malformed)",
    }
    assert {url: redact(url) for url in cases} == cases


def test_importing_storage_is_light():
    # Executors import it; what only a URL of cloud storage needs must not come with it.
    code = "import sys, mnist_spark.storage.files; "
    code += "print([m for m in ('requests', 'obstore', 'boto3', "
    code += "'mnist_spark.download.transfer', 'mnist_spark.download.cache') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_torchvisions_folder_of_the_real_files(real_data, tmp_path, name):
    data = catalog.find(name)
    raw = tmp_path / {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name] / "raw"
    raw.mkdir(parents=True)
    for path in (real_data / name).glob("t10k*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    got = fetch(data, data.select("test"), Inputs(str(tmp_path), tmp_path / "cache"))
    assert {each.path.parent for each in got.values()} == {raw}
