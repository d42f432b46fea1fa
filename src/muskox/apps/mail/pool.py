"""Keeps conversations with an SMTP server open for the next mail: the transport that sends by SMTP.

A connection is used by one mail at a time and by one process. It is dropped after
any fault, and kept after a refusal that says something of one recipient only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from muskox.apps.mail.replies import Fault, Phase, Reply
from muskox.apps.mail.smtp import Ended, Envelope, Session, SmtpServer
from muskox.apps.mail.worlds import Spawned, World

__all__ = ["Pooling", "Smtp"]


@dataclass(frozen=True, slots=True)
class Pooling:
    """How many connections a process holds, for how many mails each, and for how many seconds without any.

    One that was idle for longer than `check_after` seconds is asked for a sign of life before it is used.
    """

    connections: int = 4
    messages: int = 100
    idle: float = 30.0
    check_after: float = 10.0


@dataclass(slots=True)
class _Room:
    """What belongs to one event loop: places for connections, those that are idle, and who opens one."""

    loop: asyncio.AbstractEventLoop
    places: asyncio.Semaphore
    idle: list[Session] = field(default_factory=list)
    first: asyncio.Future[Reply | None] | None = None
    proven: bool = False
    sweeper: Spawned | None = None


class Smtp:
    """The transport that sends by SMTP, over a few connections that are used again."""

    proves_delivery = False

    def __init__(self, server: SmtpServer, world: World, *, name: str = "smtp", pooling: Pooling | None = None) -> None:
        self.name = name
        self._server = server
        self._world = world
        self._pooling = pooling or Pooling()
        self._context: ssl.SSLContext | None = server.context
        self._place: _Room | None = None
        self._opened = 0

    async def deliver(self, envelope: Envelope, before_commit: Callable[[], Awaitable[None]]) -> Reply:
        """Try once. `before_commit` is awaited before the first byte of the end-of-data marker is written;
        what it raises ends the attempt without the marker, and is raised here.
        """
        room = self._room()
        async with room.places:
            session = await self._idle_session(room)
            if session is not None:
                reply = await self._send(room, session, envelope, before_commit)
                if not _hung_up(reply):
                    return reply
                # It had gone while nobody used it, and nothing of this mail was told: a new one, once.
            try:
                session = await self._new_session(room)
            except Ended as ended:
                return ended.reply
            return await self._send(room, session, envelope, before_commit)

    async def probe(self) -> Reply:
        """Find out whether the server lets us in, without a mail: connect, greet, log in, ask, and go."""
        session = self._session()
        try:
            await session.open()
            await session.check()
        except Ended as ended:
            return ended.reply
        finally:
            await session.close()
        return Reply(Phase.DONE, 250)

    @property
    def connections(self) -> int:
        """How many connections are open and idle, in this process."""
        return len(self._place.idle) if self._place else 0

    async def close(self) -> None:
        """Let go of idle connections; the transport may be used again afterwards."""
        room, self._place = self._place, None
        if room is None or room.loop is not asyncio.get_running_loop():
            return
        if room.sweeper is not None:
            room.sweeper.cancel()
        for session in room.idle:
            await session.close()
        room.idle.clear()

    # --- sessions ----------------------------------------------------------------

    async def _send(
        self, room: _Room, session: Session, envelope: Envelope, before_commit: Callable[[], Awaitable[None]]
    ) -> Reply:
        keep = False
        try:
            reply = await session.send(envelope, before_commit)
            keep = session.may_go_on(reply)
        except Ended as ended:
            reply = ended.reply
            keep = session.may_go_on(reply)
        finally:
            if keep and session.sent < self._pooling.messages and room is self._place:
                self._put_back(room, session)
            else:
                await session.close()
        return Reply(reply.phase, reply.code, reply.enhanced, reply.text, reply.fault, session.name)

    async def _idle_session(self, room: _Room) -> Session | None:
        """Take a connection that is alive, the one that was used last."""
        while room.idle:
            session = room.idle.pop()
            idle = self._world.monotonic() - session.used_at
            if idle < self._pooling.idle:
                if idle <= self._pooling.check_after:
                    return session
                try:
                    await session.check()
                    return session
                except Ended:
                    pass
            await session.close()
        return None

    async def _new_session(self, room: _Room) -> Session:
        """Open a connection. Until one has been opened nobody else tries: a wrong password is tried once, and not
        by everybody at the same time.
        """
        while not room.proven and room.first is not None:
            refusal = await asyncio.shield(room.first)
            if refusal is not None:
                raise Ended(refusal)
        alone = None if room.proven else room.loop.create_future()
        if alone is not None:
            room.first = alone
        refused: Reply | None = Reply(Phase.CONNECT, None, None, "given up", Fault.NETWORK)
        session = self._session()
        try:
            await session.open()
            room.proven, refused = True, None
            return session
        except Ended as ended:
            room.proven, refused = False, ended.reply
            raise
        finally:
            if refused is not None:
                await session.close()
            if alone is not None:
                room.first = None
                alone.set_result(refused)

    def _session(self) -> Session:
        if self._context is None:
            self._context = ssl.create_default_context()
        self._opened += 1
        return Session(self._server, self._context, f"{self.name}-{self._opened}")

    def _put_back(self, room: _Room, session: Session) -> None:
        session.used_at = self._world.monotonic()
        room.idle.append(session)
        if room.sweeper is None or room.sweeper.done():
            room.sweeper = self._world.spawn(self._sweep(room), name="muskox-mail-idle")

    async def _sweep(self, room: _Room) -> None:
        """Close connections that nobody has used for a while; ends when none is idle."""
        try:
            while room.idle:
                oldest = min(session.used_at for session in room.idle)
                await self._world.sleep(max(0.0, oldest + self._pooling.idle - self._world.monotonic()) + 0.05)
                limit = self._world.monotonic() - self._pooling.idle
                old = [session for session in room.idle if session.used_at <= limit]
                room.idle[:] = [session for session in room.idle if session.used_at > limit]
                for session in old:
                    await session.close()
        except asyncio.CancelledError:
            # The loop is ending, and nobody will come back for these.
            for session in room.idle:
                session.abort()
            raise

    def _room(self) -> _Room:
        """The room of the running loop; what another loop has left is its own to close."""
        loop = asyncio.get_running_loop()
        if self._place is None or self._place.loop is not loop:
            self._place = _Room(loop, asyncio.Semaphore(self._pooling.connections))
        return self._place


def _hung_up(reply: Reply) -> bool:
    """Whether a connection from the pool was gone before the mail was announced on it."""
    return reply.phase is Phase.MAIL and (reply.fault is Fault.NETWORK or reply.code == 421)
