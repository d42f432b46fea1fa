"""Keeps the processes that decode: as many as may work at once, used again, and really ended when a run must stop.

They are started with an empty environment, so that a decoder that is taken over
finds no password in it. What they say is read, and not believed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from muskox.apps.media.errors import Broken, Reason, Refused
from muskox.apps.media.images.wire import LONGEST_LINE, Bad, Done, FromChild, Said, ToChild
from muskox.apps.media.limits import ImageLimits

__all__ = ["Pool"]

MOST_RUNS = 500
_ROOT = str(Path(__file__).parents[4])
_START = f"import sys; sys.path[:0] = [{_ROOT!r}]; from muskox.apps.media.images.child import main; main()"
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "VIPS_BLOCK_UNTRUSTED": "1",
    "VIPS_CONCURRENCY": "1",
    "MALLOC_ARENA_MAX": "2",
}


class Pool:
    """At most `size` child processes, started when they are first needed."""

    def __init__(self, size: int, limits: ImageLimits, *, most_runs: int = MOST_RUNS) -> None:
        self._limits = limits
        self._most_runs = most_runs
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        # Its threads live as long as the pool: on Linux a child dies with the thread that started it.
        self._threads = ThreadPoolExecutor(size, "muskox-media")

    @property
    def pids(self) -> list[int]:
        """The processes that live now."""
        return sorted(child.pid for child in self._all if child.alive)

    async def ask(self, order: ToChild, *, wall: float, tell: Callable[[Said], None] | None = None) -> Done:
        """Have an order carried out and give what was found; `tell` hears what is said on the way, in this loop.

        Raises `Refused` or `Broken`; after `wall` seconds it is `Broken` with reason timeout. Cancelled or timed
        out, it comes back when the child is gone.
        """
        async with self._slots, self._child() as child:
            try:
                async with asyncio.timeout(wall):
                    end = await self._converse(child, order, tell)
            except TimeoutError:
                raise Broken(Reason.TIMEOUT, f"the picture was not done after {wall:g} seconds") from None
        if isinstance(end, Bad):
            reason = Reason(end.reason) if end.reason in set(Reason) else Reason.CORRUPT
            raise (Refused if end.final else Broken)(reason, end.text)
        return end

    def close(self) -> None:
        """End all children. Blocks for a moment."""
        for child in list(self._all):
            child.end()
            self._all.discard(child)
        self._idle.clear()
        self._threads.shutdown(wait=False)

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[_Child]:
        """A child that is alive, and given back only if it is fit for more."""
        loop = asyncio.get_running_loop()
        while self._idle and not self._idle[-1].alive:
            self._all.discard(self._idle.pop())
        child = self._idle.pop() if self._idle else await loop.run_in_executor(self._threads, _Child, self._limits)
        self._all.add(child)
        sound = False
        try:
            yield child
            sound = child.alive and child.runs < self._most_runs
        finally:
            if sound:
                self._idle.append(child)
            else:
                # At once and not in a thread: SIGKILL does not wait, and the caller may be cancelled again.
                child.end()
                self._all.discard(child)

    async def _converse(self, child: _Child, order: ToChild, tell: Callable[[Said], None] | None) -> Done | Bad:
        loop = asyncio.get_running_loop()

        def hear(said: Said) -> None:
            if tell is not None:
                loop.call_soon_threadsafe(tell, said)

        return await loop.run_in_executor(self._threads, child.converse, order, hear)


class _Child:
    """One process and the two pipes to it."""

    def __init__(self, limits: ImageLimits) -> None:
        self.runs = 0
        self._talking = False
        self._decoder: msgspec.json.Decoder[FromChild] = msgspec.json.Decoder(FromChild)
        self._process = subprocess.Popen(  # noqa: S603 - ourselves, with numbers
            [sys.executable, "-I", "-c", _START, str(os.getpid()), str(limits.memory), str(limits.output_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def converse(self, order: ToChild, hear: Callable[[Said], None]) -> Done | Bad:
        """Send an order and read until its end; a child that ends before is told of as `Broken`. Blocks."""
        self.runs += 1
        self._talking = True
        try:
            end = self._converse(order, hear)
        except (OSError, ValueError):
            end = None  # it is gone, or talks nonsense: both end here
        finally:
            self._talking = False
        if end is None:
            self.end()
            raise self._epitaph()
        return end

    def end(self) -> None:
        """End it, and all that it may have started, and reap it."""
        if self._process.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            self._process.wait()
        if self._talking:
            return  # whoever reads from it finds its end, and comes here too
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass  # what was still to be sent is of no use to anybody

    def _converse(self, order: ToChild, hear: Callable[[Said], None]) -> Done | Bad | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        while line := self._process.stdout.readline(LONGEST_LINE):
            said = self._decoder.decode(line)
            if isinstance(said, Done | Bad):
                return said
            hear(said)
        return None

    def _epitaph(self) -> Broken:
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            return Broken(Reason.TIMEOUT, "the picture needs more computing than it may have")
        return Broken(Reason.OUT_OF_MEMORY, f"the process that decoded it ended before it was done (code {code})")
