"""A server of Google Cloud Storage's XML API, run as a process: ``gcs.py PORT BUCKET``.

obstore and delta-rs speak that API; the emulators on PyPI lack its HEAD, ETag, listing and
multipart upload. This one keeps objects in memory and refuses nobody.
Source: https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
import threading
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Object:
    """An object's bytes, and the number that each version of an object has."""

    data: bytes
    generation: int
    modified: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    """One request: ``/bucket`` or ``/bucket/object``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # see tests/support/proxy.py
    buckets: dict[str, dict[str, Object]] = {}  # noqa: RUF012 - what all requests share
    uploads: dict[str, dict[int, bytes]] = {}  # noqa: RUF012
    generations = itertools.count(1)
    lock = threading.Lock()

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, name = unquote(parts.path).lstrip("/").partition("/")
        with self.lock:
            objects = self.buckets.get(bucket)
            if objects is None:
                self._error(404, "NoSuchBucket")
            elif not name:
                self._list(objects, query)
            elif "uploads" in query or "uploadId" in query:
                self._upload(objects, name, query, body)
            elif self.command == "PUT":
                self._put(objects, name, body)
            elif name not in objects:
                self._error(404, "NoSuchKey")
            elif self.command == "DELETE":
                del objects[name]
                self._answer(204)
            else:
                self._get(objects[name])

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _get(self, found: Object) -> None:
        headers = {"ETag": found.etag, "Last_Modified": found.modified}
        headers["x_goog_generation"] = str(found.generation)
        data, status = found.data, 200
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(asked[1]), int(asked[2] or len(data) - 1) + 1
            if start >= len(data):
                self._error(416, "InvalidRange")
                return
            data, status = data[start:stop], 206
            last = start + len(data) - 1
            headers["Content_Range"] = f"bytes {start}-{last}/{len(found.data)}"
        self._answer(status, data, **headers)

    def _put(self, objects: dict[str, Object], name: str, data: bytes) -> None:
        """A new version, on the condition that the request names."""
        now = objects[name].generation if name in objects else 0
        wanted = self.headers.get("x-goog-if-generation-match")
        if wanted is not None and int(wanted) != now:
            self._error(412, "PreconditionFailed")
            return
        new = Object(data, next(self.generations), formatdate(usegmt=True))
        objects[name] = new
        self._answer(200, ETag=new.etag, x_goog_generation=str(new.generation))

    def _upload(
        self, objects: dict[str, Object], name: str, query: dict[str, str], body: bytes
    ) -> None:
        """An upload in parts: begun, continued, abandoned or completed."""
        if "uploads" in query:
            upload = str(next(self.generations))
            self.uploads[upload] = {}
            told = f"<UploadId>{upload}</UploadId>"
            told = f"<InitiateMultipartUploadResult>{told}</InitiateMultipartUploadResult>"
            self._answer(200, told.encode())
        elif self.command == "PUT":
            self.uploads[query["uploadId"]][int(query["partNumber"])] = body
            self._answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')
        elif self.command == "DELETE":
            del self.uploads[query["uploadId"]]
            self._answer(204)
        else:
            parts = self.uploads.pop(query["uploadId"])
            data = b"".join(parts[number] for number in sorted(parts))
            new = Object(data, next(self.generations), formatdate(usegmt=True))
            objects[name] = new
            told = f"<ETag>{escape(new.etag)}</ETag>"
            told = f"<CompleteMultipartUploadResult>{told}</CompleteMultipartUploadResult>"
            self._answer(200, told.encode(), x_goog_generation=str(new.generation))

    def _list(self, objects: dict[str, Object], query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        found, folders = "", set()
        for name, each in sorted(objects.items()):
            if not name.startswith(prefix) or name <= query.get("start-after", ""):
                continue
            folder, mark, _ = name[len(prefix) :].partition(delimiter or "\0")
            if mark:
                folders.add(prefix + folder + mark)
                continue
            found += f"<Contents><Key>{escape(name)}</Key><Size>{len(each.data)}</Size>"
            found += f"<ETag>{escape(each.etag)}</ETag>"
            found += "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for folder in sorted(folders):
            found += f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
        self._answer(200, f"<ListBucketResult>{found}</ListBucketResult>".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


if __name__ == "__main__":
    Handler.buckets[sys.argv[2]] = {}
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
