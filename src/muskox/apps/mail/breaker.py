"""The breaker of a transport: while a server refuses us, nothing is sent, no attempt is used, and all workers know.

The row in the database is the truth for all processes; what counts towards
opening it is counted in each. A probe that carries no mail closes it again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from muskox.apps.mail import tables
from muskox.apps.mail.replies import Fault, Phase, Reply, Verdict
from muskox.apps.mail.states import MessageState, Reason

__all__ = ["BreakerRules", "BreakerState", "Faults", "Gate", "begin_probe", "end_probe", "read_gate", "trip"]

_PROBING = 60.0
"""Seconds after which a probe that nobody has ended is taken over."""

_COUNTED = frozenset({Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.TLS, Phase.AUTH})


class BreakerState(StrEnum):
    """Closed: mail flows. Open: it does not. Half open: somebody is trying whether it could."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """It opens after `faults` in a row within `within` seconds, or `refusals` of our sender in a row; probes follow
    after `first_probe` seconds, then twice as long each time, at most `slowest_probe`.
    """

    faults: int = 5
    within: float = 30.0
    refusals: int = 10
    first_probe: float = 10.0
    slowest_probe: float = 300.0

    def pause(self, probes: int) -> float:
        return float(min(self.first_probe * 2 ** min(probes, 30), self.slowest_probe))


@dataclass(frozen=True, slots=True)
class Gate:
    """The breaker of a transport as it was when it was read."""

    name: str
    state: BreakerState = BreakerState.CLOSED
    reason: str = ""
    detail: str = ""
    opened_at: datetime | None = None
    next_probe_at: datetime | None = None
    probes: int = 0

    @property
    def closed(self) -> bool:
        return self.state is BreakerState.CLOSED


@dataclass(slots=True)
class Faults:
    """Counts in one process what may open the breaker."""

    rules: BreakerRules
    _faults: deque[float] = field(default_factory=deque)
    _refusals: int = 0

    def count(self, verdict: Verdict, reply: Reply, now: float) -> str | None:
        """Take an outcome into account; gives the reason when the breaker has to open."""
        refused = verdict.reason is Reason.SENDER_REJECTED
        self._refusals = self._refusals + 1 if refused else 0
        if self._refusals >= self.rules.refusals:
            self._refusals = 0
            return "sender"
        if verdict.transport_down:
            self._faults.clear()
            return str(verdict.reason)
        if not _is_fault(verdict, reply):
            self._faults.clear()
            return None
        self._faults.append(now)
        while self._faults and self._faults[0] < now - self.rules.within:
            self._faults.popleft()
        if len(self._faults) < self.rules.faults:
            return None
        self._faults.clear()
        return str(verdict.reason)


def _is_fault(verdict: Verdict, reply: Reply) -> bool:
    if verdict.state is not MessageState.DEFERRED:
        return False
    if reply.fault in {Fault.NETWORK, Fault.TIMEOUT, Fault.DNS, Fault.PROTOCOL}:
        return True
    return reply.phase in _COUNTED


def read_gate(connection: Connection, name: str) -> Gate:
    """Read the breaker of a transport; closed when nothing is known of it."""
    row = connection.execute(select(tables.transports).where(tables.transports.c.name == name)).one_or_none()
    if row is None:
        return Gate(name)
    return Gate(
        name, BreakerState(row.breaker), row.reason, row.detail, row.opened_at, row.next_probe_at, row.probes
    )  # fmt: skip


def trip(connection: Connection, name: str, reason: str, detail: str, now: datetime, rules: BreakerRules) -> Gate:
    """Open the breaker; one that is not closed stays as it is."""
    known = read_gate(connection, name)
    if not known.closed:
        return known
    opened = {
        "breaker": BreakerState.OPEN,
        "reason": reason,
        "detail": detail[:500],
        "opened_at": now,
        "next_probe_at": now + timedelta(seconds=rules.pause(0)),
        "probes": 0,
    }
    table = tables.transports
    changed = connection.execute(update(table).where(table.c.name == name).values(opened))
    if changed.rowcount == 0:
        connection.execute(insert(table).values(name=name, **opened))
    return read_gate(connection, name)


def begin_probe(connection: Connection, name: str, now: datetime) -> bool:
    """Take the right to probe; False when it is too early, or somebody else has it."""
    table = tables.transports
    changed = connection.execute(
        update(table)
        .where(
            table.c.name == name,
            or_(table.c.breaker == BreakerState.OPEN, table.c.breaker == BreakerState.HALF_OPEN),
            table.c.next_probe_at <= now,
        )
        .values(breaker=BreakerState.HALF_OPEN, next_probe_at=now + timedelta(seconds=_PROBING))
    )
    return changed.rowcount == 1


def end_probe(
    connection: Connection, name: str, verdict: Verdict, detail: str, now: datetime, rules: BreakerRules
) -> Gate:
    """Write down what a probe has found: closed, or open for longer."""
    table, gate = tables.transports, read_gate(connection, name)
    if verdict.state is MessageState.SENT:
        values: dict[str, Any] = {
            "breaker": BreakerState.CLOSED,
            "reason": "",
            "detail": "",
            "next_probe_at": None,
            "probes": 0,
        }
    else:
        probes = gate.probes + 1
        values = {
            "breaker": BreakerState.OPEN,
            "reason": str(verdict.reason),
            "detail": detail[:500],
            "next_probe_at": now + timedelta(seconds=rules.pause(probes)),
            "probes": probes,
        }
    connection.execute(update(table).where(table.c.name == name).values(values))
    return read_gate(connection, name)
