"""Progress bars of long work on the driver: with rate and time left, for whoever looks on.

Terminals and notebooks show them. Elsewhere (logs, pipes, schedulers) they are silent and cost
nothing. Executors know nothing of them.
"""

from __future__ import annotations

import importlib.util
import sys
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
    from tqdm import tqdm

    kind: type[tqdm[NoReturn]] = tqdm
    if _kernel() is not None and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm_notebook as kind  # without it, a bar of text will do

    of_bytes = unit == "B"
    return kind(
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
    """Whether bars are seen: on a terminal, or in a notebook, whose output is no terminal."""
    return (sys.stderr is not None and sys.stderr.isatty()) or _kernel() is not None


def _kernel() -> object:
    """The notebook's shell if this process is a notebook's kernel, else None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if shell is not None and "IPKernelApp" in shell.config else None
