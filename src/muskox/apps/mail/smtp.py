"""Talks with an SMTP server, step by step, so that it is always known how far a mail came.

aiosmtplib does the talking; what is written when is decided here. A conversation
ends with a `Reply`, also where the server makes trouble. What the reply means is
said in `replies.py`; who keeps conversations for the next mail is `pool.py`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode
from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected, SMTPTimeoutError
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.response import SMTPResponse

from muskox.apps.mail.addresses import Address
from muskox.apps.mail.replies import Fault, Phase, Reply, safe_text
from muskox.apps.mail.wire import Line, dot_stuffed

__all__ = ["Ended", "Envelope", "Session", "SmtpServer", "Timeouts", "Tls"]

_BLOCK = 65_536
_GOODBYE = 0.2
_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


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
    """What the server is given: from whom, to whom, and the bytes with CRLF line ends.

    `notify` is of what it shall send reports, where it can (RFC 3461): `FAILURE,DELAY`; empty: it decides.
    """

    message_id: str
    sender: str
    recipient: Address
    raw: bytes
    needs_smtputf8: bool
    notify: str = ""


class Ended(Exception):
    """The attempt is over; `reply` says where and how."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.phase)
        self.reply = reply


class Session:
    """One conversation, for one mail after another. `_phase` is always the step that is being tried."""

    def __init__(self, server: SmtpServer, context: ssl.SSLContext, name: str) -> None:
        self._server = server
        self._times = server.timeouts
        self._context = context
        self._line: Line | None = None
        self._phase = Phase.CONNECT
        self._offers: dict[str, str] = {}
        self._logins: list[str] = []
        self._dirty = False
        self.name = name
        self.sent = 0
        self.used_at = 0.0

    async def open(self) -> None:
        """Connect, greet, protect the line and log in; raises `Ended`."""
        await self._connect()
        await self._greet()
        await self._hello()
        if self._server.tls is Tls.STARTTLS:
            await self._start_tls()
            await self._hello()
        if self._server.username:
            await self._login()

    async def send(self, envelope: Envelope, before_commit: Callable[[], Awaitable[None]]) -> Reply:
        """Hand one mail over; raises `Ended` with the answer that ended it."""
        self.sent += 1
        if self._dirty:
            await self._start_over()
        await self._announce(envelope)
        tail = await self._write_body(dot_stuffed(envelope.raw))
        await before_commit()
        return await self._commit(tail)

    async def check(self) -> None:
        """Ask for a sign of life; raises `Ended`."""
        self._phase = Phase.MAIL
        answer = await self._ask(b"NOOP")
        if not 200 <= answer.code <= 299:
            raise self._refusal(answer)

    def may_go_on(self, reply: Reply) -> bool:
        """Whether the conversation can carry another mail after it ended with this reply."""
        line = self._line
        if line is None or not line.is_connected or line.out_of_step or reply.code == 421:
            return False
        if reply.fault is not None:
            return reply.fault in {Fault.INVALID_ADDRESS, Fault.TOO_LARGE}
        if self._phase not in {Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.COMMIT, Phase.DONE}:
            return False
        self._dirty = self._phase in {Phase.RCPT, Phase.DATA}
        return True

    async def close(self) -> None:
        """Say good-bye without waiting for an answer, and let go of the connection."""
        line = self._line
        if line is None or line.transport is None:
            return
        transport = cast(asyncio.Transport, line.transport)  # uvloop's is none by its class
        try:
            polite = {Phase.AUTH, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DONE}
            if self._phase in polite and line.is_connected:
                line.write(b"QUIT\r\n")
            transport.close()
            async with asyncio.timeout(_GOODBYE):
                await line.gone.wait()
        except (TimeoutError, SMTPException, OSError):
            transport.abort()

    def abort(self) -> None:
        """Let go of the connection at once."""
        if self._line is not None and self._line.transport is not None:
            cast(asyncio.Transport, self._line.transport).abort()

    # --- the steps -------------------------------------------------------------

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        implicit = self._server.tls is Tls.IMPLICIT
        try:
            async with asyncio.timeout(self._times.connect):
                _, self._line = await loop.create_connection(
                    lambda: Line(loop),
                    self._server.host,
                    self._server.port,
                    ssl=self._context if implicit else None,
                )
        except ssl.SSLError as error:
            self._phase = Phase.TLS
            raise self._fault(Fault.TLS, error) from None
        except (socket.gaierror, UnicodeError) as error:
            gone = isinstance(error, UnicodeError) or error.errno in _NO_SUCH_HOST
            raise self._fault(Fault.NO_SUCH_HOST if gone else Fault.DNS, error) from None
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
                    self._context, server_hostname=self._server.host, timeout=self._times.greeting
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
        answer = await self._ask(b"RCPT", b"TO:<%s>" % str(envelope.recipient).encode(), *self._rcpt_options(envelope))
        if answer.code not in {250, 251, 252}:
            raise self._refusal(answer)
        self._phase = Phase.DATA
        answer = await self._ask(b"DATA")
        if answer.code != 354:
            raise self._refusal(answer)

    async def _start_over(self) -> None:
        """Drop what a refused recipient has left of the transaction before."""
        self._phase = Phase.MAIL
        answer = await self._ask(b"RSET")
        if answer.code != 250:
            raise self._refusal(answer)
        self._dirty = False

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
        if "dsn" in self._offers:
            options += [b"RET=HDRS", b"ENVID=" + envelope.message_id.encode()]
        return options

    def _rcpt_options(self, envelope: Envelope) -> list[bytes]:
        if not envelope.notify or "dsn" not in self._offers:
            return []
        options = [b"NOTIFY=" + envelope.notify.encode()]
        if not envelope.recipient.needs_smtputf8:
            options.append(b"ORCPT=rfc822;" + _xtext(str(envelope.recipient)))
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
        if self._open_line.out_of_step:
            raise self._fault(Fault.PROTOCOL, "the server said more than it was asked")
        self._phase = Phase.COMMIT
        self._write(tail + b".\r\n")
        answer = await self._heard(self._open_line.read_response(timeout=self._times.commit))
        if answer.code != 250:
            raise self._refusal(answer)
        self._phase = Phase.DONE
        return Reply.of(Phase.DONE, answer.code, answer.message)

    # --- helpers ---------------------------------------------------------------

    @property
    def _open_line(self) -> Line:
        if self._line is None:
            raise self._fault(Fault.NETWORK, "connection lost")
        return self._line

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
        if self._open_line.out_of_step:
            raise self._fault(Fault.PROTOCOL, "the server said more than it was asked")
        return await self._heard(self._open_line.execute_command(*words, timeout=self._times.command))

    async def _heard(self, answer: Awaitable[SMTPResponse]) -> SMTPResponse:
        """Await an answer; what goes wrong with the line becomes the end of the attempt."""
        try:
            return await answer
        except (SMTPTimeoutError, TimeoutError):
            raise self._fault(Fault.TIMEOUT, "no answer in time") from None
        except SMTPResponseException as error:
            raise Ended(Reply.of(self._phase, error.code, error.message)) from None
        except ssl.SSLError:
            if self._phase is Phase.TLS:
                raise
            raise self._fault(Fault.NETWORK, "the encrypted line broke") from None
        except (SMTPException, OSError) as error:
            raise self._fault(Fault.NETWORK, error) from None

    def _refusal(self, answer: SMTPResponse) -> Ended:
        return Ended(Reply.of(self._phase, answer.code, answer.message))

    def _fault(self, fault: Fault, what: object) -> Ended:
        text = str(what) or type(what).__name__
        return Ended(Reply(self._phase, None, None, safe_text(text), fault))


def _xtext(text: str) -> bytes:
    """Write text as the value of a parameter (RFC 3461, section 4)."""
    return b"".join(
        b"+%02X" % octet if octet in b"+=" or not 33 <= octet <= 126 else bytes([octet]) for octet in text.encode()
    )
