"""Turns into an encoder that ends with its worker and stays within its limits. Run as a file, never imported.

`python -I -S launcher.py SPEC PROGRAM WORDS…`: it leads its own process group,
sets the limits of `SPEC` (JSON) and becomes the program. It needs nothing but
the standard library, so that it starts in milliseconds, and looks at no file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from ctypes import CDLL
from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
F_SETSIG = 10
LOOK = 500
"""Milliseconds between two looks at who the parent is."""


def main() -> NoReturn:
    """Set the limits and become the program."""
    spec, argv = json.loads(sys.argv[1]), sys.argv[2:]
    with contextlib.suppress(OSError):
        os.nice(spec["nice"])
    for name, limit in spec["limits"].items():
        _limit(getattr(resource, f"RLIMIT_{name}"), int(limit))
    # Which Python ignores, and what is ignored stays so in a program that takes our place.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if spec["watchdog"]:
        _stay_and_watch(spec, argv)
    _harden_on_linux(spec)
    os.execv(argv[0], argv)  # noqa: S606 - the program and its words were made by us; there is no shell


def _limit(kind: int, most: int) -> None:
    _, ceiling = resource.getrlimit(kind)
    if ceiling != resource.RLIM_INFINITY:
        most = min(most, ceiling)
    # A system that knows the limit may still not let it be set (macOS and the address space).
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (most, most))


def _harden_on_linux(spec: dict[str, Any]) -> None:
    libc = CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # A network of its own, with nothing in it, where the system allows: what an untrusted file could still
    # talk the encoder into then reaches nobody. Root may do so at once, others in a user namespace of their own.
    if libc.unshare(CLONE_NEWNET):
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
    # Twice, since neither is enough. The kernel sends the first only to this process and takes it back at a
    # change of credentials (so it comes after the namespaces); the second reaches the whole group, but not
    # while a process that the worker has forked holds the pipe open.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _kill_group_at_end_of(spec["lifeline"])
    if os.getppid() != spec["parent"]:
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _kill_group_at_end_of(fd: int) -> None:
    # The settings belong to the open pipe and outlive the exec, as long as the program keeps it.
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    ended = select.poll()
    ended.register(fd, select.POLLIN)
    if ended.poll(0):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _stay_and_watch(spec: dict[str, Any], argv: list[str]) -> NoReturn:
    """Where no kernel does it: stay beside the program, and end the group when the worker is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the group is told, and this process ends with the program
    child = subprocess.Popen(argv, restore_signals=True, preexec_fn=_usual_signals)  # noqa: S603, PLW1509 - as above; one thread
    threading.Thread(target=_watch, args=(spec["parent"], spec["lifeline"]), daemon=True).start()
    code = child.wait()
    if code < 0:
        # Ends as the program did, so that whoever waits learns of it.
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _usual_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _watch(parent: int, fd: int) -> None:
    end = select.poll()
    end.register(fd, select.POLLIN)
    while os.getppid() == parent and not end.poll(LOOK):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
