"""Random mutations of valid inputs, repeatable by their seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

NUMBERS = [n.to_bytes(4, "big") for n in (0, 1, 2, 28, 784, 2**16, 2**31 - 1, 2**31, 2**32 - 1)]


def cases(seeds: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> Iterator[bytes]:
    """The seeds, then mutations of them without end."""
    yield from seeds
    pieces = [*NUMBERS, *tokens, *tokens]
    while True:
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 2, 3, 8))):
            at = dice.randint(0, len(data))
            stop = min(len(data), at + dice.choice((0, 1, 4, 8, 30)))
            match dice.randrange(7):
                case 0 if data:
                    data[at % len(data)] ^= 1 << dice.randrange(8)
                case 1 if data:
                    data[at % len(data)] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
                case 2:
                    piece = dice.choice(pieces)
                    data[at : at + len(piece)] = piece
                case 3:
                    data[at:at] = dice.choice(pieces)
                case 4:
                    del data[at:stop]
                case 5:
                    data[at:at] = data[at:stop] * dice.choice((1, 2, 50))
                case _:
                    other = dice.choice(seeds)
                    data[at:] = other[dice.randint(0, len(other)) :]
        yield bytes(data)
