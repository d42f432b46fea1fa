"""Queue health: figures, judgement, and alerts."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime

from sqlalchemy import event

from muskox import Rate
from muskox.apps.mail.kinds import HIGH
from muskox.apps.mail.smtp import SmtpServer, Tls
from muskox.apps.mail.worlds import moment_now
from muskox.testing import FakeWorld, run_jobs
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


async def test_case_e42_a_reset_that_waits_for_a_stopped_worker_is_told_from_figures_alone(tmp_path):
    """No statement touches the messages, so that a million of them change nothing."""
    world, asked = FakeWorld(), []
    async with notifier_at(tmp_path, world=world, worker=False) as notifier:
        async with notifier.services.ox.worker():
            pass
        await notifier.http.post("/auth/password-reset", json={"email": "ada@example.org"})
        world.advance(61)
        listened = notifier.services.engine
        event.listen(listened, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
        answer = await notifier.http.get("/health/queue")

    assert answer.status_code == 503
    assert "queue mail-high" in answer.json()["reasons"][0]
    assert asked
    assert [statement for statement in asked if "mail_messages" in statement or "count(" in statement.lower()] == []


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


async def test_case_e10_health_is_503_while_the_server_refuses_our_password(tmp_path):
    world = FakeWorld()
    async with sink(extensions=["AUTH PLAIN"]) as server:
        server.answers(AUTH="535 5.7.8 wrong")
        smtp = SmtpServer("127.0.0.1", server.port, tls=Tls.NONE, username="ada", password="x")
        async with notifier_at(tmp_path, world=world, worker=False, smtp=smtp) as notifier:
            for number in range(3):
                await asyncio.to_thread(notifier.services.mail.send, "password-changed", to=f"u{number}@example.org",
                                        context={"name": "x", "changed_at": "now"})  # fmt: skip
            before = await notifier.http.get("/health/queue")
            await run_jobs(notifier.services.ox)
            refused = await notifier.http.get("/health/queue")
            server.answers(AUTH="235 2.7.0 welcome")
            world.advance(11)
            await run_jobs(notifier.services.ox)
            after = await notifier.http.get("/health/queue")

    assert (before.status_code, before.json()["transports"]["smtp"]["breaker"]) == (200, "closed")
    assert (refused.status_code, refused.json()["status"]) == (503, "unhealthy")
    assert refused.json()["reasons"] == ["transport smtp open: auth"]
    transport = refused.json()["transports"]["smtp"]
    assert (transport["breaker"], transport["reason"]) == ("open", "auth")
    opened, probed = (datetime.fromisoformat(transport[name]) for name in ("since", "next_probe_at"))
    assert (probed - opened).total_seconds() == 10
    assert (after.status_code, after.json()["reasons"], len(server.mails)) == (200, [], 3)
    closed = {"breaker": "closed", "reason": "", "since": None, "next_probe_at": None, "connections": 1}
    assert after.json()["transports"]["smtp"] == closed


async def test_case_e32_health_tells_what_a_domain_was_found_to_bear_and_who_has_a_pause(tmp_path):
    world = FakeWorld()
    async with sink() as server:
        smtp = SmtpServer("127.0.0.1", server.port, tls=Tls.NONE)
        rate = Rate(60, per=60, burst=60)
        async with notifier_at(tmp_path, world=world, worker=False, smtp=smtp, domain_rate=rate) as notifier:

            async def send(to: str, kind: str) -> None:
                context = {"name": "Ada", "email": "ada@example.org"}
                await asyncio.to_thread(notifier.services.mail.send, "welcome", to=to, kind=kind, context=context)

            server.answers(RCPT="421 4.7.28 rate")
            await send("a@slow.example", "newsletter")
            await run_jobs(notifier.services.ox)
            server.answers(RCPT="550 5.7.1 blocked")
            for number in range(20):
                await send(f"u{number}@strict.example", "welcome")
            paused_at = moment_now(world)
            await run_jobs(notifier.services.ox)
            paused = (await notifier.http.get("/health/queue")).json()["domains"]
            world.advance(3_601)
            later = (await notifier.http.get("/health/queue")).json()["domains"]

    assert list(paused) == ["strict.example", "slow.example"]
    assert paused["slow.example"] == {"per_minute": 60, "learned": 30, "paused_until": None}
    until = datetime.fromisoformat(paused["strict.example"]["paused_until"])
    assert (until - paused_at).total_seconds() == 3_600
    assert later == {"slow.example": {"per_minute": 60, "learned": 30, "paused_until": None}}


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
