"""``mnist-spark inspect``."""

from __future__ import annotations

import argparse
import hashlib
import zlib
from pathlib import Path
from typing import IO

from mnist_spark.errors import IdxError
from mnist_spark.idx import format as idx
from mnist_spark.idx.read import is_gzip, open_content


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE[.gz]")


def run(args: argparse.Namespace) -> None:
    """Show an IDX file's header, shape, type and digest."""
    path: Path = args.file
    try:
        gzipped = is_gzip(path)
        with open_content(path) as stream:
            header = idx.read_header(stream, path)
            print(f"file     {path}{' (gzip)' if gzipped else ''}")
            print(f"magic    0x{header.pack()[:4].hex()}")
            print(f"type     {header.dtype.newbyteorder('=').name}")
            print(f"shape    {' × '.join(map(str, header.shape))}")
            if not gzipped:
                idx.check_payload_size(header, path.stat().st_size, path)
            sha256 = _digest(stream, header, path)
    except (OSError, EOFError, zlib.error) as error:
        raise IdxError("cannot read the file", file=path, got=error) from error
    print(f"payload  {header.payload_size:,} bytes, sha256 {sha256}")


def _digest(stream: IO[bytes], header: idx.Header, path: Path) -> str:
    """SHA-256 of the payload, whose header has been read."""
    digest, size = hashlib.sha256(header.pack()), header.size
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
        if size > header.payload_size:  # stop here: a gzip bomb would never end
            raise IdxError(
                "trailing bytes", file=path, expected=f"{header.payload_size:,} bytes", got="more"
            )
    idx.check_payload_size(header, size, path)
    return digest.hexdigest()
