"""Processors that tests run in child processes; in a module of their own, since a child imports them by name."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from muskox import RateLimited, SyncActiveJob


def pid_of(job: SyncActiveJob) -> int:
    """Tell and give the process it runs in."""
    job.progress(os.getpid())
    return os.getpid()


def stubborn(job: SyncActiveJob, notes: str) -> None:
    """Never end, and hear no SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Path(notes).open("a") as file:
        file.write(f"{os.getpid()}\n")
    job.progress(os.getpid())
    while True:
        time.sleep(0.01)


def segfault() -> None:
    ctypes.string_at(0)


def leave(code: int) -> None:
    os._exit(code)


def recurse() -> int:
    return 1 + recurse()


def grow() -> None:
    """Take memory until there is no more."""
    import resource

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 64 * 2**20, size + 64 * 2**20))
    hoard = []
    while True:
        hoard.append(bytearray(2**20))


def number(n: int) -> int:
    return n


def meet_a_limit(retry_after: float) -> None:
    raise RateLimited(retry_after=retry_after)
