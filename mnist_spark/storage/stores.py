"""Stores of obstore's, opened with the right credentials, and kept.

obstore comes with the extras ``[azure]``, ``[s3]`` and ``[gcs]``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mnist_spark.storage.failures import object_errors
from mnist_spark.storage.options import Place, cloud_variables, locate
from mnist_spark.storage.runtime import load_obstore, require

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CLIENT_OPTIONS = ("allow_http", "connect_timeout", "timeout")


class _Stores(dict[tuple[Any, ...], "ObjectStore"]):
    """What this process has open, with credentials; with code that travels to another, nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


_MOST_OPEN = 16
_OPEN = _Stores()


def check_url(url: str) -> None:
    """Raises UsageError if the URL isn't valid, or needs what isn't installed."""
    _usable_place(url)


def connect(url: str, *, once: bool = False) -> tuple[ObjectStore, str]:
    """The store of a URL, and the path within it.

    Args:
        once: a request that fails isn't tried again, and may take as long as bytes come.

    Raises:
        UsageError: the URL isn't valid, or needs what isn't installed.
        ObjectError: there are no credentials, or they can't be valid.
    """
    place = _usable_place(url)
    with object_errors():
        return _kept_store(place, once=once), place.key


def _usable_place(url: str) -> Place:
    place = locate(url)
    load_obstore(url, place.cloud)
    if _needs_boto3(place.cloud):
        require("boto3", url, place.cloud)
    return place


def _kept_store(place: Place, *, once: bool) -> ObjectStore:
    # Kept with its connections; another process, or other credentials, need another.
    key = place.cloud, place.bucket, *place.options.items(), cloud_variables(), os.getpid(), once
    found = _OPEN.get(key)
    if found is None:
        if len(_OPEN) == _MOST_OPEN:
            _OPEN.pop(next(iter(_OPEN)), None)
        found = _OPEN[key] = _open_store(place, once=once)
    return found


def _open_store(place: Place, *, once: bool) -> ObjectStore:
    from obstore import store

    config = dict(place.options)
    client = {name: config.pop(name) for name in _CLIENT_OPTIONS if name in config}
    if once:
        # The caller tries again, from where it ended. A file may take long, but not without a byte.
        client |= {"read_timeout": client["timeout"], "timeout": "1h"}
    retries, within = int(config.pop("max_retries")), config.pop("retry_timeout")
    kinds: dict[str, Any] = {"azure": store.AzureStore, "s3": store.S3Store, "gcs": store.GCSStore}
    opened: ObjectStore = kinds[place.cloud](
        place.bucket,
        config=config,
        client_options=client,
        retry_config={
            "max_retries": 0 if once else retries,
            "retry_timeout": timedelta(seconds=float(within.removesuffix("s"))),
        },
        credential_provider=_credential_provider(place.cloud, config),
    )
    return opened


def _needs_boto3(cloud: str) -> bool:
    return cloud == "s3" and not os.environ.get("AWS_ACCESS_KEY_ID")


def _credential_provider(cloud: str, config: dict[str, str]) -> Callable[[], Any] | None:
    """Credentials that obstore doesn't find by itself, or would pass over."""
    if _needs_boto3(cloud):
        # Profiles, the credentials file, single sign-on; roles of machines and pods as well.
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    if token := config.get("azure_storage_sas_token"):
        # Otherwise a key in the environment goes before the URL's token.
        return lambda: {"sas_token": token, "expires_at": None}
    return None
