"""Which rows of a dataset: the same choice in NumPy and as a filter for Spark.

A row's *position* counts from 0 through the chosen splits. Random choices compare a key of the
position with a limit: xxHash64 (seed, number of the choice, position), a published function that
Spark has built in and that never changes. A choice thus takes three numbers however many rows
there are, and is the same on every machine and in every version of NumPy and Spark.
"""

from __future__ import annotations

import operator
import secrets
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mnist_spark.errors import UsageError

# https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, XXH64
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_SPARK_SEED = 42  # what Spark's function xxhash64 starts with
_BITS = 64


@dataclass(frozen=True)
class Draw:
    """One random choice: rows whose key is at most the limit, or those above it.

    Attributes:
        number: how many choices came before; the same seed again is thus another choice.
        limit: a key, signed as in Spark.
    """

    seed: int
    number: int
    limit: int = 0
    below: bool = True

    def keys(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows' keys. All differ: for one seed, xxHash64 of 8 bytes is a bijection."""
        state = np.array([_SPARK_SEED], np.uint64)
        for value in (self.seed, self.number):
            state = _xxhash64(np.array([value], np.int64), state)
        return _xxhash64(positions, state).view(np.int64)

    def keeps(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of the rows are chosen."""
        below: npt.NDArray[np.bool_] = self.keys(positions) <= self.limit
        return below if self.below else ~below

    def sql(self, position: str) -> str:
        """The same choice as a condition of Spark SQL."""
        key = f"xxhash64({_bigint(self.seed)}, {_bigint(self.number)}, {position})"
        return f"{key} {'<=' if self.below else '>'} {_bigint(self.limit)}"


@dataclass(frozen=True)
class Selection:
    """Rows in their own order: positions ``start`` to before ``stop`` that every draw keeps."""

    start: int
    stop: int
    draws: tuple[Draw, ...] = ()

    def positions(self) -> npt.NDArray[np.int64]:
        """The chosen positions, ascending."""
        positions = np.arange(self.start, self.stop, dtype=np.int64)
        for draw in self.draws:
            positions = positions[draw.keeps(positions)]
        return positions

    def take(self, count: int) -> Selection:
        """The first ``count`` rows, or all if there are fewer."""
        count, positions = _count(count), self.positions()
        if count >= len(positions):
            return self
        return replace(self, stop=int(positions[count]))

    def skip(self, count: int) -> Selection:
        """All but the first ``count`` rows."""
        count, positions = _count(count), self.positions()
        start = self.stop if count >= len(positions) else int(positions[count])
        return replace(self, start=start)

    def sample(self, probability: float, seed: int | None) -> Selection:
        """Each row with a probability of its own, so that the number of rows varies."""
        keys = int(_fraction("probability", probability) * 2**_BITS)
        draw = self._draw(seed)
        # All keys and none have limits that no signed 64-bit number holds.
        if keys == 2**_BITS:
            return self
        if keys == 0:
            return self.take(0)
        return self._with(replace(draw, limit=keys - 2 ** (_BITS - 1) - 1))

    def split(self, fraction: float, seed: int | None) -> tuple[Selection, Selection]:
        """Two parts: exactly ``round(rows × fraction)`` random rows, and the others."""
        draw = self._draw(seed)
        keys = draw.keys(self.positions())
        first = round(len(keys) * _fraction("percentage", fraction))
        if not first:
            return self.take(0), self
        draw = replace(draw, limit=int(np.partition(keys, first - 1)[first - 1]))
        return self._with(draw), self._with(replace(draw, below=False))

    def sql(self, position: str) -> str:
        """The selection as a condition of Spark SQL on ``position``, which is a bigint."""
        bounds = f"{position} >= {self.start} AND {position} < {self.stop}"
        return " AND ".join([bounds, *(draw.sql(position) for draw in self.draws)])

    def _draw(self, seed: int | None) -> Draw:
        if seed is None:
            seed = secrets.randbits(_BITS - 1)
        valid = "a whole number of at most 64 bits, or None"
        try:
            seed = operator.index(seed)
        except TypeError:
            raise UsageError("seed", expected=valid, got=repr(seed)) from None
        if not -(2**63) <= seed < 2**63:
            raise UsageError("seed", expected=valid, got=seed)
        return Draw(seed, len(self.draws))

    def _with(self, draw: Draw) -> Selection:
        return replace(self, draws=(*self.draws, draw))


def _xxhash64(
    values: npt.NDArray[np.int64], seed: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """XXH64 of each value's 8 bytes. Arrays throughout: they wrap around where scalars warn."""
    word = _rotate(values.view(np.uint64) * _P2, 31) * _P1
    hashed = _rotate((seed + _P5 + np.uint64(8)) ^ word, 27) * _P1 + _P4
    hashed = (hashed ^ (hashed >> np.uint64(33))) * _P2
    hashed = (hashed ^ (hashed >> np.uint64(29))) * _P3
    return hashed ^ (hashed >> np.uint64(32))


def _rotate(values: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
    return (values << np.uint64(bits)) | (values >> np.uint64(_BITS - bits))


def _bigint(value: int) -> str:
    return f"CAST('{value}' AS BIGINT)"


def _count(count: int) -> int:
    try:
        if operator.index(count) >= 0:
            return operator.index(count)
    except TypeError:
        pass
    raise UsageError("number of rows", expected="a whole number of 0 or more", got=repr(count))


def _fraction(what: str, value: float) -> float:
    if isinstance(value, int | float | np.floating) and 0 <= value <= 1:
        return float(value)
    raise UsageError(what, expected="a number from 0 to 1", got=repr(value))
