"""Tells at once that a file was written to, and costs nothing while it is not: by inotify, where there is Linux.

Elsewhere, and where the file system keeps silent, nothing is told and the time runs out. A notice comes before the
commit that it belongs to is there to be seen, and may come many times for one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
import sys
from pathlib import Path

__all__ = ["Notices"]

_IN_MODIFY = 0x2


class Notices:
    """What one thread waits for: writes to a file, or `wake` from another thread."""

    def __init__(self) -> None:
        self._heard, self._said = socket.socketpair()
        self._heard.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._heard, selectors.EVENT_READ)
        self._fd: int | None = None

    @property
    def follows(self) -> bool:
        """Whether there is a file that is watched."""
        return self._fd is not None

    def follow(self, path: Path) -> None:
        """Watch a file that is there; does nothing where that is not possible."""
        if sys.platform != "linux" or self._fd is not None:
            return
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if fd < 0:  # as many as a user may have are taken
                return
            if libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY) < 0:
                os.close(fd)
                return
            self._selector.register(fd, selectors.EVENT_READ)
            self._fd = fd

    def wait(self, seconds: float) -> bool:
        """Wait for a write; returns whether there was one since the last time. Earlier when it is woken."""
        ready = {key.fd for key, _ in self._selector.select(seconds)}
        with contextlib.suppress(BlockingIOError):
            while self._fd in ready and os.read(self._fd, 65536):
                pass
        return self._fd in ready

    def wake(self) -> None:
        """End the waiting, now and from here on; from any thread."""
        self._said.send(b"\0")

    def close(self) -> None:
        """Let go of everything; when nobody waits any more."""
        self._selector.close()
        for end in (self._heard, self._said):
            end.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
