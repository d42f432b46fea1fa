"""The line to an SMTP server: aiosmtplib's protocol with what it lacks, and the form of a mail on the wire.

It knows bytes and answers; what they mean is for others.
"""

from __future__ import annotations

import asyncio
import re

from aiosmtplib.errors import SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

__all__ = ["Line", "dot_stuffed"]

_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_LINE_START_DOT = re.compile(rb"(?m)^\.")


class Line(SMTPProtocol):
    """aiosmtplib's protocol, with a way to wait until what was written has left, and to see a server out of step."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._writable = asyncio.Event()
        self._writable.set()
        self.gone = asyncio.Event()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writable.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._writable.set()
        self.gone.set()

    async def drained(self) -> None:
        await self._writable.wait()
        if not self.is_connected:
            raise SMTPServerDisconnected("connection lost")

    @property
    def out_of_step(self) -> bool:
        """Whether the server has said more than it was asked; the next answer could then be taken for another's."""
        return bool(self._buffer)


def dot_stuffed(raw: bytes) -> bytes:
    """Double each dot at the beginning of a line; raises `ValueError` for a bare CR or LF (SMTP smuggling)."""
    if _BARE.search(raw):
        raise ValueError("the mail contains a bare CR or LF; all line ends must be CRLF")
    ended = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
    return _LINE_START_DOT.sub(b"..", ended)
