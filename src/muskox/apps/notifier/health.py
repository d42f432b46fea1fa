"""Judges whether mail flows: from figures that are kept up, never by counting jobs or messages."""

from __future__ import annotations

import asyncio
from typing import Any

from muskox import QueueCounts, StoreError, WorkerRecord
from muskox.apps.mail import figures
from muskox.apps.mail.kinds import HIGH, QUEUES
from muskox.apps.mail.states import MessageState
from muskox.apps.mail.worlds import moment_now
from muskox.apps.notifier.services import Services

__all__ = ["examine"]

_DAY = 24 * 60
_ALONE, _LATE = 60.0, 30.0
_FEWEST, _BOUNCES = 20, 0.05

Figures = dict[tuple[str, str], int]


async def examine(services: Services) -> dict[str, Any]:
    """Give the state of the queues and why: ok, degraded or unhealthy."""
    now = moment_now(services.ox.world)
    report: dict[str, Any] = {"status": "ok", "checked_at": now.isoformat().replace("+00:00", "Z"), "reasons": []}
    try:
        counts = {count.queue: count for count in await services.ox.counts()}
        workers = await services.ox.workers()
        day, minute = await asyncio.to_thread(_read, services)
    except StoreError as error:
        return report | {"status": "unhealthy", "reasons": [f"store: {error}"]}
    queues: dict[str, Any] = {}
    for name in QUEUES:
        queues[name] = _queue(name, counts.get(name), workers, day, minute)
        report["reasons"] += _unhealthy(name, queues[name])
    delivery = _delivery(day)
    status = "unhealthy" if report["reasons"] else "ok"
    if delivery["bounce_rate"] > _BOUNCES and delivery["sent"] + delivery["bounced"] >= _FEWEST:
        status = "degraded" if status == "ok" else status
        report["reasons"].append(f"bounce rate {delivery['bounce_rate']:.1%}")
    return report | {
        "status": status,
        "queues": queues,
        "transports": {services.mail.transport.name: {"in_use": True}},
        "delivery_24h": delivery,
    }


def _read(services: Services) -> tuple[Figures, Figures]:
    now = moment_now(services.ox.world)
    with services.engine.connect().execution_options(reading=True) as connection:
        return figures.totals(connection, now, _DAY), figures.totals(connection, now, 1)


def _queue(
    name: str, counts: QueueCounts | None, workers: list[WorkerRecord], day: Figures, minute: Figures
) -> dict[str, Any]:
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
        "failed_24h": day.get((name, MessageState.FAILED), 0),
        "oldest_waiting_s": round(counts.oldest_waiting or 0.0, 3) if counts else 0.0,
        "per_minute": float(minute.get((name, MessageState.SENT), 0)),
        "workers": serving,
    }


def _unhealthy(name: str, queue: dict[str, Any]) -> list[str]:
    oldest = queue["oldest_waiting_s"]
    if queue["waiting"] and not queue["workers"] and oldest > _ALONE:
        return [f"queue {name}: work waits since {oldest:.0f} s and no worker is alive"]
    if name == HIGH and queue["waiting"] and oldest > _LATE:
        return [f"queue {name}: urgent work waits since {oldest:.0f} s"]
    return []


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
