"""Makes connections: to the server of the URL, to the primary that Sentinels name, to the node that has our slot.

Nothing is asked twice here, and nothing is pooled: the driver's own attempts
are off, and `link.py` keeps what is made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import hiredis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from muskox.store.redis.location import Location

__all__ = ["Dialer", "Talk"]

_pack: Callable[..., bytes] = hiredis.pack_command


class Talk(asyncio.Protocol):
    """One connection, which answers in the order in which it was asked. Whoever is disturbed drops it.

    The driver makes the connection and greets the server; then what comes is read here, since the driver's way
    through streams costs more time than all else that Python does for a step.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._heard: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._lost: Exception | None = LostError("the connection was not yet made")

    async def connect(self) -> None:
        """Connect and greet the server."""
        await self._connection.connect()  # type: ignore[no-untyped-call]
        # Nothing is left to be read by the driver: it had the answers to all that it asked.
        writer: Any = self._connection._writer  # noqa: SLF001 - there is no public way to it
        writer.transport.set_protocol(self)
        self._transport, self._lost = writer.transport, None

    @property
    def echoes(self) -> bool:
        """Whether it leads to itself, as a connection to a closed port of the same machine can in rare cases."""
        its = self._transport
        return its is not None and its.get_extra_info("sockname") == its.get_extra_info("peername")

    @property
    def usable(self) -> bool:
        """Whether it was still open when something was last heard of it."""
        return self._lost is None

    async def ask(self, *command: bytes | str | int) -> Any:
        """Send a command and give its answer; an answer that is an error is raised and leaves the connection whole."""
        self.say(*command)
        return await self.hear()

    def say(self, *command: bytes | str | int) -> None:
        """Send a command whose answer is heard later."""
        if self._transport is None or self._lost is not None:
            raise LostError("the connection was lost before")
        self._transport.write(_pack(command))

    async def hear(self) -> Any:
        """Give the next answer."""
        while not self._heard:
            if self._lost is not None:
                raise self._lost
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        answer = self._heard.popleft()
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def hear_within(self, seconds: float) -> Any:
        """Give what is said next, or None after so many seconds of silence, which do the connection no harm."""
        try:
            async with asyncio.timeout(seconds):
                return await self.hear()
        except TimeoutError:
            return None

    def drop(self) -> None:
        """Close it without waiting for anything."""
        if self._transport is not None:
            self._transport.abort()
        self._connection._close()  # type: ignore[no-untyped-call]  # noqa: SLF001 - the public way waits

    # --- what the transport tells --------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets(False)) is not False:
                if type(answer) is not hiredis.PushNotification:
                    self._heard.append(answer)
        except InvalidResponse as error:
            self._lost = error
        if self._heard or self._lost is not None:
            self._ring()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._lost = LostError(f"the connection broke: {exc}" if exc else "the server closed the connection")
        self._ring()

    def _ring(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Dialer:
    """Knows how to reach one store's server."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._found: tuple[str, int] | None = None

    def look_again(self) -> None:
        """Forget which server was found to be the one to write to."""
        self._found = None

    async def dial(self, *, protocol: int | None = None) -> Talk:
        """Connect to the server that has the keys."""
        host, port = self._found or await self._find()
        try:
            talk = await self._dial(host, port, protocol=protocol)
        except (RedisError, OSError):
            self.look_again()
            raise
        self._found = host, port
        return talk

    async def _find(self) -> tuple[str, int]:
        match self._location.kind:
            case "sentinel":
                return await self._first(self._ask_sentinel)
            case "cluster":
                return await self._first(self._ask_node)
            case _:
                return self._location.hosts[0]

    async def _first(self, ask: Callable[[str, int], Awaitable[tuple[str, int]]]) -> tuple[str, int]:
        failed: Exception = LostError("no host was named")
        for host, port in self._location.hosts:
            try:
                return await ask(host, port)
            except (RedisError, OSError) as error:
                failed = error
        raise failed

    async def _ask_sentinel(self, host: str, port: int) -> tuple[str, int]:
        location = self._location
        secrets = {"username": location.sentinel_username, "password": location.sentinel_password}
        talk = await self._dial(host, port, protocol=2, db=0, **secrets)
        try:
            found = await talk.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", location.service)
        finally:
            talk.drop()
        if found is None:
            raise LostError(f"the Sentinel at {host}:{port} knows no service {location.service!r}")
        return found[0].decode(), int(found[1])

    async def _ask_node(self, host: str, port: int) -> tuple[str, int]:
        slot = key_slot(f"{{{self._location.prefix}}}".encode())
        talk = await self._dial(host, port, protocol=2)
        try:
            ranges: Iterable[Any] = await talk.ask("CLUSTER", "SLOTS")
        finally:
            talk.drop()
        for first, last, primary, *_ in ranges:
            if first <= slot <= last:
                # An empty name means the node that was asked.
                return primary[0].decode() if primary[0] else host, int(primary[1])
        raise LostError(f"no node of the cluster serves slot {slot}")

    async def _dial(self, host: str, port: int, **settings: Any) -> Talk:
        location = self._location
        settings.setdefault("username", location.username)
        settings.setdefault("password", location.password)
        if settings.get("protocol") is None:
            settings["protocol"] = location.protocol
        if location.tls:
            settings["ssl_ca_certs"] = location.ca
            settings["ssl_cert_reqs"] = "required" if location.verify else "none"
            settings["ssl_check_hostname"] = location.verify
        connection = (SSLConnection if location.tls else Connection)(
            host=host,
            port=port,
            db=settings.pop("db", location.db),
            # Each use has a deadline of its own around it.
            socket_timeout=None,
            socket_connect_timeout=location.timeout,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            driver_info=None,
            **settings,
        )
        talk = Talk(connection)
        try:
            await talk.connect()
            if talk.echoes:
                raise LostError(f"nobody listens at {host}:{port}")
        except BaseException:
            talk.drop()
            raise
        return talk
