"""Shuts the process in that decodes: it can take only so much, and it ends with the worker.

Called once, by the child itself and before it reads anything of somebody else's.
What a system does not offer is left out; limits of time are also kept from outside.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

__all__ = ["allow_cpu", "confine"]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_MOST_FILES = 64


def confine(parent: int, *, memory: int, output_bytes: int) -> None:
    """Limit address space, files and their size, let nothing gain rights, and die when `parent` does."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _MOST_FILES)
    _limit(resource.RLIMIT_FSIZE, output_bytes)
    if sys.platform == "linux":  # elsewhere address space is not what a process takes
        _limit(resource.RLIMIT_AS, memory)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A file that grows too large is an error of the write, and not the end of us.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def allow_cpu(seconds: int) -> None:
    """Allow so many more seconds of computing; whoever needs more is ended by the system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


def _limit(which: int, most: int) -> None:
    _, hard = resource.getrlimit(which)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))
