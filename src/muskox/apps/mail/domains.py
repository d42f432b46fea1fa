"""What recipient domains let us send: keys of the engine's queues, rates that are learned, and pauses.

A domain that says "slow down" gets half its rate, and by and by more again. The
limits themselves are the engine's, kept with the jobs and shared by all workers.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from muskox import Rate
from muskox.apps.mail import tables
from muskox.apps.mail.kinds import BULK, QUEUES
from muskox.apps.mail.replies import Verdict
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.states import MessageState, Reason
from muskox.apps.mail.worlds import moment_now

__all__ = ["DomainRules", "Domains", "LearnedDomain", "read_domains"]

_MINUTE = 60.0
_SLOWEST = 1
_CALM = timedelta(seconds=10)
"""A crowd of mails that meets the same limit halves the rate once."""

log = logging.getLogger("muskox.mail")


@dataclass(frozen=True, slots=True)
class DomainRules:
    """`bulk` is the rate of bulk mail to each domain, None: as the queue says already. A domain without a rate that
    asks us to slow down is taken to have had `assumed` mails a minute. After `refusals` for policy within `within`
    seconds a domain has a pause.
    """

    bulk: Rate | None = None
    assumed: int = 120
    acceptances: int = 100
    refusals: int = 20
    within: float = 600.0
    pause: float = 3_600.0


@dataclass(frozen=True, slots=True)
class LearnedDomain:
    """What was learned of a domain in a queue."""

    domain: str
    queue: str
    per_minute: int | None
    ceiling: int | None
    paused_until: datetime | None


@dataclass(slots=True)
class _Counts:
    accepted: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: dict[str, deque[float]] = field(default_factory=dict)


class Domains:
    """Learns from outcomes, in each process that sends."""

    def __init__(self, mail: Mail, rules: DomainRules) -> None:
        self._mail = mail
        self._world = mail.ox.world
        self._rules = rules
        self._counts = _Counts()
        self._read_at: float | None = None
        if rules.bulk is not None:
            mail.ox.queue(BULK, key_rate=rules.bulk)

    async def learn(self, queue: str, key: str, verdict: Verdict) -> None:
        """Take an outcome into account."""
        if verdict.reason is Reason.RATE_LIMITED:
            await self._slow_down(queue, key)
        elif verdict.state is MessageState.SENT:
            await self._accepted(queue, key)
        elif verdict.state is MessageState.BOUNCED and verdict.reason in {Reason.POLICY, Reason.SPAM}:
            await self._refused(key)

    async def _slow_down(self, queue: str, key: str) -> None:
        now = moment_now(self._world)
        self._counts.accepted[queue, key] = 0
        known = await self._mail.in_thread(self._read, queue, key)
        if known is not None and known.changed_at > now - _CALM:
            return
        state = await self._mail.ox.queue(queue).key(key)
        current = _per_minute(state.rate) or self._rules.assumed
        learned = max(_SLOWEST, current // 2)
        ceiling = known.ceiling if known is not None and known.per_minute is not None else _per_minute(state.rate)
        await self._mail.ox.queue(queue).set_key(key, rate=Rate(learned, per=_MINUTE))
        await self._mail.writer.run(
            lambda connection: _write(connection, queue, key, now, per_minute=learned, ceiling=ceiling)
        )
        log.warning("domain %s asks us to slow down: %d a minute in queue %s", key, learned, queue)

    async def _accepted(self, queue: str, key: str) -> None:
        await self._look_around()
        count = self._counts.accepted.get((queue, key))
        if count is None:
            return
        self._counts.accepted[queue, key] = count + 1
        if count + 1 < self._rules.acceptances:
            return
        self._counts.accepted[queue, key] = 0
        known = await self._mail.in_thread(self._read, queue, key)
        if known is None or known.per_minute is None:
            del self._counts.accepted[queue, key]
            return
        top = known.ceiling or self._rules.assumed
        raised = min(top, max(known.per_minute + 1, round(known.per_minute * 1.1)))
        now = moment_now(self._world)
        if raised < top:
            await self._mail.ox.queue(queue).set_key(key, rate=Rate(raised, per=_MINUTE))
            await self._mail.writer.run(
                lambda connection: _write(connection, queue, key, now, per_minute=raised, ceiling=known.ceiling)
            )
            return
        declared = (await self._mail.ox.queue(queue).limits()).limits.key_rate
        own = None if known.ceiling == _per_minute(declared) else Rate(top, per=_MINUTE)
        await self._mail.ox.queue(queue).set_key(key, rate=own)
        await self._mail.writer.run(lambda connection: _forget(connection, queue, key))
        del self._counts.accepted[queue, key]

    async def _look_around(self) -> None:
        """Once a minute, see what other processes have learned."""
        now = self._world.monotonic()
        if self._read_at is not None and now - self._read_at < _MINUTE:
            return
        self._read_at = now
        for found in await self._mail.in_thread(self._read_all):
            if found.per_minute is not None:
                self._counts.accepted.setdefault((found.queue, found.domain), 0)

    async def _refused(self, key: str) -> None:
        times = self._counts.refused.setdefault(key, deque())
        now = self._world.monotonic()
        times.append(now)
        while times[0] < now - self._rules.within:
            times.popleft()
        if len(times) < self._rules.refusals:
            return
        del self._counts.refused[key]
        until = moment_now(self._world) + timedelta(seconds=self._rules.pause)
        for queue in QUEUES:
            await self._mail.ox.queue(queue).hold(self._rules.pause, key=key)
        await self._mail.writer.run(
            lambda connection: _write(connection, BULK, key, moment_now(self._world), paused_until=until)
        )
        log.warning("domain %s refuses us: nothing is sent there for %.0f s", key, self._rules.pause)

    def _read(self, queue: str, key: str) -> _Row | None:
        table = tables.domains
        with self._mail.engine.connect().execution_options(reading=True) as connection:
            row = connection.execute(select(table).where(table.c.domain == key, table.c.queue == queue)).one_or_none()
        return None if row is None else _Row(row.per_minute, row.ceiling, row.changed_at)

    def _read_all(self) -> list[LearnedDomain]:
        with self._mail.engine.connect().execution_options(reading=True) as connection:
            return read_domains(connection)


@dataclass(frozen=True, slots=True)
class _Row:
    per_minute: int | None
    ceiling: int | None
    changed_at: datetime


def read_domains(connection: Connection) -> list[LearnedDomain]:
    """Give all that was learned of domains."""
    table = tables.domains
    rows = connection.execute(select(table).order_by(table.c.domain, table.c.queue))
    return [LearnedDomain(row.domain, row.queue, row.per_minute, row.ceiling, row.paused_until) for row in rows]


def _per_minute(rate: Rate | None) -> int | None:
    return None if rate is None else max(_SLOWEST, round(rate.limit * _MINUTE / rate.per))


def _write(connection: Connection, queue: str, key: str, now: datetime, **values: object) -> None:
    table = tables.domains
    there = (table.c.domain == key, table.c.queue == queue)
    if connection.execute(update(table).where(*there).values(**values, changed_at=now)).rowcount == 0:
        connection.execute(insert(table).values(domain=key, queue=queue, changed_at=now, **values))


def _forget(connection: Connection, queue: str, key: str) -> None:
    table = tables.domains
    connection.execute(delete(table).where(table.c.domain == key, table.c.queue == queue))
