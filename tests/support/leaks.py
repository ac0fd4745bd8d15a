"""Secrets in the source's URL and in the environment of an ingest, and where they turn up."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

# As a SAS token's signature: base64 of 32 bytes, quoted in a URL. None has a word such as "token"
# in it: Spark hides values that have, and these must be hidden for what they are.
SIGNATURE = "kW8xQz+7Lr/0vTfYc2mHjN5bDpUeAoXiRgS1w9ZtBqE="
PASSWORD = "hunter2-Xy7"
ENVIRONMENT = "Vb3nMk9-Lq4"
SECRETS = [SIGNATURE, quote(SIGNATURE, safe=""), PASSWORD, ENVIRONMENT]


def signed(url: str) -> str:
    host = url.removeprefix("http://").rstrip("/")
    query = f"sv=2026-01-01&sr=c&sp=rl&sig={quote(SIGNATURE, safe='')}"
    return f"http://someone:{PASSWORD}@{host}/mnist?{query}"


def environment() -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MNIST_SPARK", "PYSPARK"))}
    return clean | {
        "AZURE_STORAGE_SAS_TOKEN": f"sv=1&sig={ENVIRONMENT}",
        # Spark makes settings of Hadoop of the two.
        "AWS_ACCESS_KEY_ID": "AKIATESTSOFSECRETS00",
        "AWS_SECRET_ACCESS_KEY": ENVIRONMENT,
        "PYSPARK_PYTHON": sys.executable,
    }


def leaks(*places: Path | str) -> list[str]:
    """Which secrets are in which texts or files, names of files included."""
    found = []
    for place in places:
        if isinstance(place, str):
            found += [f"output: {secret}" for secret in SECRETS if secret in place]
            continue
        for path in [place, *place.rglob("*")]:
            data = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
            found += [f"{path}: {secret}" for secret in SECRETS if secret.encode() in data]
    return found
