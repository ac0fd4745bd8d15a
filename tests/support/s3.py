"""A server of S3 within the test's process: quicker to start than one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import make_bucket


@pytest.fixture(scope="session")
def s3_here() -> Iterator[str]:
    """Its address."""
    pytest.importorskip("moto", reason="needs moto")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_here: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of an empty bucket, which the environment gives access to."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_here)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = "".join(letter for letter in tmp_path.name.lower() if letter.isalnum())[-40:]
    make_bucket(s3_here, f"b-{name}")
    return f"s3://b-{name}"
