"""A headless Chromium that opens a page: its text, its console, a screenshot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)


def browse(page: Path, folder: Path, *, width: int = 1000, dark: bool = False) -> tuple[str, Path]:
    """Opens a page of this machine; fails if its console has a message.

    Returns:
        the document as the browser has built it, and a screenshot.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium: make browser")
    picture = folder / f"{page.stem}-{width}{'-dark' if dark else ''}.png"
    command = [program, *_QUIET, f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={width},1600"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    command += ["--dump-dom", f"--screenshot={picture}", page.absolute().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert picture.stat().st_size > 0
    return done.stdout, picture
