"""Commands on a terminal of their own, and what looks like one to progress bars."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import subprocess
import termios


def on_terminal(command: list[str], environment: dict[str, str], columns: int = 80) -> str:
    """What a command shows on a terminal of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = b""
    with contextlib.suppress(OSError):  # at the end, on Linux
        while chunk := os.read(master, 4096):
            seen += chunk
    os.close(master)
    assert process.wait() == 0
    return seen.decode().replace("\r\n", "\n")


class Screen(io.StringIO):
    """What tqdm takes for a terminal."""

    def isatty(self) -> bool:
        return True
