"""Starts the programs of the tests by fork, with the packages that they all need loaded already.

A program that does little takes most of its time to import them, and the tests
start hundreds. `tests.processes` asks for one over a socket, with the files it
shall have; the answer is its pid, and its exit code when it has ended.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from typing import Any

MOST = 1 << 18
"""Bytes of one request."""

LOADED = ["muskox", "muskox.runtime.worker", *(f"muskox.store.{name}" for name in ("sqlite", "postgres", "redis"))]


def main(server: socket.socket) -> list[str]:
    """Serve until the other side is gone. Returns in each program's own process, with what it was called with."""
    for name in LOADED:
        importlib.import_module(name)
    ended, woken = socket.socketpair()
    ended.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    selector.register(ended, selectors.EVENT_READ)
    running: dict[int, int] = {}  # pid to the file in which its end is told
    while True:
        for key, _ in selector.select():
            if key.fileobj is ended:
                ended.recv(4096)
                _tell_ends(running)
                continue
            said, files, _, _ = socket.recv_fds(server, MOST, 4)
            if not said:
                sys.exit()
            asked = json.loads(said)
            for name in asked["loaded"]:
                importlib.import_module(name)
            pid = os.fork()
            if pid == 0:
                _close(server, ended, woken, selector, *running.values())
                return _become(asked, files)
            *given, running[pid] = files
            _close(*given)
            _tell(running[pid], pid)


def _close(*things: socket.socket | selectors.BaseSelector | int) -> None:
    for thing in things:
        os.close(thing) if isinstance(thing, int) else thing.close()


def _tell_ends(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _tell(running[pid], os.waitstatus_to_exitcode(status))
        os.close(running.pop(pid))


def _tell(file: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever started it no longer asks
        os.write(file, b"%d\n" % number)


def _become(asked: dict[str, Any], files: list[int]) -> list[str]:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, status = files
    os.close(status)
    for number, file in enumerate(streams):
        os.dup2(file, number)
        os.close(file)
    if asked["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    words = asked["words"]
    if "LD_PRELOAD" in os.environ:  # which only counts for a program from its very beginning
        os.execv(sys.executable, [sys.executable, "-m", *words])
    return words


if __name__ == "__main__":
    sys.argv = main(socket.socket(fileno=int(sys.argv[1])))
    # As `python -m` would, so that what it raises and how it exits is its own.
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
