"""Connections that are used again, and a breaker that all workers obey, against a scripted server."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from muskox import Rate
from muskox.apps.mail.breaker import BreakerRules, BreakerState, read_gate
from muskox.apps.mail.pool import Pooling, Smtp
from muskox.apps.mail.replies import Phase
from muskox.apps.mail.smtp import SmtpServer, Tls
from muskox.apps.mail.worlds import moment_now
from muskox.testing import FakeWorld, run_jobs
from tests.apps.conftest import QUICK, Post, post
from tests.apps.mail.test_smtp import Committing, envelope
from tests.apps.sink import DROP, sink


def pooled(port: int, world: FakeWorld, **pooling: float) -> Smtp:
    return Smtp(SmtpServer("127.0.0.1", port, tls=Tls.NONE, timeouts=QUICK), world, pooling=Pooling(**pooling))


def verbs(commands: list[str]) -> list[str]:
    return [line.split(" ")[0] for line in commands]


async def test_case_e30_one_refused_recipient_among_fifty_keeps_the_connection():
    async with sink() as server:
        server.script = lambda step, _line: "550 5.1.1 no" if step == "RCPT" and "u7@" in server.commands[-1] else None
        smtp = pooled(server.port, FakeWorld())

        replies = [await smtp.deliver(envelope(to=f"u{number}@example.org"), Committing()) for number in range(50)]

        assert [number for number, reply in enumerate(replies) if not reply.accepted] == [7]
        assert (server.connections, len(server.mails)) == (1, 49)
        # Only the refusal has left something to be dropped.
        assert verbs(server.commands).count("RSET") == 1
        await smtp.close()
        await server.until(lambda: "QUIT" in server.commands)


async def test_a_connection_carries_so_many_mails_and_no_more():
    async with sink() as server:
        smtp = pooled(server.port, FakeWorld(), messages=3)

        for _ in range(7):
            assert (await smtp.deliver(envelope(), Committing())).accepted

        assert server.connections == 3
        await smtp.close()


async def test_never_more_connections_than_allowed_are_open():
    async with sink() as server:
        smtp = pooled(server.port, FakeWorld(), connections=2)

        replies = await asyncio.gather(*(smtp.deliver(envelope(), Committing()) for _ in range(12)))

        assert all(reply.accepted for reply in replies)
        assert server.connections <= 2
        await smtp.close()


async def test_a_connection_is_closed_when_nobody_has_used_it_for_a_while():
    world = FakeWorld()
    async with sink() as server:
        smtp = pooled(server.port, world)
        await smtp.deliver(envelope(), Committing())
        assert smtp.connections == 1
        await asyncio.sleep(0)  # let the one begin who watches

        world.advance(31)

        await server.until(lambda: "QUIT" in server.commands)
        assert smtp.connections == 0
        await smtp.close()


async def test_an_idle_connection_is_asked_for_a_sign_of_life():
    world = FakeWorld()
    async with sink() as server:
        smtp = pooled(server.port, world, idle=1_000)
        await smtp.deliver(envelope(), Committing())
        world.advance(11)

        await smtp.deliver(envelope(), Committing())

        assert verbs(server.commands).count("NOOP") == 1
        assert server.connections == 1
        await smtp.close()


@pytest.mark.parametrize("answer", [DROP, "421 4.4.2 you were too slow"])
async def test_a_connection_that_has_gone_meanwhile_costs_the_mail_nothing(answer):
    async with sink() as server:
        smtp = pooled(server.port, FakeWorld())
        await smtp.deliver(envelope(), Committing())
        server.script = lambda step, line: answer if step == "MAIL" and line == 1 else None
        before_commit = Committing()

        reply = await smtp.deliver(envelope(), before_commit)

        assert reply.accepted
        assert (server.connections, len(server.mails), before_commit.times) == (2, 2, 1)
        await smtp.close()


async def test_a_server_that_says_more_than_it_was_asked_is_not_believed():
    async with sink() as server:
        smtp = pooled(server.port, FakeWorld())
        server.script = lambda step, line: "250 ok\r\n250 2.0.0 taken" if step == "RCPT" and line == 1 else None

        reply = await smtp.deliver(envelope(), Committing())

        assert (reply.phase, reply.accepted) == (Phase.DATA, False)
        assert server.mails == []
        assert smtp.connections == 0


async def test_a_wrong_password_is_tried_once_by_all_who_wait_for_a_connection():
    async with sink(extensions=["AUTH PLAIN"]) as server:
        server.answers(AUTH="535 5.7.8 wrong")
        settings = SmtpServer("127.0.0.1", server.port, tls=Tls.NONE, username="a", password="b", timeouts=QUICK)
        smtp = Smtp(settings, FakeWorld())

        replies = await asyncio.gather(*(smtp.deliver(envelope(), Committing()) for _ in range(4)))

        assert {(reply.phase, reply.code) for reply in replies} == {(Phase.AUTH, 535)}
        assert verbs(server.commands).count("AUTH") == 1


# --- the breaker ---


def gate_of(built: Post):
    with built.engine.connect() as connection:
        return read_gate(connection, "smtp")


async def let_time_pass(built: Post, world: FakeWorld, seconds: float, step: float = 5.0) -> None:
    """Run what is due in each step of the time that passes."""
    for _ in range(int(seconds / step)):
        world.advance(step)
        await run_jobs(built.ox)


async def test_case_e10_a_wrong_password_costs_no_attempt_and_no_mail(tmp_path):
    """Staged with 60 mails in place of 1 000; nothing in it depends on how many there are."""
    world = FakeWorld()
    login = {"username": "ada", "password": "x"}
    async with sink(extensions=["AUTH PLAIN"]) as server:
        server.answers(AUTH="535 5.7.8 wrong")
        async with post(
            tmp_path, port=server.port, worker=False, world=world, server=login, breaker=BreakerRules()
        ) as built:
            ids = [built.send(to=f"u{number}@example.org") for number in range(60)]

            await run_jobs(built.ox)
            await let_time_pass(built, world, 60)

            assert verbs(server.commands).count("AUTH") <= 6
            messages = [built.message(id) for id in ids]
            assert {(message.state, message.attempts) for message in messages} == {("queued", 0)}
            gate = gate_of(built)
            assert (gate.state, gate.reason) == (BreakerState.OPEN, "auth")

            server.answers(AUTH="235 2.7.0 welcome")
            await let_time_pass(built, world, 120, 20)

            assert {built.message(id).state for id in ids} == {"sent"}
            assert {built.message(id).attempts for id in ids} == {1}
            assert len(server.mails) == 60
            assert gate_of(built).closed


async def test_five_faults_in_a_row_open_the_breaker_and_a_probe_closes_it(tmp_path):
    world = FakeWorld()
    async with sink() as server:
        port = server.port
        server.script = lambda step, _line: DROP if step == "greeting" else None
        async with post(tmp_path, port=port, worker=False, world=world, breaker=BreakerRules()) as built:
            ids = [built.send(to=f"u{number}@example.org") for number in range(12)]

            await run_jobs(built.ox)

            states = [built.message(id).state for id in ids]
            assert (states.count("deferred"), states.count("queued")) == (5, 7)
            assert (gate_of(built).state, gate_of(built).reason) == (BreakerState.OPEN, "network")
            tries = server.connections
            world.advance(9)
            await run_jobs(built.ox)
            assert server.connections == tries

            server.script = lambda _step, _line: None
            world.advance(2)
            await run_jobs(built.ox)

            assert gate_of(built).closed
            assert verbs(server.commands)[:3] == ["EHLO", "NOOP", "QUIT"]
            assert [built.message(id).state for id in ids].count("sent") == 7


async def test_probes_come_after_10_20_40_seconds_up_to_300(tmp_path):
    world = FakeWorld()
    async with sink() as server:
        server.answers(greeting="554 go away")
        async with post(tmp_path, port=server.port, worker=False, world=world, breaker=BreakerRules()) as built:
            began, probes = world.now(), []
            while len(probes) < 8:
                built.send()
                before = server.connections
                await run_jobs(built.ox)
                assert server.connections == before + 1
                probes.append(round(world.now() - began))
                wait = (gate_of(built).next_probe_at - moment_now(world)).total_seconds()
                world.advance(wait + 0.01)

            assert [later - earlier for earlier, later in itertools.pairwise(probes)] == [10, 20, 40, 80, 160, 300, 300]


async def test_a_sender_that_is_refused_ten_times_in_a_row_opens_the_breaker(tmp_path):
    world = FakeWorld()
    async with sink() as server:
        server.answers(MAIL="550 5.7.1 not you")
        async with post(tmp_path, port=server.port, worker=False, world=world, breaker=BreakerRules()) as built:
            ids = [built.send(to=f"u{number}@example.org") for number in range(14)]

            await run_jobs(built.ox)

            states = [built.message(id).state for id in ids]
            assert (states.count("failed"), states.count("queued")) == (10, 4)
            assert gate_of(built).reason == "sender"


async def test_case_e38_a_line_that_cannot_be_protected_opens_the_breaker(tmp_path):
    world = FakeWorld()
    async with sink() as server:
        protected = {"tls": Tls.STARTTLS}
        async with post(
            tmp_path, port=server.port, worker=False, world=world, server=protected, breaker=BreakerRules()
        ) as built:
            id = built.send()

            await run_jobs(built.ox)

            message = built.message(id)
            assert (message.state, message.reason) == ("deferred", "tls")
            assert gate_of(built).reason == "tls"
            assert "MAIL" not in verbs(server.commands)


async def test_the_rate_of_a_transport_holds_over_all_queues(tmp_path):
    world = FakeWorld()
    async with sink() as server:
        delivery = {"rate": Rate(2, per=1)}
        async with post(tmp_path, port=server.port, worker=False, world=world, delivery=delivery) as built:
            ids = [built.send(kind=kind) for kind in ("welcome", "password_reset", "newsletter") * 4]
            sent = []
            for _ in range(40):
                await run_jobs(built.ox)
                sent.append(len(server.mails))
                world.advance(0.25)

            assert sent[-1] == 12
            # Four steps are a second, in which two may start.
            assert max(later - earlier for earlier, later in zip(sent, sent[4:], strict=False)) <= 2
            assert {built.message(id).attempts for id in ids} == {1}
