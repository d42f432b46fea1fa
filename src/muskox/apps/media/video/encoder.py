"""Runs encoders: each in a process group of its own, within limits, and never longer than it is wanted.

It ends with the caller's cancel, at its wall limit, when it makes no headway,
and with this process, however that dies. What it is told to do, and what
becomes of its files, is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muskox import World
from muskox.apps.media.errors import Broken, Reason, Refused
from muskox.apps.media.video.errors import EncoderFailed

__all__ = ["TAIL", "Encoder", "Headway", "Hear", "Reins"]

Hear = Callable[[bytes], Awaitable[None]]
"""Takes what the encoder writes to its standard output; what it raises ends the encoder."""

TAIL = 16 * 1024
"""So many last bytes of what the encoder complains of are kept."""

BEAT = 0.25
LAST_WORDS = 1.0
CHUNK = 64 * 1024

_LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Reins:
    """What one encoder may take: seconds of time and of computing, bytes of memory and of output.

    `stall`: seconds without headway after which it is given up; None where it tells of none. `grace`: seconds
    between asking it to go and making it go.
    """

    wall: float
    memory: int
    cpu: float
    output: int
    stall: float | None = None
    nice: int = 10
    grace: float = 2.0


class Headway:
    """What grows while an encoder works; whoever reads its reports writes it here."""

    def __init__(self) -> None:
        self.position: object = None


class Encoder:
    """Starts encoders and sees each through to its end."""

    def __init__(self, world: World, *, watchdog: bool = sys.platform != "linux") -> None:
        self._world = world
        self._watchdog = watchdog

    async def run(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        reins: Reins,
        hear: Hear | None = None,
        headway: Headway | None = None,
    ) -> str:
        """Run a program to its end in `folder`; gives the end of what it complained of.

        Raises `EncoderFailed` when it ends with a code; `Broken` when it stalled, took too long or was killed;
        `Refused` when it wrote more than it may; and what `hear` raises. In each case nothing of it runs any more.
        """
        running = await _start(argv, folder, reins, watchdog=self._watchdog)
        try:
            return await self._see_through(running, reins, hear or _drop, headway)
        finally:
            await _surely(self._world, running.end(reins.grace))

    async def _see_through(self, running: _Running, reins: Reins, hear: Hear, headway: Headway | None) -> str:
        ended = self._world.spawn(running.process.wait(), name="muskox-encoder-end")
        heard = self._world.spawn(_pass_on(running.out, hear), name="muskox-encoder-out")
        errors = self._world.spawn(running.keep_errors(), name="muskox-encoder-errors")
        watch = self._world.spawn(self._watch(reins, headway), name="muskox-encoder-watch")
        try:
            waiting = {ended, heard, watch}
            while not ended.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in done - {ended}:
                    one.result()
            # What it has started may live on and hold the pipes open.
            running.signal_group(signal.SIGKILL)
            await asyncio.wait({heard, errors}, timeout=LAST_WORDS)
            if heard.done():
                heard.result()
            _judge(running)
            return running.complaint
        finally:
            for one in (ended, heard, errors, watch):
                one.cancel()
            await asyncio.wait({ended, heard, errors, watch})

    async def _watch(self, reins: Reins, headway: Headway | None) -> None:
        """Raise when the encoder takes too long, or goes no further."""
        position, idle = None, 0.0
        start = last = self._world.monotonic()
        while True:
            await self._world.sleep(BEAT)
            now = self._world.monotonic()
            if now - start >= reins.wall:
                raise Broken(Reason.TIMEOUT, f"the encoder was stopped after {reins.wall:g} s, its limit")
            # A machine that slept, or a loop that was busy, says nothing about the encoder: no beat counts double.
            idle += min(now - last, 2 * BEAT)
            last = now
            if headway is not None and headway.position != position:
                position, idle = headway.position, 0.0
            if reins.stall is not None and idle >= reins.stall:
                raise Broken(Reason.STALLED, f"the encoder made no headway for {reins.stall:g} s")


class _Running:
    """One encoder, the pipes that it writes to, and the pipe that ties it to this process."""

    def __init__(
        self, process: asyncio.subprocess.Process, out: asyncio.StreamReader, errors: asyncio.StreamReader, held: _Held
    ) -> None:
        self.process = process
        self.out = out
        self._errors = errors
        self._held = held
        self._tail = b""

    @property
    def complaint(self) -> str:
        return self._tail.decode("utf-8", "replace").strip()

    async def keep_errors(self) -> None:
        while data := await self._errors.read(CHUNK):
            self._tail = (self._tail + data)[-TAIL:]

    def signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    async def end(self, grace: float) -> None:
        """Ask the whole group to go, then make it go; comes back when the encoder is reaped."""
        if self.process.returncode is None:
            self.signal_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), grace)
        self.signal_group(signal.SIGKILL)
        await self.process.wait()
        self._held.close()


class _Held:
    """What must be closed when an encoder has ended."""

    def __init__(self) -> None:
        self._transports: list[asyncio.ReadTransport] = []
        self._fds: set[int] = set()

    def pipe(self) -> tuple[int, int]:
        """A pipe: its reading and its writing end."""
        ends = os.pipe()
        self._fds.update(ends)
        return ends

    async def reader(self, fd: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0)
        )
        self._fds.discard(fd)
        self._transports.append(transport)
        return reader

    def let_go(self, *fds: int) -> None:
        for fd in fds:
            self._fds.discard(fd)
            os.close(fd)

    def close(self) -> None:
        for transport in self._transports:
            transport.close()
        self.let_go(*self._fds)


async def _start(argv: Sequence[str], folder: Path, reins: Reins, *, watchdog: bool) -> _Running:
    held = _Held()
    try:
        # Pipes of our own: the end of the process must be seen also while something that it has started holds them.
        (out, out_end), (errors, errors_end), (lifeline, _) = held.pipe(), held.pipe(), held.pipe()
        readers = await held.reader(out), await held.reader(errors)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _LAUNCHER, json.dumps(_spec(reins, lifeline, watchdog=watchdog))),
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out_end,
            stderr=errors_end,
            pass_fds=(lifeline,),
            start_new_session=True,
            cwd=folder,
            env=_environment(os.environ),
        )
        held.let_go(lifeline, out_end, errors_end)
    except BaseException:
        held.close()
        raise
    return _Running(process, *readers, held)


def _spec(reins: Reins, lifeline: int, *, watchdog: bool) -> dict[str, Any]:
    limits = {"AS": reins.memory, "CPU": max(int(reins.cpu), 1), "FSIZE": reins.output, "CORE": 0}
    return {
        "parent": os.getpid(),
        "lifeline": lifeline,
        "nice": reins.nice,
        "limits": limits,
        "watchdog": watchdog,
    }


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """No secret of the program reaches an encoder."""
    kept = {name: ours[name] for name in _KEPT_ENVIRONMENT if name in ours}
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **kept}


async def _pass_on(reader: asyncio.StreamReader, hear: Hear) -> None:
    while data := await reader.read(CHUNK):
        await hear(data)


async def _drop(data: bytes) -> None:
    """Hear nothing."""


def _judge(running: _Running) -> None:
    code = running.process.returncode
    if code == 0:
        return
    if code is not None and code < 0:
        # Whatever has killed it, another attempt with less may do: most often the system had no memory left.
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        # The limits of computing time and of output end it by signals of their own.
        if -code == signal.SIGXCPU:
            raise Broken(Reason.TIMEOUT, "the encoder used up its time of computing")
        if -code == signal.SIGXFSZ:
            raise Refused(Reason.TOO_LARGE, "the output grew beyond what may come of a file of this size")
        raise Broken(Reason.OUT_OF_MEMORY, f"the encoder was killed by {name}")
    raise EncoderFailed(code or 0, running.complaint)


async def _surely(world: World, work: Coroutine[Any, Any, None]) -> None:
    """Do the work to its end, however often the caller is cancelled; the cancel is raised afterwards."""
    doing = world.spawn(work, name="muskox-encoder-ending")
    cancelled = False
    while not doing.done():
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError:
            cancelled = True
    doing.result()
    if cancelled:
        raise asyncio.CancelledError
