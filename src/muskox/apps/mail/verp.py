"""Gives each mail an envelope sender of its own, so that a report to that address names the mail.

The token says nothing of message or recipient, and nobody without the secret can
make one up.
"""

from __future__ import annotations

import base64
import hmac
import re

__all__ = ["bounce_address", "bounce_token", "token_in"]

_LENGTH = 18
_ADDRESS = re.compile(rf"bounces\+([a-z2-7]{{{_LENGTH}}})@", re.IGNORECASE)


def bounce_token(secret: bytes, message_id: str) -> str:
    """Derive the token of a message."""
    digest = hmac.digest(secret, f"bounce{message_id}".encode(), "sha256")
    return base64.b32encode(digest).decode().lower()[:_LENGTH]


def bounce_address(token: str, domain: str) -> str:
    """Give the envelope sender that carries a token."""
    return f"bounces+{token}@{domain}"


def token_in(address: str) -> str | None:
    """Find the token in an address to which a report was sent."""
    found = _ADDRESS.search(address)
    return None if found is None else found[1].lower()
