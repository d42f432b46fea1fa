"""Signs mails with DKIM, so that receivers know that the domain stands for them (RFC 6376).

dkimpy does the signing. What is signed is fixed here, and so is the moment: the
same mail has the same signature at every attempt. It asks no name server.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dkim
from dkim.crypto import UnparsableKeyError, parse_pem_private_key

from muskox import OptionError
from muskox.apps.mail.addresses import parse_address
from muskox.apps.mail.compose import Composed
from muskox.apps.mail.errors import Refused

__all__ = ["Dkim"]

_SHORTEST_KEY = 1_024
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HEAD_END = b"\r\n\r\n"
_NAME = re.compile(rb"^([!-9;-~]+):", re.MULTILINE)

_SEALED = (
    b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"reply-to", b"mime-version", b"content-type",
    b"list-id", b"list-unsubscribe", b"list-unsubscribe-post",
)  # fmt: skip
"""Signed once more often than they occur, so that nobody on the way can add one."""


@dataclass(frozen=True, slots=True)
class Dkim:
    """Who signs, and with what: `key` is an RSA private key as PEM text, whose public half stands in the DNS at
    `<selector>._domainkey.<domain>`. Raises `OptionError` for what cannot sign.
    """

    domain: str
    selector: str
    key: str = field(repr=False)

    def __post_init__(self) -> None:
        try:
            domain = parse_address(f"postmaster@{self.domain}").domain
        except Refused as error:
            raise OptionError(f"the DKIM domain is {self.domain!r}: {error}") from None
        if not all(_LABEL.fullmatch(label) for label in self.selector.split(".")):
            raise OptionError(
                f"the DKIM selector is {self.selector!r}; it is the part before ._domainkey in the DNS, such as 2026a"
            )
        key = "\n".join(line.strip() for line in self.key.strip().splitlines())
        bits = _bits_of(key)
        if bits < _SHORTEST_KEY:
            raise OptionError(
                f"the DKIM key has {bits} bits, and receivers ignore less than {_SHORTEST_KEY}; make one of 2048"
            )
        object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "key", key)

    def aligned_with(self, domain: str) -> bool:
        """Whether a signature counts for senders at `domain`: one of the two is the other, or lies below it."""
        ours, theirs = f".{self.domain}", f".{domain.lower()}"
        return ours.endswith(theirs) or theirs.endswith(ours)

    def sign(self, mail: Composed, date: datetime) -> Composed:
        """Put the signature in front of a mail, made as if at `date`."""
        signer = _Signer(mail.raw, date)
        header = signer.sign(
            self.selector.encode(),
            self.domain.encode(),
            self.key.encode(),
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=_sealed_in(mail.raw),
        )
        return Composed(header + mail.raw, mail.needs_smtputf8)


class _Signer(dkim.DKIM):  # type: ignore[misc]  # dkimpy has no types
    """dkimpy's, with a moment of ours in `t=`: it would take that of the clock, different at each attempt."""

    def __init__(self, raw: bytes, date: datetime) -> None:
        super().__init__(raw, linesep=b"\r\n")
        self._signed_at = str(int(date.timestamp())).encode()

    def gen_header(self, fields: list[tuple[bytes, bytes]], *args: Any, **options: Any) -> bytes:
        dated = [(name, self._signed_at if name == b"t" else value) for name, value in fields]
        header: bytes = super().gen_header(dated, *args, **options)
        return header


def _sealed_in(raw: bytes) -> list[bytes]:
    head = raw.partition(_HEAD_END)[0]
    there = Counter(name.lower() for name in _NAME.findall(head))
    return [name for name in _SEALED for _ in range(there[name] + 1)]


def _bits_of(key: str) -> int:
    """How long an RSA key is."""
    if "ENCRYPTED" in key:
        raise OptionError("the DKIM key is protected by a password; give it without: openssl pkey -in KEY -out PLAIN")
    try:
        modulus: int = parse_pem_private_key(key.encode())["modulus"]
        return modulus.bit_length()
    except (UnparsableKeyError, ValueError, LookupError, TypeError, AttributeError):
        raise OptionError(
            "the DKIM key is no RSA private key in PEM form (-----BEGIN PRIVATE KEY-----); "
            "make one with: openssl genrsa -out dkim.pem 2048"
        ) from None
