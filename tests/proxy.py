"""A TCP proxy between a store and its server, with the weather of real networks: delay, cuts, silence, half-open lines.

It runs in a thread and an event loop of its own, so that it serves blocking and asynchronous clients alike and goes
on while a test is busy. All switches may be turned from any thread and hold for lines that are open and for new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

__all__ = ["Line", "Proxy"]

HOST = "127.0.0.1"
PIECE = 65_536


class Line:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.unanswered = False
        """Whether the next answer of the server shall not arrive."""
        self.abandoned = False
        """Whether the server's side is gone and the client is not told."""


class Proxy:
    """Listens on a free port of its own and passes everything on to `host:port`: `with Proxy(host, port) as proxy`.

    `here` is the loopback address that it listens on, so that each of several machines can have one of its own.
    `delay` and `jitter` are seconds by which each piece is held up; `rate` is in bytes per second and way;
    `split` is how many bytes a piece has at most, 0 for as it comes.
    """

    def __init__(self, host: str, port: int, *, here: str = HOST) -> None:
        self._target = host, port
        self._here = here
        self.delay = self.jitter = self.rate = 0.0
        self.split = 0
        self.port = 0
        self.accepted = 0
        """How many connections have been made."""
        self.refused = 0
        """How many were turned away."""
        self._lines: set[Line] = set()
        self._refusing = False
        self._silent_up = self._silent_down = False
        self._cut_up: int | None = None
        self._cut_down: int | None = None
        self._cut_when: Callable[[bytes], bool] | None = None
        self._drop_answer_when: Callable[[bytes], bool] | None = None
        self._changed = asyncio.Event()
        self._cuts = threading.Semaphore(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="muskox-proxy", daemon=True)

    @property
    def address(self) -> str:
        return f"{self._here}:{self.port}"

    # --- the weather -------------------------------------------------------------

    def cut(self, *, gently: bool = False) -> None:
        """Break all lines there are, by a reset, or `gently` in order."""
        self._run(self._cut_all(gently))

    def refuse(self, refusing: bool = True) -> None:
        """Let nobody connect any more, or let them again; lines that are open stay."""
        self._refusing = refusing

    def black_hole(self, *, up: bool = True, down: bool = True) -> None:
        """Swallow everything that is said towards the server, the client or both; lines stay open and silent."""
        self._silent_up, self._silent_down = up, down

    def heal(self) -> None:
        """End delays, silence and refusal. What was swallowed meanwhile is gone."""
        self.delay = self.jitter = self.rate = 0.0
        self.split = 0
        self._refusing = self._silent_up = self._silent_down = False
        self._cut_up = self._cut_down = self._cut_when = self._drop_answer_when = None

    def cut_after(self, *, up: int | None = None, down: int | None = None) -> None:
        """Reset the next line on which so many more bytes have passed towards the server or the client, once."""
        self._cut_up, self._cut_down = up, down

    def cut_before(self, matches: Callable[[bytes], bool]) -> None:
        """Reset the line on which a piece towards the server matches, before the server sees it, once."""
        self._cut_when = matches

    def lose_answer(self, matches: Callable[[bytes], bool]) -> None:
        """Let a piece that matches through to the server and reset the line before its answer comes back, once."""
        self._drop_answer_when = matches

    def half_open(self) -> None:
        """Forget the servers' side of all lines: the client is told nothing, and nothing answers it."""
        self._run(self._close_servers())

    def was_cut(self, seconds: float = 30.0) -> bool:
        """Wait until a line was cut by `cut_after`, `cut_before` or `lose_answer`; whether that came about."""
        return self._cuts.acquire(timeout=seconds)

    @property
    def lines(self) -> int:
        """How many lines are open."""
        return len(self._lines)

    # --- its own life ------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, self._here, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _end(self) -> None:
        self._server.close()
        await self._cut_all(gently=True)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cut_all(self, gently: bool) -> None:
        for line in [*self._lines]:
            self._cut_line(line, gently=gently)

    async def _close_servers(self) -> None:
        for line in [*self._lines]:
            line.abandoned = True
            line.server.transport.abort()

    def _cut_line(self, line: Line, *, gently: bool = False) -> None:
        self._lines.discard(line)
        for side in (line.client, line.server):
            if not gently:
                # Closing with no time to linger sends a reset.
                raw = side.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.transport.abort()
            else:
                side.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.refused += 1
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        line = Line(writer, server_writer)
        self._lines.add(line)
        pumps = [
            asyncio.ensure_future(self._pump(line, reader, server_writer, up=True)),
            asyncio.ensure_future(self._pump(line, server_reader, writer, up=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if line.abandoned:
                await asyncio.wait([pumps[0]])
        except asyncio.CancelledError:
            # The proxy ends; whoever started this task would take its cancellation for a fault.
            return
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._cut_line(line, gently=True)

    async def _pump(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while piece := await reader.read(PIECE):
                if line.abandoned:
                    continue
                await self._pass_on(line, piece, writer, up)

    async def _pass_on(self, line: Line, piece: bytes, writer: asyncio.StreamWriter, up: bool) -> None:
        if self.delay or self.jitter:
            await asyncio.sleep(self.delay + self.jitter * random.random())
        if self._silent_up if up else self._silent_down:
            return
        if not up and line.unanswered:
            # It has begun to answer, so it has done what it was asked.
            self._cut(line)
        if up and self._drop_answer_when is not None and self._drop_answer_when(piece):
            self._drop_answer_when = None
            line.unanswered = True
        if up and self._cut_when is not None and self._cut_when(piece):
            self._cut_when = None
            self._cut(line)
        piece, last = self._allowed(line, piece, up)
        for first in range(0, len(piece), self.split or len(piece) or 1):
            part = piece[first : first + (self.split or len(piece))]
            if self.rate:
                await asyncio.sleep(len(part) / self.rate)
            writer.write(part)
            await writer.drain()
        if last:
            self._cut(line)

    def _allowed(self, line: Line, piece: bytes, up: bool) -> tuple[bytes, bool]:
        """As much of a piece as may pass before the line is to be cut, and whether it is to be cut then."""
        left = self._cut_up if up else self._cut_down
        if left is None:
            return piece, False
        if len(piece) < left:
            left -= len(piece)
            if up:
                self._cut_up = left
            else:
                self._cut_down = left
            return piece, False
        self._cut_up = self._cut_down = None
        return piece[:left], True

    def _cut(self, line: Line) -> None:
        self._cut_line(line)
        self._cuts.release()
        raise ConnectionResetError("cut on purpose")
