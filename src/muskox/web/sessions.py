"""Signed-in browsers: the cookie that remembers them, and the brake on guessing passwords.

A session is a signed text that the browser keeps; nothing is kept here, so any
number of processes with the same secret know the same sessions.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from muskox.web.access import Access, Principal, User

__all__ = ["COOKIE", "LASTS", "Brake", "Sessions"]

COOKIE = "muskox_session"
LASTS = 12 * 3600.0
"""Seconds for which a session is good."""

_FREE_TRIES = {"name": 5, "address": 20}
"""So many failures go unpunished: for a name, and for an address, behind which many people may be."""
_LONGEST_WAIT = 300.0
_FORGIVEN_AFTER = 3600.0
_MOST_REMEMBERED = 10_000


class Sessions:
    """Makes and reads the cookies of one dashboard. A new password ends the sessions of the old one."""

    def __init__(self, access: Access, secret: bytes, now: Callable[[], float]) -> None:
        self._access = access
        self._secret = secret
        self._now = now

    def start(self, user: User) -> str:
        """The text of a cookie for somebody who gave the right password."""
        body = msgspec.json.encode([user.name, round(self._now() + LASTS)])
        return f"{_text(body)}.{_text(self._seal(body, user))}"

    def find(self, cookie: str) -> Principal | None:
        """Whose cookie it is; None for one that is not ours, too old, or of a user who has gone."""
        try:
            body, seal = (base64.b64decode(part, b"-_", validate=True) for part in cookie.split("."))
            name, until = msgspec.json.decode(body, type=tuple[str, int])
        except (ValueError, msgspec.DecodeError):
            return None
        user = self._access.user(name)
        if user is None or not hmac.compare_digest(seal, self._seal(body, user)) or until <= self._now():
            return None
        return Principal(user.name, user.role, "password")

    def _seal(self, body: bytes, user: User) -> bytes:
        return hmac.new(self._secret, body + b"\n" + user.password.encode(), hashlib.sha256).digest()


class Brake:
    """Slows down whoever fails to sign in again and again; never locks anybody out for good."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def wait(self, name: str, address: str) -> float:
        """Seconds until the next try is allowed; 0 when it is now."""
        return max(0.0, *(self._wait(key) for key in _keys(name, address)))

    def failed(self, name: str, address: str) -> None:
        """Count a failure."""
        for key in _keys(name, address):
            count, _ = self._failures.pop(key, (0, 0.0))
            self._failures[key] = (count + 1, self._now())
        while len(self._failures) > _MOST_REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forgive the failures of a name; those of an address stay, or one good account would free all guesses."""
        self._failures.pop(("name", name), None)

    def _wait(self, key: tuple[str, str]) -> float:
        count, at = self._failures.get(key, (0, 0.0))
        beyond = count - _FREE_TRIES[key[0]]
        since = self._now() - at
        if since > _FORGIVEN_AFTER:
            self._failures.pop(key, None)
            return 0.0
        return 0.0 if beyond < 0 else max(0.0, min(2.0 ** min(beyond, 20), _LONGEST_WAIT) - since)


def _keys(name: str, address: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("name", name[:64]), ("address", address)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()
