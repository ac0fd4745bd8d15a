"""Cloud storage with tables in it, who may do what there, and what the tables hold."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from mnist_spark.catalog.dataset import Dataset
from mnist_spark.storage import objects
from mnist_spark.storage.options import for_delta_rs
from tests.support.tables import expected

S3_KEY, S3_SECRET = "AKIATESTSOFTARGETS00", "kW8xQz7Lr0vTfYc2mHjN5bDpUeAoXiRgS1w9ZtBq"


@dataclass(frozen=True)
class Lake:
    """A bucket or container.

    Attributes:
        writing: environment of the driver and its executors.
        reading: environment of what needs no Spark; the same rights, given otherwise.
        wrong: the same with a credential that isn't valid.
        secrets: what may be seen nowhere.
    """

    name: str
    url: str
    writing: dict[str, str]
    reading: dict[str, str]
    wrong: dict[str, str]
    secrets: list[str] = field(repr=False)

    def everything(self) -> bytes:
        """Names and contents of all that is stored there."""
        return b"".join(
            name.encode() + objects.read(f"{self.url}/{name}", 0, size)
            for name, size in objects.sizes(self.url).items()
        )


def assert_rows(url: str, dataset: Dataset, layout: str, keys: Mapping[str, str]) -> None:
    """Compares the table's rows, read by Polars, with the dataset's files.

    Args:
        keys: what Polars has to be told besides the place: it reads no profiles.
    """
    place, options = for_delta_rs(url)
    told = {k: v for k, v in options.items() if k.startswith(("aws_endpoint", "azure_", "allow"))}
    told |= {name.lower(): value for name, value in keys.items()}
    rows = pl.read_delta(place, storage_options=told).sort("split", "index")
    wanted = pl.DataFrame(expected(dataset, layout)).sort("split", "index")
    assert rows.select(wanted.columns).equals(wanted)


@contextlib.contextmanager
def credentials_checked(endpoint: str | None) -> Iterator[None]:
    """moto's server takes any key until it is told not to."""

    def tell(actions: str) -> None:
        url = f"{endpoint}/moto-api/reset-auth"
        request = urllib.request.Request(url, actions.encode(), {"Content-Type": "text/plain"})
        urllib.request.urlopen(request, timeout=10).close()

    if endpoint is None:
        yield
        return
    tell("0")
    try:
        yield
    finally:
        tell("inf")
