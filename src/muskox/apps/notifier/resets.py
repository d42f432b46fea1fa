"""Password resets: a link that works once, for one hour, and lies in no table, job or log.

The token is derived from its row and the user's present password while the mail
is rendered; only its hash is stored. Whether an address has an account is found
out in a job and never while somebody waits for the answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, func, insert, select, update

from muskox import ActiveJob, Exponential, Muskox
from muskox.apps.mail.addresses import Address, parse_address
from muskox.apps.mail.kinds import HIGH, KINDS
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier import tables
from muskox.apps.notifier.keys import Keyring
from muskox.apps.notifier.users import User, change_password, check_password, find_by_address, get_user, hash_password

__all__ = ["LIFETIME", "Resets", "TokenExpired", "TokenRefused", "TokenUnknown", "TokenUsed"]

LIFETIME = timedelta(hours=1)
PER_HOUR, PER_DAY = 3, 10
JOB_NAME = "begin-reset"
_TOKEN_BYTES = 16 + 32
log = logging.getLogger("muskox.notifier")


class TokenRefused(Exception):
    """The link cannot be used; `code` says why, for programs."""

    code = "token_unknown"


class TokenUnknown(TokenRefused):
    """No such token, or one that was tampered with."""


class TokenUsed(TokenRefused):
    """It has been used, or a newer one or a new password has taken its place."""

    code = "token_used"


class TokenExpired(TokenRefused):
    """Its hour is over."""

    code = "token_expired"


class Resets:
    """Begins and finishes password resets; made once, before the worker starts."""

    def __init__(self, mail: Mail, keys: Keyring, public_url: str) -> None:
        self._mail = mail
        self._engine: Engine = mail.engine
        self._world = mail.ox.world
        self._keys = keys
        self._public_url = public_url
        mail.unseal("password-reset", self._unseal)
        _declare(mail.ox, self)

    async def request(self, address: Address) -> None:
        """Add the job that looks the address up and writes to it: the same work for every address."""
        data = {"email": str(address), "requested_at": self._world.now()}
        await self._mail.ox.queue(HIGH).add(JOB_NAME, data, priority=KINDS["password_reset"].priority)

    def begin(self, key: str, address: Address, requested_at: datetime) -> bool:
        """Make a token and send its mail, unless nobody has the address or too many were asked for.

        `key` names the request: repeated, it does nothing more. Returns whether a mail was accepted.
        """
        with self._engine.begin() as connection:
            user = find_by_address(connection, address)
            if user is None or self._too_many(connection, user, requested_at):
                return False
            tokens, now = tables.reset_tokens, moment_now(self._world)
            id = self._world.new_id()
            sent = self._mail.send(
                "password-reset",
                to=user.address,
                display=user.name,
                context={"name": user.name, "token_id": id},
                kind="password_reset",
                key=f"reset/{key}",
                scope="notifier",
                user_id=user.id,
                expires_at=requested_at + timedelta(seconds=KINDS["password_reset"].deadline),
                within=connection,
            )
            if not sent.created:
                return True
            connection.execute(
                update(tokens)
                .where(tokens.c.user_id == user.id, tokens.c.used_at.is_(None), tokens.c.revoked_at.is_(None))
                .values(revoked_at=now)
            )
            token = self._derive(self._keys.current_id, id, user, requested_at)
            assert token is not None
            connection.execute(
                insert(tokens).values(
                    id=id,
                    user_id=user.id,
                    key_id=self._keys.current_id,
                    token_hash=hashlib.sha256(token).digest(),
                    issued_at=requested_at,
                    expires_at=requested_at + LIFETIME,
                )
            )
            return True

    def check(self, token: str) -> None:
        """Say whether a link can be used, and change nothing; raises `TokenRefused`."""
        with self._engine.connect().execution_options(reading=True) as connection:
            self._usable(connection, token)

    def finish(self, token: str, password: str) -> None:
        """Use a token up and change the password; raises `TokenRefused`, or `Invalid` for a weak one. Blocks."""
        self.check(token)
        check_password(password)
        hashed = hash_password(password)
        with self._engine.begin() as connection:
            row, user = self._usable(connection, token)
            check_password(password, user.address)
            now, tokens = moment_now(self._world), tables.reset_tokens
            used = connection.execute(
                update(tokens)
                .where(tokens.c.id == row["id"], tokens.c.used_at.is_(None), tokens.c.revoked_at.is_(None))
                .values(used_at=now)
            )
            if used.rowcount != 1:
                raise TokenUsed
            change_password(connection, user, hashed, now)
            self._mail.send(
                "password-changed",
                to=user.address,
                display=user.name,
                context={"name": user.name, "changed_at": f"{now.day} {now:%B %Y, %H:%M} UTC"},
                user_id=user.id,
                within=connection,
            )

    def _usable(self, connection: Connection, token: str) -> tuple[RowMapping, User]:
        octets = _octets(token)
        id = _written(octets[:16])
        query = select(tables.reset_tokens).where(tables.reset_tokens.c.id == id)
        row = connection.execute(query).mappings().one_or_none()
        expected = b"" if row is None else bytes(row["token_hash"])
        if not hmac.compare_digest(hashlib.sha256(octets).digest(), expected) or row is None:
            raise TokenUnknown
        if row["used_at"] is not None or row["revoked_at"] is not None:
            raise TokenUsed
        if row["expires_at"] <= moment_now(self._world):
            raise TokenExpired
        user = get_user(connection, row["user_id"])
        if user is None:
            raise TokenUnknown
        # The token is bound to the password that it was made for: had that changed by any other way, it is worthless.
        derived = self._derive(row["key_id"], id, user, row["issued_at"])
        if derived is not None and not hmac.compare_digest(derived, octets):
            raise TokenUsed
        return row, user

    def _too_many(self, connection: Connection, user: User, at: datetime) -> bool:
        tokens = tables.reset_tokens
        for span, most in ((timedelta(hours=1), PER_HOUR), (timedelta(days=1), PER_DAY)):
            since = select(func.count()).where(tokens.c.user_id == user.id, tokens.c.issued_at > at - span)
            if connection.execute(since).scalar_one() >= most:
                log.info("a reset for user %s was absorbed: more than %d within %s", user.id, most, span)
                return True
        return False

    def _unseal(self, connection: Connection, context: Mapping[str, Any]) -> dict[str, str] | None:
        """Derive the link for a mail that is being rendered; None when the token may not be used any more."""
        query = select(tables.reset_tokens).where(tables.reset_tokens.c.id == context["token_id"])
        row = connection.execute(query).mappings().one_or_none()
        if row is None or row["used_at"] is not None or row["revoked_at"] is not None:
            return None
        user = get_user(connection, row["user_id"])
        token = self._derive(row["key_id"], row["id"], user, row["issued_at"]) if user else None
        if token is None or hashlib.sha256(token).digest() != bytes(row["token_hash"]):
            return None
        return {"link": f"{self._public_url}/auth/reset?token={base64.urlsafe_b64encode(token).decode()}"}

    def _derive(self, key_id: str, id: str, user: User, issued_at: datetime) -> bytes | None:
        identity = bytes.fromhex(id.replace("-", ""))
        text = b"\x00".join([
            b"reset",
            identity,
            user.id.encode(),
            issued_at.astimezone(UTC).isoformat(timespec="microseconds").encode(),
            user.password_hash.encode(),
        ])  # fmt: skip
        derived = self._keys.derive(key_id, text)
        return None if derived is None else identity + derived


def _written(identity: bytes) -> str:
    """Write the 16 bytes of an id as it stands in the tables."""
    digits = identity.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _octets(token: str) -> bytes:
    try:
        octets = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenUnknown from None
    if len(octets) != _TOKEN_BYTES:
        raise TokenUnknown
    return octets


def _declare(ox: Muskox, resets: Resets) -> None:
    @ox.queue(HIGH).processor(JOB_NAME, attempts=5, backoff=Exponential(2.0), max_stalls=5)
    async def begin_reset(job: ActiveJob, email: str, requested_at: float) -> None:
        address, moment = parse_address(email), datetime.fromtimestamp(requested_at, UTC)
        await asyncio.to_thread(resets.begin, job.id, address, moment)
