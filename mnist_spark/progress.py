"""Progress bars of long work on the driver: with rate and time left, for whoever looks on.

Terminals and notebooks show them. Elsewhere (logs, pipes, schedulers) they are silent and cost
nothing. Executors know nothing of them.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

DELAY_SECONDS = 0.5
"""Work that takes less shows no bar."""
_REDRAW_SECONDS = 0.1


def bar(what: str, total: int | None, unit: str, *, shown: bool | None = None) -> tqdm[NoReturn]:
    """A bar, to be used in a ``with`` block; its ``update(n)`` takes what has been done since.

    Args:
        unit: ``B`` for bytes, or what is counted.
        shown: None shows it in terminals and notebooks only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a notebook without ipywidgets: a bar of text will do
        from tqdm.auto import tqdm

    of_bytes = unit == "B"
    return tqdm(
        total=total,
        desc=what,
        unit=unit if of_bytes else f" {unit}",
        unit_scale=True,
        unit_divisor=1024 if of_bytes else 1000,
        leave=False,
        mininterval=_REDRAW_SECONDS,
        miniters=1,
        delay=DELAY_SECONDS if shown is None else 0,
        disable=not (is_watched() if shown is None else shown),
    )


def is_watched() -> bool:
    """Whether bars are seen: on a terminal, or in a notebook's kernel, whose output is none."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
