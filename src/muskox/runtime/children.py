"""Runs isolated processors in child processes, which a timeout or a cancel can really end.

A child is a fresh interpreter that leads a process group of its own; it is kept
warm for further runs. What is written about a job is not decided here: a run
ends in an `Outcome`, and what it tells meanwhile is handed to the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, assert_never

from muskox.core.errors import DataError, DeclarationError, LeaseLost, MuskoxError, OptionError
from muskox.core.failure import Failure, FailureKind
from muskox.core.life import Died, Limited, Outcome, Raised, Returned
from muskox.core.seam import World
from muskox.runtime.parent import Lifeline
from muskox.runtime.wire import (
    HEADER,
    Above,
    Answer,
    Begun,
    Branch,
    Broke,
    ChildTask,
    Ended,
    FromChild,
    Said,
    Spared,
    Step,
    Told,
    Wire,
)

__all__ = ["ChildTask", "Children", "Tell", "Told", "place"]

Tell = Callable[[Said], Awaitable[str | None]]
"""Does what a run tells to the store; `LeaseLost` and other errors of ours are raised in the run as well.

Gives the kept result of a step that begins, None for all else.
"""

GRACE = 1.0
MOST_RUNS = 500
GROWTH = 256 * 1024 * 1024

_ROOT = str(Path(__file__).parents[2])
_START = f"import sys; sys.path[:0] = [{_ROOT!r}]; from muskox.runtime.child import main; main()"
_TRIES = 3


class Children:
    """At most `size` child processes, started when they are first needed and used again and again.

    A child is replaced after `most_runs` runs, or when it takes `growth` bytes more than after its first.
    """

    def __init__(
        self, world: World, size: int, *, grace: float = GRACE, most_runs: int = MOST_RUNS, growth: int = GROWTH
    ) -> None:
        self._world = world
        self._grace = grace
        self._most_runs = most_runs
        self._growth = growth
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._endings: set[Any] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The processes that live now, busy or idle."""
        return sorted(child.pid for child in self._all)

    async def run(self, task: ChildTask, tell: Tell) -> Outcome:
        """Run one job in a child and give its outcome; waits while all children are busy.

        Cancelled, it ends the child and all that the child has started, and comes back only when they are
        gone: SIGTERM, and SIGKILL after the grace. A child that ends without an answer is the outcome `Died`.
        """
        if os.name != "posix":
            raise OptionError(
                "isolated processors need Linux, macOS or another Unix; declare them without isolated=True"
            )
        if self._closed:
            raise RuntimeError("the child processes are closed; nothing can be run in them any more")
        async with self._slots:
            died = _died("no child process could be started")
            for _ in range(_TRIES):
                try:
                    child = await self._take()
                except OSError as error:
                    return _died(f"no child process could be started: {error}")
                outcome = await self._run_in(child, task, tell)
                if not isinstance(outcome, Died):
                    return outcome
                died = outcome
                # One that died in idleness, or on its way up, says nothing about this job.
                if child.begun or self._closed:
                    break
            return died

    async def close(self) -> None:
        """End all children, the busy ones as well."""
        self._closed = True
        await asyncio.gather(*(self._end(child) for child in list(self._all)))

    async def _take(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            self._retire(child)
        child = await _start(self._world, self._grace)
        self._all.add(child)
        return child

    async def _run_in(self, child: _Child, task: ChildTask, tell: Tell) -> Outcome:
        try:
            outcome = await child.run(task, tell)
        except BaseException:
            await self._surely(self._end(child))
            raise
        spent = child.runs >= self._most_runs or child.grown > self._growth or self._closed
        if spent or not child.alive or isinstance(outcome, Died):
            self._retire(child)
        else:
            self._idle.append(child)
        return outcome

    def _retire(self, child: _Child) -> None:
        # Beside the caller, who has an outcome in hand that a cancel meanwhile must not cost.
        ending = self._world.spawn(self._end(child), name="muskox-retire-child")
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end(self, child: _Child) -> None:
        if child in self._idle:
            self._idle.remove(child)
        await child.end(self._grace)
        self._all.discard(child)

    async def _surely(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work to its end, however often the caller is cancelled; the cancel is raised afterwards."""
        ending = self._world.spawn(work, name="muskox-end-child")
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
        ending.result()
        if cancelled:
            raise asyncio.CancelledError


class _Child:
    """One child process: the socket to it, and what it has done so far."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        lifeline: Lifeline,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._lifeline: Lifeline | None = lifeline
        self._wire: Wire[FromChild] = Wire(FromChild)  # type: ignore[arg-type]
        self._first_memory = 0
        self.watch: Any = None
        self.begun = False
        self.runs = 0
        self.grown = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def run(self, task: ChildTask, tell: Tell) -> Outcome:
        self.begun = False
        await self._send(task)
        while (message := await self._receive()) is not None:
            match message:
                case Begun():
                    self.begun = True
                case Told() | Step() | Branch() | Above():
                    await self._send(await _ask(tell, message))
                case Ended(result, unkept, memory):
                    self._count(memory)
                    return Returned(result, unkept)
                case Spared(retry_after, hold, memory):
                    self._count(memory)
                    return Limited(retry_after, hold)
                case Broke(failure, memory):
                    self._count(memory)
                    return Raised(failure)
                case _:
                    assert_never(message)
        await self._process.wait()
        return _died(self._epitaph())

    async def end(self, grace: float) -> None:
        """Ask the whole group to go, then make it go, and wait until the child is reaped."""
        if self.alive:
            self._signal_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
        # Also when the child is gone: what it has started may not be.
        self._signal_group(signal.SIGKILL)
        await self._process.wait()
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
        self.watch.cancel()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def see_off(self, world: World, grace: float) -> None:
        """Wait for the child's end and see to it that whoever waits for its answer learns of it."""
        await self._process.wait()
        self._signal_group(signal.SIGKILL)
        # What it still said may be on its way; but a stray process may keep the line open for ever.
        await world.sleep(grace)
        self._reader.feed_eof()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _send(self, message: ChildTask | Answer) -> None:
        # A child that is gone is noticed by the reading side.
        with contextlib.suppress(OSError):
            self._writer.write(self._wire.frame(message))
            await self._writer.drain()

    async def _receive(self) -> FromChild | None:
        try:
            header = await self._reader.readexactly(HEADER)
            return self._wire.read(await self._reader.readexactly(self._wire.length(header)))
        except (asyncio.IncompleteReadError, OSError):
            return None

    def _count(self, memory: int) -> None:
        self.runs += 1
        self._first_memory = self._first_memory or memory
        self.grown = memory - self._first_memory

    def _epitaph(self) -> str:
        code = self._process.returncode or 0
        if code >= 0:
            return f"child process {self.pid} ended with exit code {code} before it answered"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unnamed"
        return f"child process {self.pid} was killed by signal {-code} ({name})"


def place(function: Callable[..., Any]) -> tuple[str, str, str | None]:
    """Say where a child process finds a function: module, name in it, and the program's file for `__main__`.

    Raises `DeclarationError` when it could not find it: a lambda, a method, a function inside a function.
    """
    module, name = function.__module__, function.__qualname__
    if not name.isidentifier():
        raise DeclarationError(
            f"{module}.{name} cannot be isolated: a child process must find it by its name; define it at module level"
        )
    if module != "__main__":
        return module, name, None
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name, name, None
    file = getattr(main, "__file__", None)
    if file is None:
        raise DeclarationError(f"{name} cannot be isolated: its program has no file that a child process could import")
    return module, name, str(Path(file).absolute())


def _died(message: str) -> Died:
    return Died(Failure(FailureKind.STALLED, "ChildDied", message))


async def _start(world: World, grace: float) -> _Child:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    lifeline = Lifeline()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", _START, str(theirs.fileno()), str(lifeline.fd), str(os.getpid())),
            pass_fds=(theirs.fileno(), lifeline.fd),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        lifeline.close()
        writer.close()
        raise
    finally:
        theirs.close()
        lifeline.handed_over()
    child = _Child(process, reader, writer, lifeline)
    child.watch = world.spawn(child.see_off(world, grace), name=f"muskox-child-{process.pid}")
    return child


async def _ask(tell: Tell, told: Said) -> Answer:
    try:
        return Answer(value=await tell(told))
    except LeaseLost:
        return Answer(lost=True)
    except (DataError, OptionError) as error:
        return Answer(wrong=str(error))
    except MuskoxError as error:
        return Answer(trouble=str(error) or type(error).__name__)
