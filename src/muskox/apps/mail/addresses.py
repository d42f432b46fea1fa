"""Parses and checks e-mail addresses; what is not clearly one address is refused, never repaired.

No look-up in the DNS: whether a domain takes mail is learned by sending.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from muskox.apps.mail.errors import AddressRefused

__all__ = ["LONGEST", "LONGEST_LOCAL", "Address", "parse_address"]

LONGEST = 254
LONGEST_LOCAL = 64

# The C0 controls, DEL, and every character at which `str.splitlines` ends a line.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]")

_AT_HOME = re.compile(r"(?i)(?:^|\.)(?:localhost|local)$")


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox. `domain` is in its ASCII form (A-labels); `local` is as it was typed."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """The same text for all spellings of one mailbox: compare and index by it."""
        return f"{self.local.casefold()}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the part before the @ can only be sent to a server that offers SMTPUTF8."""
        return not self.local.isascii()


def parse_address(text: str) -> Address:
    """Read one bare address; raises `AddressRefused` for anything else, saying what is wrong with it."""
    if _FORBIDDEN.search(text):
        raise AddressRefused("the address contains a control character or a line break")
    # Length first: the parsers behind this line must never see ten thousand brackets.
    if len(text) > LONGEST or len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        raise AddressRefused(f"the address is longer than {LONGEST} bytes")
    local, _, domain = text.rpartition("@")
    if not local or not domain:
        raise AddressRefused("the address has no @ between a name and a domain")
    if "@" in local:
        raise AddressRefused("the address has more than one @")
    if len(local.encode("utf-8", "surrogatepass")) > LONGEST_LOCAL:
        raise AddressRefused(f"the part before the @ is longer than {LONGEST_LOCAL} bytes")
    # Mail to this machine or this house is legitimate, and the library refuses such domains whatever its options:
    # it is shown them below `.test`, which it can be told to take.
    extra = ".test" if _AT_HOME.search(domain) else ""
    try:
        checked = validate_email(text + extra, check_deliverability=False, test_environment=True)
    except (EmailNotValidError, UnicodeError) as error:
        raise AddressRefused(f"the address is not valid: {error}") from None
    written = checked.ascii_domain.lower().removesuffix(extra)
    if "." not in written and written != "localhost":
        raise AddressRefused("the domain after the @ has no dot")
    return Address(checked.local_part, written)
