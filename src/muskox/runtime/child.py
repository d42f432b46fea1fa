"""The other side of `children.py`: a process that runs isolated processors, one after another.

Started fresh, never forked, and told what to run over a socket. It never sees
the store: whatever a run tells goes to the parent, which speaks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import importlib.util
import inspect
import os
import queue
import resource
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from muskox.core import codec
from muskox.core.binding import Binding, bind
from muskox.core.errors import DataError, DeclarationError, RateLimited
from muskox.core.failure import Failure, FailureKind, describe
from muskox.core.life import Hold
from muskox.runtime.child_runs import AsyncChildJob, ChildJob
from muskox.runtime.parent import die_with_parent
from muskox.runtime.wire import (
    HEADER,
    Answer,
    Begun,
    Broke,
    ChildTask,
    Ended,
    FromChild,
    Said,
    Spared,
    ToChild,
    Wire,
)

__all__ = ["main"]

MAIN = "__muskox_main__"
"""The name under which a program's own file is imported, so that its `if __name__ == "__main__"` does not run."""

_QUIET_FD = 100


class _Line:
    """The socket to the parent: a thread reads it, so that tasks and answers find their way apart."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._wire: Wire[ToChild] = Wire(ToChild)  # type: ignore[arg-type]
        self._turn = threading.Lock()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.tasks: queue.SimpleQueue[ChildTask] = queue.SimpleQueue()
        # A process that user code forks must neither answer in our name nor keep the line open.
        os.register_at_fork(after_in_child=sock.close)
        threading.Thread(target=self._read, name="muskox-line", daemon=True).start()

    def send(self, message: FromChild) -> None:
        self._sock.sendall(self._wire.frame(message))

    def ask(self, told: Said) -> Answer:
        with self._turn:
            self.send(told)
            return self._answers.get()

    def _read(self) -> None:
        while (header := self._exactly(HEADER)) and (body := self._exactly(self._wire.length(header))):
            message = self._wire.read(body)
            if isinstance(message, ChildTask):
                self.tasks.put(message)
            else:
                self._answers.put(message)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def _exactly(self, size: int) -> bytes:
        """`size` bytes, or none when the parent has hung up."""
        found = bytearray()
        while len(found) < size:
            try:
                more = self._sock.recv(size - len(found))
            except OSError:
                more = b""
            if not more:
                return b""
            found += more
        return bytes(found)


def main() -> NoReturn:
    """Run what the parent sends, until it ends us; takes socket, lifeline and the parent's id from the command line."""
    fd, life, parent = (int(text) for text in sys.argv[1:4])
    del sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _reset_signals()
    # Out of the way of processors that close or reuse low descriptors.
    high = fcntl.fcntl(life, fcntl.F_DUPFD_CLOEXEC, _QUIET_FD)
    os.close(life)
    die_with_parent(parent, high)
    sock = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _QUIET_FD))
    os.close(fd)
    line = _Line(sock)
    while True:
        task = line.tasks.get()
        _reset_signals()
        line.send(Begun())
        line.send(_perform(task, line))


def _reset_signals() -> None:
    # Ctrl-C is the parent's to decide on; SIGTERM must end even a processor that never comes back to Python.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _perform(task: ChildTask, line: _Line) -> Ended | Spared | Broke:
    """Call the processor; whatever it raises, SystemExit and its like included, is a failure like any other."""
    final_on: tuple[type[BaseException], ...] = ()
    try:
        if task.sys_path:
            sys.path[:] = task.sys_path
        function, binding, final_on = _find(task.module, task.qualname, task.main_path)
        asynchronous = inspect.iscoroutinefunction(function)
        run = (AsyncChildJob if asynchronous else ChildJob)(task, line.ask)
        try:
            args, kwargs = binding.arguments(task.job.data_text, run)
        except DataError as error:
            return Broke(_refused(error), _memory())
        with _following(task.trace):
            value = asyncio.run(_await(function(*args, **kwargs))) if asynchronous else function(*args, **kwargs)
        return _ended(value, task.data_limit)
    except RateLimited as error:
        return Spared(error.retry_after, Hold(error.hold), _memory())
    except BaseException as error:  # noqa: BLE001 - foreign code
        return Broke(describe(error, final_on=final_on), _memory())
    finally:
        _flush()


def _following(trace: tuple[str, str] | None) -> AbstractContextManager[object]:
    if trace is None:
        return contextlib.nullcontext()
    module, _, name = trace[0].partition(":")
    following: AbstractContextManager[object] = getattr(importlib.import_module(module), name)(trace[1])
    return following


@cache
def _find(
    module: str, qualname: str, main_path: str | None
) -> tuple[Callable[..., Any], Binding, tuple[type[BaseException], ...]]:
    """Import the processor and read its signature; `final_on` comes from its declaration, if it has one."""
    owner = importlib.import_module(module) if main_path is None else _import_main(main_path)
    target = getattr(owner, qualname, None)
    if target is None:
        raise DeclarationError(
            f"{module} has no {qualname} when it is imported in a child process; "
            'define isolated processors at module level and not under `if __name__ == "__main__"`'
        )
    function = getattr(target, "function", target)
    final_on = getattr(getattr(target, "declared", None), "final_on", ())
    return function, bind(function, f"{module}.{qualname}"), final_on


def _import_main(path: str) -> Any:
    if MAIN not in sys.modules:
        spec = importlib.util.spec_from_file_location(MAIN, path)
        if spec is None or spec.loader is None:
            raise DeclarationError(f"{path} cannot be imported in a child process; move the processor into a module")
        module = importlib.util.module_from_spec(spec)
        sys.modules[MAIN] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[MAIN]
            raise
    return sys.modules[MAIN]


async def _await(value: Awaitable[Any]) -> Any:
    return await value


def _ended(value: Any, limit: int) -> Ended:
    if value is None:
        return Ended(None, None, _memory())
    try:
        return Ended(codec.encode(value, "result", limit=limit), None, _memory())
    except Exception as error:  # noqa: BLE001 - values of foreign classes; the work is done all the same
        return Ended(None, describe(error, FailureKind.RESULT), _memory())


def _refused(error: DataError) -> Failure:
    return Failure(FailureKind.REFUSED, "muskox.core.errors.DataError", str(error), final=True)


def _flush() -> None:
    # The parent ends us by a signal, which would lose what is still buffered.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed or replaced by user code
            stream.flush()


def _memory() -> int:
    """Bytes that this process takes now; where the system does not tell, the most it ever took."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
