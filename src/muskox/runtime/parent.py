"""Makes a process end when the one that started it is gone, however that died.

Both sides are here: a parent holds a `Lifeline`, its children call
`die_with_parent`. Stopping a child while the parent lives is not done here.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import MutableMapping

if sys.platform != "win32":
    import fcntl

__all__ = ["Lifeline", "die_with_parent", "follow_supervisor"]

_SUPERVISOR = "MUSKOX_SUPERVISOR"
_F_SETSIG = 10
_LOOK = 1000
"""Milliseconds between two looks at who the parent is."""


class Lifeline:
    """A pipe to one child on which nothing is ever written: it closes when this process ends.

    One for each child, because the kernel keeps who is to be killed with the pipe's end and not with the process.
    """

    def __init__(self) -> None:
        self.fd, self._held = os.pipe()

    def environment(self) -> dict[str, str]:
        """What a worker process needs in its environment for `follow_supervisor`; pass it `fd` too."""
        return {_SUPERVISOR: f"{os.getpid()}:{self.fd}"}

    def handed_over(self) -> None:
        """Close the child's end here, once the child has it."""
        os.close(self.fd)

    def close(self) -> None:
        """Let go of the pipe, which kills the child and its group if they are still there."""
        os.close(self._held)


def die_with_parent(parent: int, fd: int) -> None:
    """Have this process and its group killed when process `parent`, which holds the lifeline `fd`, ends.

    Call it early, in a process that leads its own group.
    """
    os.set_inheritable(fd, False)
    if sys.platform == "linux":
        _kill_group_at_end_of(fd)
    threading.Thread(target=_watch, args=(parent, fd), name="muskox-lifeline", daemon=True).start()


def follow_supervisor(environment: MutableMapping[str, str] = os.environ) -> None:
    """Do `die_with_parent` when a supervisor has started this process; else nothing.

    Takes the variable out of the environment, since it is not meant for our own children.
    """
    told = environment.pop(_SUPERVISOR, None)
    if told is not None:
        parent, fd = told.split(":")
        die_with_parent(int(parent), int(fd))


def _kill_group_at_end_of(fd: int) -> None:
    # A thread that waits for the pipe may never get its turn while C code holds
    # the interpreter. So the kernel is asked to send SIGKILL itself, to the
    # whole group, in the moment in which the pipe's other end closes.
    # PR_SET_PDEATHSIG cannot do that: it reaches one process only, and so early
    # (when the parent's *thread* ends, before its files are closed) that the
    # programs which the child has started, ffmpeg say, would be left behind.
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


def _watch(parent: int, fd: int) -> None:
    # The pipe stays open when the parent has forked; then its number tells.
    end = select.poll()
    end.register(fd, select.POLLIN)
    while os.getppid() == parent and not end.poll(_LOOK):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
