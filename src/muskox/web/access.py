"""Who may do what: roles, users with passwords, tokens, and where they are read from.

Values and comparisons only; requests are judged in `gate.py`, and nothing here
keeps a password or a token, only what they are recognised by.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from muskox import OptionError

__all__ = [
    "LOCAL",
    "Access",
    "Authorize",
    "Principal",
    "Role",
    "Token",
    "User",
    "digest_of",
    "fits",
    "hash_password",
    "read_access",
]

T = TypeVar("T")

_COST = (2**14, 8, 1)
"""n, r, p of scrypt: 16 MB and some 40 ms for each try."""
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Role(StrEnum):
    """How much somebody may do; each includes those before it."""

    VIEW = "view"
    """Look at everything but secrets."""
    OPERATE = "operate"
    """Also add, retry, promote, cancel and edit jobs, pause and resume queues and schedules."""
    ADMIN = "admin"
    """Also remove jobs and schedules, drain, see secrets and the record of changes."""

    def allows(self, needed: Role) -> bool:
        """Whether this role is enough where `needed` is asked for."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Principal(msgspec.Struct, frozen=True):
    """Who asks, by which means ("password", "token", "local" or the host's word), and what they may do."""

    name: str
    role: Role
    means: str


LOCAL = Principal("local", Role.ADMIN, "local")
"""Whoever asks from this machine where nobody has set up access."""

Authorize = Callable[[Request], "Principal | Awaitable[Principal | None] | None"]
"""A host's own way to say who asks: None refuses."""


class User(msgspec.Struct, frozen=True):
    """Somebody with a password, of which `hash_password` made `password`."""

    name: str
    password: str
    role: Role = Role.VIEW

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not self.password.startswith("scrypt$"):
            raise OptionError(f"the password of user {self.name} is not hashed; `muskox access user` makes the line")


class Token(msgspec.Struct, frozen=True):
    """A program's right to ask: `sha256` is the `digest_of` its token, which nobody but the program has."""

    name: str
    sha256: str
    role: Role = Role.VIEW
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise OptionError(f"token {self.name} needs sha256, 64 hexadecimal digits; `muskox access token` makes it")
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise OptionError(f"expires_at of token {self.name} has no time zone; write it with Z at its end")


class Access(msgspec.Struct, frozen=True):
    """Who may use a dashboard. `authorize` is for a host application that knows its users already."""

    users: tuple[User, ...] = ()
    tokens: tuple[Token, ...] = ()
    authorize: Authorize | None = None

    def __post_init__(self) -> None:
        for what, names in (("user", [u.name for u in self.users]), ("token", [t.name for t in self.tokens])):
            twins = {name for name in names if names.count(name) > 1}
            if twins:
                raise OptionError(f"there are two {what}s named {min(twins)}; give each a name of its own")

    def __bool__(self) -> bool:
        return bool(self.users or self.tokens or self.authorize)

    def user(self, name: str) -> User | None:
        """The user of that name."""
        return next((user for user in self.users if user.name == name), None)

    def of_token(self, token: str, now: float) -> Principal | None:
        """Who has this token; None when nobody has, or it has expired."""
        digest, found = digest_of(token), None
        for one in self.tokens:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(one.sha256, digest):
                found = one
        if found is None or (found.expires_at is not None and found.expires_at.timestamp() <= now):
            return None
        return Principal(found.name, found.role, "token")


def hash_password(password: str, *, salt: bytes) -> str:
    """Make of a password what may be written down; `salt` are 16 bytes of chance."""
    if len(password) < 8:
        raise OptionError("a password needs at least 8 characters")
    n, r, p = _COST
    return f"scrypt${n}${r}${p}${_text(salt)}${_text(_scrypt(password, salt, n, r, p))}"


def fits(password: str, kept: str) -> bool:
    """Whether this is the password that `kept` was made of; slow on purpose."""
    _, n, r, p, salt, hashed = kept.split("$")
    found = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(hashed))


def digest_of(token: str) -> str:
    """By what a token is recognised. Fast is enough, since tokens are long and made by chance."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_access(path: Path) -> Access:
    """Read users and tokens from a TOML file, as `muskox access` writes its lines."""
    try:
        said = tomllib.loads(path.read_text())
    except OSError as error:
        raise OptionError(f"the access file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"the access file {path} is no TOML: {error}") from None
    unknown = said.keys() - {"users", "tokens"}
    if unknown:
        raise OptionError(f"the access file {path} has {min(unknown)!r}; it may have [users.NAME] and [tokens.NAME]")
    return Access(
        tuple(_made(User, name, one, path) for name, one in said.get("users", {}).items()),
        tuple(_made(Token, name, one, path) for name, one in said.get("tokens", {}).items()),
    )


def _made(kind: type[T], name: str, said: Mapping[str, Any], path: Path) -> T:
    if isinstance(said, dict) and isinstance(said.get("expires_at"), datetime) and said["expires_at"].tzinfo is None:
        said = {**said, "expires_at": said["expires_at"].replace(tzinfo=UTC)}
    try:
        return msgspec.convert({**said, "name": name}, kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise OptionError(f"the access file {path} is wrong at {name!r}: {error}") from None


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise OptionError(f"the name {name!r} is not allowed; use 1 to 64 of A-Z a-z 0-9 . _ @ -")


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=64 * 2**20, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
