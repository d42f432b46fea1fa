"""Turns the signals of one worker process into its stop: gentle, at once, now.

It catches signals only while a worker runs and puts the old handlers back
afterwards. What a stop means is the worker's own affair.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from muskox.runtime.parent import follow_supervisor

if TYPE_CHECKING:
    from muskox.runtime.worker import Worker

__all__ = ["run_until_signal"]

log = logging.getLogger("muskox.worker")

_CAUGHT = (signal.SIGTERM, signal.SIGINT)
_LAST_WORDS = 1.0
"""Seconds that runs which were given up may still take to end when the process does."""


async def run_until_signal(worker: Worker) -> None:
    """Run the worker until it ends by itself or SIGTERM or SIGINT stops it; from the main thread only.

    The first signal lets runs end, the second gives them back at once, the third ends the process with
    exit code 128 + its number. In a process that a supervisor has started, it also dies with that one.
    """
    follow_supervisor()
    with _Caught(worker, asyncio.get_running_loop()):
        await worker.run()
        await _end_strays()


async def _end_strays() -> None:
    """Cancel what was given up and runs on in this loop; what does not end by that is ended with the process.

    Else the loop would wait for it without end, and the process would have to be killed.
    """
    strays = asyncio.all_tasks() - {asyncio.current_task()}
    for task in strays:
        task.cancel()
    pending = (await asyncio.wait(strays, timeout=_LAST_WORDS))[1] if strays else ()
    if pending:
        log.warning("%d runs do not end when they are cancelled; the process ends without them", len(pending))
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Caught:
    """Handlers for the time of a `with` block.

    Plain handlers and not the loop's own, which a processor that blocks the loop
    would keep from being called: the third signal must always work.
    """

    def __init__(self, worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
        self._worker = worker
        self._loop = loop
        self._count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._catch) for number in _CAUGHT}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, old in self._before.items():
            signal.signal(number, old)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 2:
            os._exit(128 + number)
        self._loop.call_soon_threadsafe(self._stop, self._count == 2)

    def _stop(self, now: bool) -> None:
        self._worker.stop(now=now)
