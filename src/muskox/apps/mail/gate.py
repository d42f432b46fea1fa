"""Lets deliveries through to a transport, or gives their jobs back without using an attempt.

Two things can hold them: the breaker, and the rate of the transport. Both are
kept in the database, so that they hold for all workers together.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from muskox import Rate, RateLimited
from muskox.apps.mail import breaker, tables
from muskox.apps.mail.breaker import BreakerRules, Faults, Gate
from muskox.apps.mail.replies import Reply, Verdict, judge
from muskox.apps.mail.sending import Mail
from muskox.apps.mail.worlds import moment_now

__all__ = ["Gatekeeper"]

_FRESH = 1.0
"""For how many seconds a breaker that was closed is taken to be closed still."""

_WHILE_PROBED = 1.0
log = logging.getLogger("muskox.mail")


class Gatekeeper:
    """Stands before the transport of a program, in each process that sends."""

    def __init__(self, mail: Mail, rules: BreakerRules, rate: Rate | None) -> None:
        self._mail = mail
        self._world = mail.ox.world
        self._rules = rules
        self._rate = rate
        self._faults = Faults(rules)
        self._seen_closed: float | None = None

    @property
    def _name(self) -> str:
        return self._mail.transport.name

    async def enter(self) -> None:
        """Return when a mail may be tried; raises `RateLimited` for the job when it may not."""
        if self._seen_closed is not None and self._world.monotonic() - self._seen_closed < _FRESH:
            return
        gate = await self._mail.in_thread(self._read)
        if gate.closed:
            self._seen_closed = self._world.monotonic()
            return
        self._seen_closed = None
        now = moment_now(self._world)
        assert gate.next_probe_at is not None
        if gate.next_probe_at > now:
            raise self._held(gate, now)
        if not await self._mail.writer.run(lambda connection: breaker.begin_probe(connection, self._name, now)):
            raise RateLimited("another worker tries the mail server", retry_after=_WHILE_PROBED)
        await self._probe()

    async def _probe(self) -> None:
        reply = await self._mail.transport.probe()
        verdict, now = judge(reply), moment_now(self._world)
        gate = await self._mail.writer.run(
            lambda connection: breaker.end_probe(connection, self._name, verdict, _words(reply), now, self._rules)
        )
        if not gate.closed:
            raise self._held(gate, now)
        log.info("transport %s is closed again: the server lets us in", self._name)

    def _held(self, gate: Gate, now: datetime) -> RateLimited:
        assert gate.next_probe_at is not None
        seconds = max(0.0, (gate.next_probe_at - now).total_seconds())
        return RateLimited(f"transport {gate.name} is open: {gate.reason}", retry_after=seconds, hold="queue")

    def held_for(self, gate: Gate | None, seconds: float, *, whole: bool) -> RateLimited:
        """What a job raises whose attempt was given back: as long as the breaker says, if it is open; `whole`
        holds its queue too.
        """
        if gate is not None and not gate.closed:
            return self._held(gate, moment_now(self._world))
        return RateLimited("the attempt was given back", retry_after=seconds, hold="queue" if whole else "job")

    def may_open(self, verdict: Verdict, reply: Reply) -> str | None:
        """Count an outcome; gives the reason when the breaker has to open."""
        return self._faults.count(verdict, reply, self._world.monotonic())

    def open(self, connection: Connection, reason: str, reply: Reply, now: datetime) -> Gate:
        """Open the breaker, within the transaction that writes the outcome down."""
        return breaker.trip(connection, self._name, reason, _words(reply), now, self._rules)

    def opened(self, gate: Gate) -> None:
        """Take note that the breaker is open: nobody here passes unseen any more."""
        self._seen_closed = None
        log.warning("transport %s is open, %s: no mail is sent until a probe succeeds", gate.name, gate.reason)

    def take_turn(self, connection: Connection, now: datetime) -> RateLimited | None:
        """Take the next start that the rate allows; gives what the job has to raise when that is not now."""
        if self._rate is None:
            return None
        table = tables.transports
        row = connection.execute(select(table.c.free_at).where(table.c.name == self._name)).one_or_none()
        step = timedelta(seconds=self._rate.per / self._rate.limit)
        due = max(now, row.free_at or now) if row else now
        early = (due - step * ((self._rate.burst or 1) - 1) - now).total_seconds()
        if early > 0:
            return RateLimited(f"the rate of transport {self._name} is used up", retry_after=early, hold="queue")
        if row is None:
            closed = {"name": self._name, "breaker": breaker.BreakerState.CLOSED}
            connection.execute(insert(table).values(**closed, free_at=due + step))
        else:
            connection.execute(update(table).where(table.c.name == self._name).values(free_at=due + step))
        return None

    def _read(self) -> Gate:
        with self._mail.engine.connect().execution_options(reading=True) as connection:
            return breaker.read_gate(connection, self._name)


def _words(reply: Reply) -> str:
    return f"{reply.phase}: {reply.code or ''} {reply.text}".replace("  ", " ").strip()
