"""Runs blocking processors in a small pool of threads of our own.

Not concurrent.futures: its threads are joined when the interpreter ends, so
one that hangs would hold up the exit for ever, and a hung one takes its place
in the pool with it. A thread cannot be stopped here, only given up and
replaced; whoever needs more declares the processor isolated.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from muskox.core.seam import World

__all__ = ["Threads"]

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """At most `size` threads that can take work, started when they are first needed.

    A thread whose call was given up is not one of them: it is counted in
    `leaked` until its function returns, and another one takes its place.
    """

    def __init__(self, world: World, size: int) -> None:
        self._world = world
        self._size = size
        self._lock = threading.Condition()
        self._queue: deque[_Call] = deque()
        self._live = 0
        self._idle = 0
        self._given_up: dict[_Call, float] = {}
        self._closed = False

    @property
    def leaked(self) -> int:
        """How many threads run on although nobody waits for them any more."""
        return len(self._given_up)

    @property
    def leaked_for(self) -> float:
        """Seconds since the oldest of the leaked threads was given up; 0 when there is none."""
        with self._lock:
            oldest = min(self._given_up.values(), default=None)
        return 0.0 if oldest is None else self._world.monotonic() - oldest

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function` in a thread, with the caller's context variables, and give what it returns.

        Whatever it raises is raised here, SystemExit and its like included. Cancelled before a thread has
        begun, it never runs; cancelled later, it runs on and is counted in `leaked`.
        """
        call = _Call(partial(function, *args, **kwargs))
        self._submit(call)
        try:
            await call.ended
        except asyncio.CancelledError:
            self._give_up(call)
            raise
        return call.answer()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let idle threads end and cancel the calls that no thread has begun; waits for nothing."""
        with self._lock:
            self._closed = True
            waiting, self._queue = self._queue, deque()
            self._lock.notify_all()
        for call in waiting:
            call.ended.cancel()

    def _submit(self, call: _Call) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads are closed; no call can be made any more")
            self._staff(len(self._queue) + 1)
            self._queue.append(call)
            self._lock.notify()

    def _staff(self, calls: int) -> None:
        if calls > self._idle and self._live < self._size:
            threading.Thread(target=self._serve, name="muskox-processor", daemon=True).start()
            self._live += 1

    def _give_up(self, call: _Call) -> None:
        with self._lock:
            if call in self._queue:
                self._queue.remove(call)
            elif call.running:
                self._given_up[call] = self._world.monotonic()
                self._live -= 1
                self._staff(len(self._queue))

    def _serve(self) -> None:
        while (call := self._next()) is not None:
            call.run()
            if not self._finish(call):
                return
            del call  # an idle thread must not keep the arguments and the result alive

    def _next(self) -> _Call | None:
        with self._lock:
            self._idle += 1
            while not self._queue and not self._closed:
                self._lock.wait()
            self._idle -= 1
            if not self._queue:
                self._live -= 1
                return None
            call = self._queue.popleft()
            call.running = True
            return call

    def _finish(self, call: _Call) -> bool:
        """Tell whoever waits; False when the call was given up and its thread has been replaced."""
        with self._lock:
            call.running = False
            if self._given_up.pop(call, None) is not None:
                return False
        call.tell()
        return True


class _Call:
    """One function to be run, and the loop that waits for it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._value: Any = None
        self._error: BaseException | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.running = False

    def run(self) -> None:
        try:
            self._value = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001 - foreign code; whatever it raises belongs to the caller
            self._error = error

    def tell(self) -> None:
        # A closed loop has nobody left in it to be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end)

    def answer(self) -> Any:
        error, self._error = self._error, None
        if error is None:
            return self._value
        if isinstance(error, asyncio.CancelledError):
            # Raised as it is, it would look as if the waiting task were being cancelled.
            raise RuntimeError("the function raised CancelledError") from error
        raise error

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
