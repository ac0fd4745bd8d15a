"""Whether this machine can mount, found without the code under test."""

from __future__ import annotations

import os
import shutil
import sys

import pytest


def _lacking() -> str | None:
    if sys.platform != "linux" or shutil.which("fusermount3") is None:
        return "no fusermount3 (make fuse)"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return None


needs_fuse = pytest.mark.skipif(_lacking() is not None, reason=f"needs FUSE: {_lacking()}")
