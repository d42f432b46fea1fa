"""Runs small pieces of work on the database, all that wait at a moment in one transaction.

A message takes three short writes. Alone each would pay for a commit and for its
turn among the writers; together they share both. What one of them raises is its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

__all__ = ["Writer"]

R = TypeVar("R")
MOST = 64
"""How many pieces of work share one transaction; other processes wait for it meanwhile."""


@dataclass(frozen=True, slots=True)
class _Work:
    do: Callable[[Connection], Any]
    answer: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Takes work from coroutines. Work may run twice, since others in its transaction may fail: it must change the
    database and nothing else.
    """

    def __init__(self, engine: Engine, threads: Executor) -> None:
        self._engine = engine
        self._threads = threads
        self._lock = threading.Lock()
        self._waiting: deque[_Work] = deque()
        self._busy = False

    async def run(self, do: Callable[[Connection], R]) -> R:
        """Do the work in a transaction, perhaps with others; returns when it is committed."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        with self._lock:
            self._waiting.append(_Work(do, answer, loop))
            idle, self._busy = not self._busy, True
        if idle:
            self._threads.submit(self._drain)
        return await answer

    def _drain(self) -> None:
        while True:
            with self._lock:
                batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                if not batch:
                    self._busy = False
                    return
            for work, (value, error) in zip(batch, self._together(batch), strict=True):
                try:
                    work.loop.call_soon_threadsafe(_answer, work.answer, value, error)
                except RuntimeError:  # its loop is closed: nobody waits there any more
                    pass

    def _together(self, batch: list[_Work]) -> list[tuple[Any, BaseException | None]]:
        try:
            with self._engine.begin() as connection:
                return [(work.do(connection), None) for work in batch]
        except Exception as error:  # noqa: BLE001 - whatever the work raises is handed to who waits for it
            if len(batch) == 1:
                return [(None, error)]
            # Nothing was committed. Each alone, so that the one that failed takes nobody with it.
            return [self._together([work])[0] for work in batch]


def _answer(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
