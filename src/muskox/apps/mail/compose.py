"""Builds the bytes of a mail: text first, then HTML, CRLF only.

The same input gives the same bytes, on every attempt and every machine: date,
message id and boundary come from outside or are derived. It sends nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from muskox.apps.mail.addresses import Address
from muskox.apps.mail.headers import check_custom_name, mailbox_header, raw_header, text_header

__all__ = ["Composed", "Letter", "Sender", "boundary_of", "compose", "message_id_of"]

_LINE_ENDS = re.compile("\r\n|\r|\n")
_LONGEST_7BIT_LINE = 76


@dataclass(frozen=True, slots=True)
class Sender:
    """From whom mails come."""

    address: Address
    display: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    """All that a mail says, before it is put into bytes. `date` is aware; `bulk` mails come from a list."""

    message_id: str
    sender: Sender
    to: Address
    to_display: str
    subject: str
    text: str
    html: str
    date: datetime
    boundary: str
    bulk: bool = False
    list_headers: tuple[tuple[str, str], ...] = ()
    extra_headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Composed:
    """A mail as bytes with CRLF line ends, not dot-stuffed; `needs_smtputf8` when a header holds UTF-8."""

    raw: bytes
    needs_smtputf8: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()


def message_id_of(secret: bytes, message: str, domain: str) -> str:
    """Derive the Message-ID header: the same for every attempt, no personal data, shorter than a line."""
    return f"<{_derive(secret, f'mid{message}', 26)}@{domain}>"


def boundary_of(secret: bytes, message: str) -> str:
    """Derive the MIME boundary; nobody who writes a body can guess it."""
    return f"=_{_derive(secret, f'boundary{message}', 30)}"


def compose(letter: Letter) -> Composed:
    """Put a letter into bytes; raises `HeaderRefused` for what a header cannot carry."""
    head = [
        raw_header("Date", format_datetime(letter.date)),
        raw_header("Message-ID", letter.message_id),
        mailbox_header("From", letter.sender.address, letter.sender.display),
        mailbox_header("To", letter.to, letter.to_display),
        text_header("Subject", letter.subject),
        raw_header("MIME-Version", "1.0"),
    ]
    if not letter.bulk:
        head.append(raw_header("Auto-Submitted", "auto-generated"))
    head += [raw_header(name, value) for name, value in letter.list_headers]
    head += [text_header(check_custom_name(name), value) for name, value in letter.extra_headers]
    head.append(b'Content-Type: multipart/alternative;\r\n boundary="%s"\r\n' % letter.boundary.encode())
    fence = b"--" + letter.boundary.encode()
    raw = b"".join(
        [
            *head,
            b"\r\n",
            fence + b"\r\n" + _part("plain", letter.text) + b"\r\n",
            fence + b"\r\n" + _part("html", letter.html) + b"\r\n",
            fence + b"--\r\n",
        ]
    )
    return Composed(raw, letter.to.needs_smtputf8 or letter.sender.address.needs_smtputf8)


def _derive(secret: bytes, text: str, length: int) -> str:
    digest = hmac.digest(secret, text.encode(), "sha256")
    return base64.b32encode(digest).decode().lower()[:length]


def _part(subtype: str, text: str) -> bytes:
    encoding, body = _encode_body(text)
    charset = b"us-ascii" if encoding == b"7bit" else b"utf-8"
    return b"".join(
        [
            b"Content-Type: text/%s; charset=%s\r\n" % (subtype.encode(), charset),
            b"Content-Transfer-Encoding: %s\r\n\r\n" % encoding,
            body,
        ]
    )


def _encode_body(text: str) -> tuple[bytes, bytes]:
    """Choose the plainest encoding that survives every relay: 7bit, quoted-printable, base64."""
    lines = _LINE_ENDS.split(text)
    if all(_survives_as_it_is(line) for line in lines):
        return b"7bit", "\r\n".join(lines).encode("ascii")
    octets = "\r\n".join(lines).encode("utf-8", "replace")
    quoted = b"\r\n".join(_quoted(line) for line in octets.split(b"\r\n"))
    if len(quoted) <= len(octets) * 4 / 3:
        return b"quoted-printable", quoted
    return b"base64", b"\r\n".join(base64.b64encode(octets[at : at + 57]) for at in range(0, len(octets), 57))


def _survives_as_it_is(line: str) -> bool:
    return line.isascii() and line.isprintable() and len(line) <= _LONGEST_7BIT_LINE and not line.endswith(" ")


def _quoted(line: bytes) -> bytes:
    # b2a_qp leaves a bare LF or CR of its input alone, and there is none here; its soft breaks are bare LF.
    return binascii.b2a_qp(line, quotetabs=False, istext=True).replace(b"=\n", b"=\r\n")
