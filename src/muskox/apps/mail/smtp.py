"""Hands one mail to an SMTP server, step by step, so that it is always known how far it came.

aiosmtplib does the talking; what is written when is decided here. It answers
with a `Reply` and never raises for trouble with the server. What the reply means
is said in `replies.py`; pooling and breakers are not for this module.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode
from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected, SMTPTimeoutError
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from muskox.apps.mail.addresses import Address
from muskox.apps.mail.replies import Fault, Phase, Reply, safe_text

__all__ = ["Envelope", "Smtp", "SmtpServer", "Timeouts", "Tls", "dot_stuffed"]

_BLOCK = 65_536
_GOODBYE = 0.2
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_LINE_START_DOT = re.compile(rb"(?m)^\.")


class Tls(StrEnum):
    """How the line is protected. There is no way from the first two to the third."""

    STARTTLS = "starttls"
    IMPLICIT = "tls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds per step. `commit` is long on purpose: a shorter one makes duplicates (RFC 5321, 4.5.3.2.6)."""

    connect: float = 30.0
    greeting: float = 60.0
    command: float = 120.0
    block: float = 180.0
    commit: float = 600.0


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where the relay is and how to speak with it. Certificates are verified unless `context` says otherwise."""

    host: str
    port: int = 587
    tls: Tls = Tls.STARTTLS
    username: str = ""
    password: str = field(default="", repr=False)
    timeouts: Timeouts = Timeouts()
    context: ssl.SSLContext | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the server is given: from whom, to whom, and the bytes with CRLF line ends."""

    message_id: str
    sender: str
    recipient: Address
    raw: bytes
    needs_smtputf8: bool


class Smtp:
    """The transport that sends by SMTP, one connection per mail."""

    name = "smtp"
    proves_delivery = False

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    async def deliver(self, envelope: Envelope, before_commit: Callable[[], Awaitable[None]]) -> Reply:
        """Try once. `before_commit` is awaited before the first byte of the end-of-data marker is written;
        what it raises ends the attempt without the marker, and is raised here.
        """
        session = _Session(self._server)
        try:
            return await session.send(envelope, before_commit)
        except _Ended as ended:
            return ended.reply
        finally:
            await session.close()


class _Ended(Exception):
    """The attempt is over; `reply` says where and how."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.phase)
        self.reply = reply


class _Line(SMTPProtocol):
    """aiosmtplib's protocol, with a way to wait until what was written has left."""

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


class _Session:
    """One conversation. `phase` is always the step that is being tried."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._times = server.timeouts
        self._line: _Line | None = None
        self._phase = Phase.CONNECT
        self._offers: dict[str, str] = {}
        self._logins: list[str] = []

    async def send(self, envelope: Envelope, before_commit: Callable[[], Awaitable[None]]) -> Reply:
        await self._connect()
        await self._greet()
        await self._hello()
        if self._server.tls is Tls.STARTTLS:
            await self._start_tls()
            await self._hello()
        if self._server.username:
            await self._login()
        await self._announce(envelope)
        tail = await self._write_body(dot_stuffed(envelope.raw))
        await before_commit()
        return await self._commit(tail)

    async def close(self) -> None:
        """Say good-bye without waiting for an answer, and let go of the connection."""
        line = self._line
        if line is None or line.transport is None:
            return
        transport = cast(asyncio.Transport, line.transport)  # uvloop's is none by its class
        try:
            if self._phase in {Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DONE} and line.is_connected:
                line.write(b"QUIT\r\n")
            transport.close()
            async with asyncio.timeout(_GOODBYE):
                await line.gone.wait()
        except (TimeoutError, SMTPException, OSError):
            transport.abort()

    # --- the steps -------------------------------------------------------------

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        implicit = self._server.tls is Tls.IMPLICIT
        try:
            async with asyncio.timeout(self._times.connect):
                _, self._line = await loop.create_connection(
                    lambda: _Line(loop),
                    self._server.host,
                    self._server.port,
                    ssl=self._context() if implicit else None,
                )
        except ssl.SSLError as error:
            self._phase = Phase.TLS
            raise self._fault(Fault.TLS, error) from None
        except (socket.gaierror, UnicodeError) as error:
            raise self._fault(Fault.DNS, error) from None
        except TimeoutError:
            raise self._fault(Fault.TIMEOUT, f"no connection within {self._times.connect:g} s") from None
        except OSError as error:
            raise self._fault(Fault.NETWORK, error) from None

    async def _greet(self) -> None:
        self._phase = Phase.GREETING
        answer = await self._heard(self._open_line.read_response(timeout=self._times.greeting))
        if answer.code != 220:
            raise self._refusal(answer)

    async def _hello(self) -> None:
        self._phase = Phase.EHLO
        answer = await self._ask(b"EHLO", self._own_name())
        if answer.code == 250:
            self._offers, self._logins = parse_esmtp_extensions(answer.message)
            return
        self._offers, self._logins = {}, []
        if not 500 <= answer.code <= 599:
            raise self._refusal(answer)
        answer = await self._ask(b"HELO", self._own_name())
        if answer.code != 250:
            raise self._refusal(answer)

    async def _start_tls(self) -> None:
        self._phase = Phase.TLS
        if "starttls" not in self._offers:
            raise self._fault(Fault.TLS, "the server does not offer STARTTLS; SMTP_TLS=none would send in clear")
        try:
            await self._heard(
                self._open_line.start_tls(
                    self._context(), server_hostname=self._server.host, timeout=self._times.greeting
                )
            )
        except ssl.SSLError as error:
            raise self._fault(Fault.TLS, error) from None

    async def _login(self) -> None:
        self._phase = Phase.AUTH
        user, password = self._server.username, self._server.password
        clear = self._server.tls is Tls.NONE
        for method in ("cram-md5", "plain", "login") if clear else ("plain", "login", "cram-md5"):
            if method in self._logins:
                break
        else:
            raise self._fault(Fault.AUTH, "the server offers no login that we know: PLAIN, LOGIN, CRAM-MD5")
        if method == "plain":
            answer = await self._ask(b"AUTH", b"PLAIN", auth_plain_encode(user, password))
        elif method == "login":
            encoded_user, encoded_password = auth_login_encode(user, password)
            answer = await self._ask(b"AUTH", b"LOGIN", encoded_user)
            if answer.code == 334:
                answer = await self._ask(encoded_password)
        else:
            answer = await self._ask(b"AUTH", b"CRAM-MD5")
            if answer.code == 334:
                answer = await self._ask(auth_crammd5_verify(user, password, answer.message))
        if answer.code != 235:
            raise self._refusal(answer)

    async def _announce(self, envelope: Envelope) -> None:
        """MAIL, RCPT and DATA."""
        self._phase = Phase.MAIL
        answer = await self._ask(b"MAIL", b"FROM:<%s>" % envelope.sender.encode(), *self._mail_options(envelope))
        if answer.code != 250:
            raise self._refusal(answer)
        self._phase = Phase.RCPT
        answer = await self._ask(b"RCPT", b"TO:<%s>" % str(envelope.recipient).encode())
        if answer.code not in {250, 251, 252}:
            raise self._refusal(answer)
        self._phase = Phase.DATA
        answer = await self._ask(b"DATA")
        if answer.code != 354:
            raise self._refusal(answer)

    def _mail_options(self, envelope: Envelope) -> list[bytes]:
        options: list[bytes] = []
        if "size" in self._offers:
            limit = self._offers["size"].strip()
            if limit.isdecimal() and 0 < int(limit) < len(envelope.raw):
                text = f"the mail has {len(envelope.raw)} bytes and the server takes at most {limit}"
                raise self._fault(Fault.TOO_LARGE, text)
            options.append(b"SIZE=%d" % len(envelope.raw))
        if envelope.needs_smtputf8:
            if "smtputf8" not in self._offers or "8bitmime" not in self._offers:
                text = "the address has letters outside of ASCII and the server does not offer SMTPUTF8"
                raise self._fault(Fault.INVALID_ADDRESS, text)
            options += [b"BODY=8BITMIME", b"SMTPUTF8"]
        return options

    async def _write_body(self, data: bytes) -> bytes:
        """Write all but the last block, which is returned: it leaves together with the end-of-data marker."""
        self._phase = Phase.BODY
        last = (len(data) - 1) // _BLOCK * _BLOCK
        for start in range(0, last, _BLOCK):
            self._write(data[start : start + _BLOCK])
            try:
                async with asyncio.timeout(self._times.block):
                    await self._open_line.drained()
            except TimeoutError:
                raise self._fault(Fault.TIMEOUT, f"a block was not taken within {self._times.block:g} s") from None
            except (SMTPServerDisconnected, OSError) as error:
                raise self._fault(Fault.NETWORK, error) from None
        return data[last:]

    async def _commit(self, tail: bytes) -> Reply:
        if not self._open_line.is_connected:
            # The line broke while `before_commit` worked: no marker was written, and a repetition is safe.
            raise self._fault(Fault.NETWORK, "connection lost")
        self._phase = Phase.COMMIT
        self._write(tail + b".\r\n")
        answer = await self._heard(self._open_line.read_response(timeout=self._times.commit))
        if answer.code != 250:
            raise self._refusal(answer)
        self._phase = Phase.DONE
        return Reply.of(Phase.DONE, answer.code, answer.message)

    # --- helpers ---------------------------------------------------------------

    @property
    def _open_line(self) -> _Line:
        if self._line is None:
            raise self._fault(Fault.NETWORK, "connection lost")
        return self._line

    def _context(self) -> ssl.SSLContext:
        return self._server.context or ssl.create_default_context()

    def _own_name(self) -> bytes:
        """Name ourselves by address: needs no look-up and is always true (RFC 5321, section 4.1.3)."""
        transport = self._open_line.transport
        host = transport.get_extra_info("sockname", ("127.0.0.1",))[0] if transport else "127.0.0.1"
        return b"[IPv6:%s]" % host.partition("%")[0].encode() if ":" in host else b"[%s]" % host.encode()

    def _write(self, data: bytes) -> None:
        try:
            self._open_line.write(data)
        except (SMTPServerDisconnected, OSError) as error:
            raise self._fault(Fault.NETWORK, error) from None

    async def _ask(self, *words: bytes) -> SMTPResponse:
        return await self._heard(self._open_line.execute_command(*words, timeout=self._times.command))

    async def _heard(self, answer: Awaitable[SMTPResponse]) -> SMTPResponse:
        """Await an answer; what goes wrong with the line becomes the end of the attempt."""
        try:
            return await answer
        except (SMTPTimeoutError, TimeoutError):
            raise self._fault(Fault.TIMEOUT, "no answer in time") from None
        except SMTPResponseException as error:
            raise _Ended(Reply.of(self._phase, error.code, error.message)) from None
        except ssl.SSLError:
            if self._phase is Phase.TLS:
                raise
            raise self._fault(Fault.NETWORK, "the encrypted line broke") from None
        except (SMTPException, OSError) as error:
            raise self._fault(Fault.NETWORK, error) from None

    def _refusal(self, answer: SMTPResponse) -> _Ended:
        return _Ended(Reply.of(self._phase, answer.code, answer.message))

    def _fault(self, fault: Fault, what: object) -> _Ended:
        text = str(what) or type(what).__name__
        return _Ended(Reply(self._phase, None, None, safe_text(text), fault))


def dot_stuffed(raw: bytes) -> bytes:
    """Double each dot at the beginning of a line; raises `ValueError` for a bare CR or LF (SMTP smuggling)."""
    if _BARE.search(raw):
        raise ValueError("the mail contains a bare CR or LF; all line ends must be CRLF")
    ended = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
    return _LINE_START_DOT.sub(b"..", ended)
