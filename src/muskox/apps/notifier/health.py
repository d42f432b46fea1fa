"""Judges whether mail flows: from figures that are kept up, never by counting jobs or messages."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from muskox import QueueCounts, StoreError, WorkerRecord
from muskox.apps.mail import figures
from muskox.apps.mail.breaker import Gate, read_gate
from muskox.apps.mail.domains import LearnedDomain, read_domains
from muskox.apps.mail.inbox import Inbox
from muskox.apps.mail.kinds import HIGH, QUEUES
from muskox.apps.mail.pool import Smtp
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier.services import Services

__all__ = ["examine"]

_DAY = 24 * 60
_ALONE, _LATE = 60.0, 30.0
_FEWEST, _BOUNCES = 20, 0.05
_DOMAINS = 100
"""Domains that are told of; a relay in trouble can learn of thousands."""

Figures = dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class _Read:
    """What the database knows, read at one moment."""

    day: Figures
    minute: Figures
    gate: Gate
    domains: list[LearnedDomain]


async def examine(services: Services) -> dict[str, Any]:
    """Give the state of the queues and why: ok, degraded or unhealthy."""
    now = moment_now(services.ox.world)
    report: dict[str, Any] = {"status": "ok", "checked_at": _written(now), "reasons": []}
    try:
        counts = {count.queue: count for count in await services.ox.counts()}
        workers = await services.ox.workers()
        found = await asyncio.to_thread(_read, services, now)
    except StoreError as error:
        return report | {"status": "unhealthy", "reasons": [f"store: {error}"]}
    queues: dict[str, Any] = {}
    for name in QUEUES:
        queues[name] = _queue(name, counts.get(name), workers, found)
        report["reasons"] += _unhealthy(name, queues[name])
    if not found.gate.closed:
        # There is one transport, so with it none is left.
        report["reasons"].append(f"transport {found.gate.name} open: {found.gate.reason}")
    delivery = _delivery(found.day)
    status = "unhealthy" if report["reasons"] else "ok"
    if delivery["bounce_rate"] > _BOUNCES and delivery["sent"] + delivery["bounced"] >= _FEWEST:
        status = "degraded" if status == "ok" else status
        report["reasons"].append(f"bounce rate {delivery['bounce_rate']:.1%}")
    return report | {
        "status": status,
        "queues": queues,
        "transports": {found.gate.name: _transport(found.gate, services.mail.transport)},
        "delivery_24h": delivery,
        "domains": _domains(found.domains, now),
    }


def _read(services: Services, now: datetime) -> _Read:
    with services.engine.connect().execution_options(reading=True) as connection:
        return _Read(
            figures.totals(connection, now, _DAY),
            figures.totals(connection, now, 1),
            read_gate(connection, services.mail.transport.name),
            read_domains(connection),
        )


def _queue(name: str, counts: QueueCounts | None, workers: list[WorkerRecord], found: _Read) -> dict[str, Any]:
    states = {str(state): n for state, n in counts.states.items()} if counts else {}
    serving = sum(any(want.queue == name for want in worker.wants) for worker in workers if not worker.stopping)
    return {
        "waiting": states.get("waiting", 0),
        "active": states.get("active", 0),
        "delayed": states.get("delayed", 0),
        "completed": states.get("completed", 0),
        "failed": states.get("failed", 0),
        "total": counts.total if counts else 0,
        "paused": counts.paused if counts else False,
        "failed_24h": found.day.get((name, MessageState.FAILED), 0),
        "oldest_waiting_s": round(counts.oldest_waiting or 0.0, 3) if counts else 0.0,
        "per_minute": float(found.minute.get((name, MessageState.SENT), 0)),
        "workers": serving,
    }


def _unhealthy(name: str, queue: dict[str, Any]) -> list[str]:
    oldest = queue["oldest_waiting_s"]
    if queue["waiting"] and not queue["workers"] and oldest > _ALONE:
        return [f"queue {name}: work waits since {oldest:.0f} s and no worker is alive"]
    if name == HIGH and queue["waiting"] and oldest > _LATE:
        return [f"queue {name}: urgent work waits since {oldest:.0f} s"]
    return []


def _transport(gate: Gate, transport: Smtp | Inbox) -> dict[str, Any]:
    """How a transport is; `connections` are those that are idle in this process."""
    return {
        "breaker": gate.state,
        "reason": gate.reason,
        "since": None if gate.closed else _written(gate.opened_at),
        "next_probe_at": _written(gate.next_probe_at),
        "connections": transport.connections if isinstance(transport, Smtp) else 0,
    }


def _domains(learned: list[LearnedDomain], now: datetime) -> dict[str, Any]:
    """What recipient domains let us send: `per_minute` as we were told, `learned` what they bear, the least of all
    queues; who has a pause comes first.
    """
    told: dict[str, Any] = {}
    for one in sorted(learned, key=lambda one: (not _pausing(one, now), one.domain)):
        if one.per_minute is None and not _pausing(one, now):
            continue  # its pause is over
        domain = told.setdefault(one.domain, {"per_minute": None, "learned": None, "paused_until": None})
        if one.per_minute is not None and (domain["learned"] is None or one.per_minute < domain["learned"]):
            domain |= {"per_minute": one.ceiling, "learned": one.per_minute}
        if _pausing(one, now):
            domain["paused_until"] = _written(one.paused_until)
    return dict(list(told.items())[:_DOMAINS])


def _pausing(domain: LearnedDomain, now: datetime) -> bool:
    return domain.paused_until is not None and domain.paused_until > now


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _delivery(day: Figures) -> dict[str, Any]:
    def total(state: MessageState) -> int:
        return sum(n for (_, found), n in day.items() if found == state)

    sent, bounced, complained = (
        total(state) for state in (MessageState.SENT, MessageState.BOUNCED, MessageState.COMPLAINED)
    )
    ended = sent + bounced
    return {
        "sent": sent,
        "delivered": total(MessageState.DELIVERED),
        "bounced": bounced,
        "failed": total(MessageState.FAILED),
        "complained": complained,
        "unknown": total(MessageState.UNKNOWN),
        "bounce_rate": round(bounced / ended, 4) if ended else 0.0,
        "complaint_rate": round(complained / sent, 4) if sent else 0.0,
    }
