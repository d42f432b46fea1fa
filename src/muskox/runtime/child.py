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
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from muskox.core import codec
from muskox.core.binding import Binding, bind
from muskox.core.errors import DataError, DeclarationError, LeaseLost, OptionError, StoreUnavailable
from muskox.core.failure import Failure, FailureKind, describe
from muskox.runtime.parent import die_with_parent
from muskox.runtime.wire import HEADER, Answer, Begun, Broke, ChildTask, Ended, Step, ToChild, Told, Wire

__all__ = ["AsyncChildJob", "ChildJob", "main"]

MAIN = "__muskox_main__"
"""The name under which a program's own file is imported, so that its `if __name__ == "__main__"` does not run."""

_QUIET_FD = 100


class _Run:
    """What both kinds of run have: the job as it was claimed, and whether to stop."""

    def __init__(self, task: ChildTask, line: _Line) -> None:
        self._job = task.job
        self._attempts = task.attempts
        self._limit = task.data_limit
        self._line = line
        self._lost = False

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def queue(self) -> str:
        return self._job.queue

    @property
    def name(self) -> str:
        return self._job.name

    @property
    def data(self) -> Any:
        """The job's data as it was when the run began."""
        return self._job.data

    @property
    def priority(self) -> int:
        return self._job.priority

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self._job.attempt

    @property
    def attempts(self) -> int:
        """How many attempts are allowed in all."""
        return self._attempts

    @property
    def stalls(self) -> int:
        return self._job.stalls

    @property
    def releases(self) -> int:
        return self._job.releases

    @property
    def fence(self) -> int:
        """A number that grows with every claim; hand it to systems that must refuse a late writer."""
        return 0 if self._job.lease is None else self._job.lease.token

    @property
    def added_at(self) -> datetime:
        return self._job.added_at

    @property
    def cancelled(self) -> bool:
        """Whether the run has been told that it may no longer speak; a cancelled child is ended in any case."""
        return self._lost

    def complete(self, result: Any = None, *, within: Any) -> NoReturn:
        """Refused: a child process never sees the store."""
        raise OptionError(
            "an isolated processor cannot complete its job in a transaction, as its process has no store; "
            "leave isolated out, or return the result"
        )

    def _tell(self, told: Told | Step) -> str | None:
        answer = self._line.ask(told)
        if answer.lost:
            self._lost = True
            raise LeaseLost(
                f"job {self.id} is no longer this run's; it was cancelled, removed or given to another worker"
            )
        if answer.trouble:
            raise StoreUnavailable(answer.trouble)
        if answer.wrong:
            raise OptionError(answer.wrong)
        return answer.value

    def _lined(self, line: str) -> Told:
        self._json(line, "log line")
        return Told(lines=(str(line),))

    def _json(self, value: Any, what: str) -> str:
        return codec.encode(value, what, limit=self._limit)


class ChildJob(_Run):
    """The run, for a `def` processor in a child process; its verbs block until the worker has answered."""

    def progress(self, value: Any) -> None:
        """Tell how far the run is: a number or any small JSON value."""
        self._tell(Told(progress=self._json(value, "progress")))

    def log(self, line: str) -> None:
        """Add a line to the job's log."""
        self._tell(self._lined(line))

    def update(self, data: Any) -> None:
        """Replace the job's data, for later attempts to go on from."""
        self._tell(Told(data=self._json(data, "data")))

    def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a part of the work once; see `ActiveJob.step`."""
        kept = self._tell(Step(name))
        if kept is None:
            try:
                kept = self._json(work(*args, **kwargs), f"the result of step {name!r}")
            except BaseException:
                self._tell(Step(name, failed=True))
                raise
            self._tell(Step(name, kept))
        return codec.decode(kept)


class AsyncChildJob(_Run):
    """The run, for an `async def` processor in a child process."""

    async def progress(self, value: Any) -> None:
        """Tell how far the run is: a number or any small JSON value."""
        await asyncio.to_thread(self._tell, Told(progress=self._json(value, "progress")))

    async def log(self, line: str) -> None:
        """Add a line to the job's log."""
        await asyncio.to_thread(self._tell, self._lined(line))

    async def update(self, data: Any) -> None:
        """Replace the job's data, for later attempts to go on from."""
        await asyncio.to_thread(self._tell, Told(data=self._json(data, "data")))

    async def step(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do a part of the work once; see `ActiveJob.step`."""
        kept = await asyncio.to_thread(self._tell, Step(name))
        if kept is None:
            try:
                value = work(*args, **kwargs)
                if isinstance(value, Awaitable):
                    value = await value
                kept = self._json(value, f"the result of step {name!r}")
            except BaseException:
                await asyncio.to_thread(self._tell, Step(name, failed=True))
                raise
            await asyncio.to_thread(self._tell, Step(name, kept))
        return codec.decode(kept)


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

    def send(self, message: Begun | Ended | Broke | Told | Step) -> None:
        self._sock.sendall(self._wire.frame(message))

    def ask(self, told: Told | Step) -> Answer:
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


def _perform(task: ChildTask, line: _Line) -> Ended | Broke:
    """Call the processor; whatever it raises, SystemExit and its like included, is a failure like any other."""
    final_on: tuple[type[BaseException], ...] = ()
    try:
        if task.sys_path:
            sys.path[:] = task.sys_path
        function, binding, final_on = _find(task.module, task.qualname, task.main_path)
        asynchronous = inspect.iscoroutinefunction(function)
        run = (AsyncChildJob if asynchronous else ChildJob)(task, line)
        try:
            args, kwargs = binding.arguments(task.job.data_text, run)
        except DataError as error:
            return Broke(_refused(error), _memory())
        value = asyncio.run(_await(function(*args, **kwargs))) if asynchronous else function(*args, **kwargs)
        return _ended(value, task.data_limit)
    except BaseException as error:  # noqa: BLE001 - foreign code
        return Broke(describe(error, final_on=final_on), _memory())
    finally:
        _flush()


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
