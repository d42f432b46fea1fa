"""Users and their passwords: what is accepted, how it is kept, how it is changed.

Passwords are hashed with argon2id. Sending users anything is done elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import available_timezones

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, RowMapping, insert, select, update
from sqlalchemy.exc import IntegrityError

from muskox.apps.mail.addresses import Address, parse_address
from muskox.apps.mail.headers import check_text
from muskox.apps.notifier import tables

__all__ = [
    "EmailTaken",
    "Invalid",
    "NewUser",
    "User",
    "add_user",
    "change_password",
    "check_password",
    "find_by_address",
    "get_user",
    "hash_password",
    "new_user",
    "password_fits",
]

SHORTEST, LONGEST = 8, 200
_COMMON = frozenset({"password", "12345678", "123456789", "1234567890", "qwertyui", "qwertyuiop", "iloveyou"})
_hasher = PasswordHasher()


class Invalid(ValueError):
    """A field that cannot be accepted; `field` and `code` are for programs, the text for people."""

    def __init__(self, field: str, code: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.code = code


class EmailTaken(Exception):
    """Another user has this address."""


@dataclass(frozen=True, slots=True)
class NewUser:
    """A checked request for an account."""

    address: Address
    name: str
    password: str
    locale: str
    tz: str


@dataclass(frozen=True, slots=True)
class User:
    """A stored user."""

    id: str
    address: Address
    name: str
    password_hash: str


def new_user(*, email: str, name: str, password: str, locale: str = "en", tz: str = "UTC") -> NewUser:
    """Check what somebody typed; raises `Invalid` or `Refused`."""
    address = parse_address(email)
    name = check_text("the name", name.strip(), longest=200)
    if not name:
        raise Invalid("name", "missing", "the name is empty")
    check_password(password, address)
    if not 2 <= len(locale) <= 35 or not locale.replace("-", "").isalnum() or not locale.isascii():
        raise Invalid("locale", "invalid_locale", "the locale must look like en or pt-BR")
    if tz not in available_timezones():
        raise Invalid("tz", "unknown_time_zone", "the time zone must be a name like Europe/Vienna")
    return NewUser(address, name, password, locale, tz)


def check_password(password: str, address: Address | None = None) -> None:
    """Raise `Invalid` for a password that others could guess or that we could not keep."""
    if len(password) < SHORTEST:
        raise Invalid("password", "weak_password", f"the password has fewer than {SHORTEST} characters")
    if len(password) > LONGEST:
        raise Invalid("password", "long_password", f"the password has more than {LONGEST} characters")
    common = password.casefold() in _COMMON or len(set(password)) == 1
    if common or (address is not None and password.casefold() in {address.key, address.local.casefold()}):
        raise Invalid("password", "weak_password", "the password is one of the first that others would try")


def hash_password(password: str) -> str:
    """Hash a password; takes a tenth of a second of a processor and blocks."""
    return _hasher.hash(password.encode("utf-8", "surrogatepass"))


def password_fits(password: str, hashed: str) -> bool:
    """Say whether a password is the one that was hashed; blocks."""
    try:
        return _hasher.verify(hashed, password.encode("utf-8", "surrogatepass"))
    except (VerifyMismatchError, InvalidHashError):
        return False


def add_user(connection: Connection, id: str, user: NewUser, password_hash: str, now: datetime) -> None:
    """Store a user; raises `EmailTaken`."""
    values = {
        "id": id,
        "email": str(user.address),
        "email_key": user.address.key,
        "name": user.name,
        "locale": user.locale,
        "tz": user.tz,
        "password_hash": password_hash,
        "password_changed_at": now,
        "created_at": now,
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(tables.users).values(values))
    except IntegrityError:
        raise EmailTaken from None


def find_by_address(connection: Connection, address: Address) -> User | None:
    """Give the user with an address, however it is spelled."""
    row = connection.execute(select(tables.users).where(tables.users.c.email_key == address.key))
    return _user(row.mappings().one_or_none())


def get_user(connection: Connection, id: str) -> User | None:
    """Give the user with an id."""
    return _user(connection.execute(select(tables.users).where(tables.users.c.id == id)).mappings().one_or_none())


def change_password(connection: Connection, user: User, password_hash: str, now: datetime) -> None:
    """Replace a password; every reset link of the user is worthless from now on."""
    users, tokens = tables.users, tables.reset_tokens
    connection.execute(
        update(users).where(users.c.id == user.id).values(password_hash=password_hash, password_changed_at=now)
    )
    connection.execute(
        update(tokens)
        .where(tokens.c.user_id == user.id, tokens.c.used_at.is_(None), tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )


def _user(row: RowMapping | None) -> User | None:
    if row is None:
        return None
    return User(row["id"], parse_address(row["email"]), row["name"], row["password_hash"])
