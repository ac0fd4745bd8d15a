"""``load_data``: an IDX file as an array, as the samples of Azure Open Datasets define it."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from io import BufferedReader

import numpy as np
import numpy.typing as npt

from mnist_spark.download.cache import inflate
from mnist_spark.errors import IdxError
from mnist_spark.idx import format as idx

_GZIP = b"\x1f\x8b"


def load_data(filename: str | os.PathLike[str], label: bool = False) -> npt.NDArray[np.generic]:
    """Reads a file of images or of labels, gzipped or not, downloaded or mounted.

    No more is allocated than the file really has, whatever its header promises. Pixels are as in
    the file: EMNIST's images come transposed, which only its rows and tables set right.

    Args:
        filename: any name; the content says whether it is gzipped.
        label: whether the file has labels.

    Returns:
        images: shape (n, pixels); labels: shape (n, 1). uint8 as published; other element types
        in the machine's byte order.

    Raises:
        IdxError: the file can't be read, isn't valid IDX, or has labels in place of images or
            the other way round.
        IntegrityError: the gzip is damaged, or longer or shorter than its content's header says.
    """
    try:
        with open(filename, "rb") as stream:
            gzipped = stream.read(len(_GZIP)) == _GZIP
            header = _header(stream, gzipped, filename)
            _check_rank(header, label, filename)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            if gzipped:
                data = bytearray()
                for chunk in inflate(stream, header.payload_size, filename):
                    data += chunk
            else:
                idx.check_payload_size(header, size, filename)
                data = bytearray(size)
                stream.readinto(data)
    except OSError as error:
        raise IdxError(
            "cannot read the file", file=filename, got=error.strerror or error
        ) from error
    values = np.frombuffer(data, header.dtype, offset=header.size)
    values = values.reshape(header.records, math.prod(header.record_shape))
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def _header(stream: BufferedReader, gzipped: bool, file: object) -> idx.Header:
    stream.seek(0)
    if not gzipped:
        return idx.read_header(stream, file)
    try:
        with gzip.open(stream) as content:
            return idx.read_header(content, file)  # type: ignore[arg-type]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IdxError("damaged gzip", file=file, got=error) from error


def _check_rank(header: idx.Header, label: bool, file: object) -> None:
    rank = len(header.shape)
    if (rank >= 3) == label:
        raise IdxError(
            "labels expected" if label else "images expected",
            file=file,
            expected="1 or 2 dimensions" if label else "3 dimensions",
            got=f"shape {header.shape}",
            hint=f"Call load_data(…, label={not label})",
        )
