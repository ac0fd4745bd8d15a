"""Chosen records of a checked payload into an array, in bounded steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mnist_spark.idx import format as idx

_CHUNK_BYTES = 1 << 20

Values = npt.NDArray[np.generic]
Positions = npt.NDArray[np.int64]


def read_records(path: str, records: Positions, columns: Sequence[int], out: Values) -> None:
    """Reads some records, and nothing before the first and after the last.

    Args:
        path: a payload.
        records: their indices, ascending.
        columns: which of a record's elements, ascending, counted from 0, last dimension fastest.
        out: shape (records, columns), any type and strides; filled.

    Raises:
        IdxError: the payload has changed since it was checked.
    """
    if not len(records) or not columns:
        return
    elements: slice | Sequence[int] = columns
    if columns[-1] - columns[0] + 1 == len(columns):
        elements = slice(columns[0], columns[-1] + 1)
    stream, header = idx.open_payload(path)
    with stream:
        step, end = max(1, _CHUNK_BYTES // header.record_size), int(records[-1]) + 1
        for first in range(int(records[0]), end, step):
            last = min(first + step, end)
            start, stop = np.searchsorted(records, [first, last])
            if start == stop:
                continue
            chunk = idx.read_records(stream, header, first, last, path).reshape(last - first, -1)
            if stop - start < last - first:
                chunk = chunk[records[start:stop] - first]
            out[start:stop] = chunk[:, elements]
