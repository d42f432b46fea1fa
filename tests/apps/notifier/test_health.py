"""Queue health: figures, judgement, and alerts."""

from __future__ import annotations

import asyncio
import itertools

from muskox.apps.mail.kinds import HIGH
from muskox.apps.mail.smtp import SmtpServer, Tls
from muskox.testing import FakeWorld
from tests.apps.notifier.conftest import notifier_at
from tests.apps.sink import sink


async def test_mission_c08_health_tells_counts_and_state(notifier):
    body = await notifier.register()
    await notifier.ended(body["welcome_message_id"])

    answer = await notifier.http.get("/health/queue")

    assert answer.status_code == 200
    health = answer.json()
    assert (health["status"], health["reasons"]) == ("ok", [])
    assert health["queues"]["mail"].keys() >= {
        "waiting", "active", "delayed", "failed_24h", "oldest_waiting_s", "per_minute", "workers",
    }  # fmt: skip
    assert health["queues"]["mail"]["workers"] == 1
    assert health["delivery_24h"].items() >= {"sent": 1, "bounced": 0, "unknown": 0, "bounce_rate": 0.0}.items()


async def test_mission_c08_work_that_nobody_does_is_unhealthy(tmp_path):
    world = FakeWorld()
    async with notifier_at(tmp_path, world=world, worker=False) as notifier:
        await notifier.services.ox.queue(HIGH).add("begin-reset", {"email": "a@example.org", "requested_at": 0})
        assert (await notifier.http.get("/health/queue")).status_code == 200

        world.advance(61)
        answer = await notifier.http.get("/health/queue")

        assert answer.status_code == 503
        assert answer.json()["status"] == "unhealthy"
        assert "mail-high" in answer.json()["reasons"][0]


async def test_mission_c08_many_bounces_are_a_warning(tmp_path):
    async with sink() as server:
        turns = itertools.count(1)
        server.script = lambda step, _line: "550 5.1.1 no" if step == "RCPT" and next(turns) % 4 == 0 else None
        smtp = SmtpServer("127.0.0.1", server.port, tls=Tls.NONE)
        async with notifier_at(tmp_path, smtp=smtp) as notifier:
            ids = [
                (await asyncio.to_thread(notifier.services.mail.send, "password-changed", to=f"u{number}@example.org",
                 context={"name": "x", "changed_at": "now"})).id
                for number in range(24)
            ]  # fmt: skip
            for id in ids:
                await notifier.ended(id)

            health = (await notifier.http.get("/health/queue")).json()

            assert health["status"] == "degraded"
            assert health["delivery_24h"]["bounced"] == 6
            assert health["reasons"] == ["bounce rate 25.0%"]


async def test_mission_c08_somebody_is_told_when_a_job_fails(tmp_path):
    told = asyncio.Queue()

    async def alert(queue: str, name: str, job_id: str) -> None:
        await told.put((queue, name, job_id))

    async with sink() as server:
        server.answers(MAIL="550 5.7.1 not you")
        smtp = SmtpServer("127.0.0.1", server.port, tls=Tls.NONE)
        async with notifier_at(tmp_path, smtp=smtp, alert=alert) as notifier:
            body = await notifier.register()

            async with asyncio.timeout(10):
                assert await told.get() == ("mail", "deliver", body["welcome_message_id"])
            message = await notifier.ended(body["welcome_message_id"])
            assert (message["state"], message["reason"]) == ("failed", "sender_rejected")
            health = (await notifier.http.get("/health/queue")).json()
            assert health["queues"]["mail"]["failed_24h"] == 1
