"""A scripted SMTP server on loopback: it answers what the test says, and keeps every byte it got."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

DROP = "drop"
SILENCE = "silence"

Answer = str | None
Script = Callable[[str, int], Answer]
"""From a step ("greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BODY", "COMMIT", "QUIT") and the
number of the connection to an answer line, DROP, SILENCE, or None for the usual answer."""


@dataclass
class Sink:
    """What the server saw. `mails` are the accepted ones, as raw bytes with dots undone."""

    port: int = 0
    script: Script = lambda _step, _connection: None
    extensions: list[str] = field(default_factory=lambda: ["8BITMIME", "ENHANCEDSTATUSCODES"])
    connections: int = 0
    commands: list[str] = field(default_factory=list)
    mails: list[bytes] = field(default_factory=list)
    wires: list[bytes] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    refuse: str = ""
    """Recipients with this in their address do not exist."""

    def answers(self, **answers: str) -> None:
        """Always answer these steps so: `sink.answers(RCPT="550 5.1.1 no such user")`."""
        self.script = lambda step, _connection: answers.get(step)

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for a fact about this server."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


USUAL = {
    "greeting": "220 sink ESMTP",
    "STARTTLS": "220 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on",
    "COMMIT": "250 2.0.0 queued as 12345",
    "QUIT": "221 bye",
}


@asynccontextmanager
async def sink(**settings: object) -> AsyncIterator[Sink]:
    """Run a sink on a free port of 127.0.0.1."""
    state = Sink(**settings)  # type: ignore[arg-type]
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(task := asyncio.current_task())  # type: ignore[arg-type]
        try:
            await _Talk(state, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            running.discard(task)
            writer.close()
            await state._tell()

    server = await asyncio.start_server(
        serve, "127.0.0.1", 0, limit=32_000_000, ssl=state.tls if state.implicit else None
    )
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Talk:
    def __init__(self, sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sink, self.reader, self.writer = sink, reader, writer
        sink.connections += 1
        self.number = sink.connections

    async def answer(self, step: str) -> bool:
        """Answer a step; False ends the conversation."""
        line = self.sink.script(step, self.number) or USUAL.get(step, "250 ok")
        if line == DROP:
            self.writer.transport.abort()
            return False
        if line == SILENCE:
            await self.reader.read()
            return False
        self.writer.write(line.encode() + b"\r\n")
        await self.writer.drain()
        return not line.startswith("421")

    async def run(self) -> None:
        if not await self.answer("greeting"):
            return
        while line := await self.reader.readline():
            text = line.decode().rstrip("\r\n")
            self.sink.commands.append(text)
            await self.sink._tell()
            verb = text.split(" ")[0].upper()
            if verb == "EHLO" and self.sink.script("EHLO", self.number) is None:
                lines = ["sink", *self.sink.extensions]
                for index, extension in enumerate(lines):
                    self.writer.write(f"250{' ' if index == len(lines) - 1 else '-'}{extension}\r\n".encode())
                await self.writer.drain()
            elif verb == "RCPT" and self.sink.refuse and self.sink.refuse in text:
                self.writer.write(b"550 5.1.1 no such user\r\n")
            elif not await self.answer(verb):
                return
            elif verb == "STARTTLS" and self.sink.tls is not None:
                await self.writer.start_tls(self.sink.tls)
            elif verb == "QUIT" or (verb == "DATA" and self.usual("DATA") and not await self.body()):
                return

    def usual(self, step: str) -> bool:
        return (self.sink.script(step, self.number) or "354").startswith("354")

    async def body(self) -> bool:
        if self.sink.script("BODY", self.number) == DROP:
            await self.reader.read(200)
            self.writer.transport.abort()
            return False
        wire = await self.reader.readuntil(b"\r\n.\r\n")
        self.sink.wires.append(wire)
        answer = self.sink.script("COMMIT", self.number) or USUAL["COMMIT"]
        if answer.startswith("250") or answer in {DROP, SILENCE}:
            self.sink.mails.append((b"\r\n" + wire[:-3]).replace(b"\r\n.", b"\r\n")[2:])
            await self.sink._tell()
        return await self.answer("COMMIT")
