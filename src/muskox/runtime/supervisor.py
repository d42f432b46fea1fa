"""Keeps several worker processes of one program running, and starts them anew when its source changes.

Each is a fresh interpreter, never a fork. Jobs are none of its business: it
opens no store, and a worker that it loses is recovered like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

from muskox.core.errors import OptionError
from muskox.core.seam import World
from muskox.runtime.parent import Lifeline

try:
    from watchfiles import PythonFilter, awatch  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _CAN_WATCH = False
else:
    _CAN_WATCH = True

__all__ = ["run_processes"]

_log = logging.getLogger("muskox.supervisor")

SETTLED_AFTER = 10.0
"""Seconds that a worker must have lived for its end not to count as a failed start."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0

_KILL = 3
"""The count of signals from which on nobody is asked any more."""


def run_processes(commands: Sequence[Sequence[str]], *, reload: Iterable[Path] = (), world: World) -> int:
    """Run a process for each command until a signal ends them; returns the exit code, 0 when all ended well.

    The first SIGTERM or SIGINT is handed to all as SIGTERM, and so is the second; the third kills them. One that
    ends unasked is started again, after a growing delay when it does so at once. With `reload`, a change to a
    Python file under these paths restarts all of them gently (needs watchfiles). From the main thread only.
    """
    if not commands:
        raise OptionError("processes must be at least 1, not 0; leave it out for one")
    paths = tuple(reload)
    for path in paths:
        if not path.exists():
            raise OptionError(
                f"reload cannot watch {path}, which does not exist; give a folder or file with source code"
            )
    if paths and not _CAN_WATCH:
        raise OptionError("reload needs watchfiles, which is not installed; pip install muskox[watch]")
    return asyncio.run(_Supervisor(world).run(commands, paths))


class _Supervisor:
    """The worker processes of one `run_processes`, and how far their stop has come."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lifelines: dict[asyncio.subprocess.Process, Lifeline] = {}
        self._reloaded: set[asyncio.subprocess.Process] = set()
        self._signals = 0
        self._clean = True
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop

    async def run(self, commands: Sequence[Sequence[str]], paths: tuple[Path, ...]) -> int:
        self._loop = asyncio.get_running_loop()
        before = {number: signal.signal(number, self._catch) for number in (signal.SIGTERM, signal.SIGINT)}
        duties = [
            self._world.spawn(self._keep(command), name=f"muskox-process-{number}")
            for number, command in enumerate(commands)
        ]
        watching = [self._world.spawn(self._reload(paths), name="muskox-reload")] if paths else []
        try:
            await asyncio.gather(*duties)
        finally:
            # Only after an error is anything left to be ended here.
            self._stop(most=True)
            for task in watching:
                task.cancel()
            await asyncio.gather(*duties, *watching, return_exceptions=True)
            for number, old in before.items():
                signal.signal(number, old)
        return 0 if self._clean else 1

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop)

    def _stopping(self) -> bool:
        return self._signals > 0

    async def _keep(self, command: Sequence[str]) -> None:
        """Keep one worker process running until the supervisor stops."""
        delay = 0.0
        while not self._stopping():
            began = self._world.monotonic()
            process = await self._spawn(command)
            code = await self._wait(process)
            if self._stopping():
                # SIGTERM before it could catch it: it had not begun anything yet.
                self._clean = self._clean and code in (0, -signal.SIGTERM)
            elif process in self._reloaded:
                self._reloaded.discard(process)
                delay = 0.0
            else:
                lived = self._world.monotonic() - began
                delay = 0.0 if lived >= SETTLED_AFTER else min(max(FIRST_DELAY, delay * 2), LONGEST_DELAY)
                await self._pause(process.pid, code, delay)

    async def _pause(self, pid: int, code: int, delay: float) -> None:
        _log.warning("worker process %d ended with %s; another one starts in %.1f s", pid, _said(code), delay)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), delay)

    async def _spawn(self, command: Sequence[str]) -> asyncio.subprocess.Process:
        lifeline = Lifeline()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **lifeline.environment()},
                pass_fds=(lifeline.fd,),
                # Ctrl-C in a terminal is for the supervisor alone; else each worker would hear it twice.
                start_new_session=True,
            )
        except BaseException:
            lifeline.close()
            raise
        finally:
            lifeline.handed_over()
        self._lifelines[process] = lifeline
        # What was said while it was on its way.
        for number in range(1, self._signals + 1):
            _send(process, number)
        return process

    async def _wait(self, process: asyncio.subprocess.Process) -> int:
        code = await process.wait()
        self._lifelines.pop(process).close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # What it has started and left behind.
            os.killpg(process.pid, signal.SIGKILL)
        return code

    def _stop(self, *, most: bool = False) -> None:
        self._signals = _KILL if most else self._signals + 1
        for process in self._lifelines:
            _send(process, self._signals)
        self._tell_news()

    async def _reload(self, paths: tuple[Path, ...]) -> None:
        try:
            async for changes in awatch(*paths, watch_filter=PythonFilter()):
                names = ", ".join(sorted({Path(path).name for _, path in changes}))
                _log.info("%s changed; the worker processes start anew", names)
                for process in self._lifelines.keys() - self._reloaded:
                    self._reloaded.add(process)
                    _send(process, 1)
                self._tell_news()
        except (OSError, RuntimeError) as error:
            _log.error("the source files cannot be watched: %s; changes need a restart by hand", error)

    def _tell_news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _send(process: asyncio.subprocess.Process, count: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if count >= _KILL:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGTERM)


def _said(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
